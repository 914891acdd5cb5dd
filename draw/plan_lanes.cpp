#include "draw/plan_lanes.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "core/error.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr std::int64_t most_detailed_items = 1200;  // a rectangle with a tooltip takes 150 bytes
constexpr double most_bars = 30000;          // of 25 bytes each: the file stays below a megabyte
constexpr std::int32_t most_named_requests = 16;
constexpr Rgb idle = rule;

double cost_of(std::span<const float> work_cost, std::int64_t work) {
  const double cost = work_cost[static_cast<std::size_t>(work)];
  return std::isfinite(cost) && cost > 0 ? cost : 0;
}

// visit(part, work, cost) for all that a CTA does.
template <class Visit>
void for_each_work_of(const Plan& plan, std::span<const float> work_cost, std::int32_t cta, Visit&& visit) {
  std::int64_t first = 0;  // of the part, in work_cost
  for (const PlanPart& part : plan.parts) {
    const auto c = static_cast<std::size_t>(cta);
    for (std::int32_t q = part.queue_indptr[c]; q < part.queue_indptr[c + 1]; ++q) {
      const std::int32_t work = part.queue[static_cast<std::size_t>(q)];
      visit(part, work, cost_of(work_cost, first + work));
    }
    first += part.num_work();
  }
}

void check(const Plan& plan, std::span<const float> work_cost, std::int32_t ctas_per_sm) {
  require(std::ssize(work_cost) == plan.num_work(), "work_cost", work_cost.size(), "must hold one cost for each work item");
  require(plan.num_ctas() >= 1, "num_ctas", plan.num_ctas(), "must be at least 1");
  require(ctas_per_sm >= 1, "ctas_per_sm", ctas_per_sm, "must be at least 1");
  for (const PlanPart& part : plan.parts) {
    const auto& indptr = part.queue_indptr;
    const bool rises = indptr.size() == plan.cta_cost.size() + 1 && indptr[0] == 0 && std::ranges::is_sorted(indptr);
    require(rises && indptr.back() == std::ssize(part.queue), "queue_indptr", indptr.size(),
            "must rise from 0 to the length of queue, an entry for each CTA");
    for (const std::int32_t work : part.queue) {
      require(work >= 0 && work < part.num_work(), "queue", work, "must be the index of a work item");
    }
  }
}

// Heights in pixels. Lanes get thinner as they get more: 264 of them fill a screen and are still told apart.
struct LaneHeights {
  std::int32_t num_ctas, ctas_per_sm;
  double pitch, gap, sm_gap;

  LaneHeights(std::int32_t num_ctas_, std::int32_t ctas_per_sm_)
      : num_ctas(num_ctas_), ctas_per_sm(ctas_per_sm_), pitch(std::clamp(std::floor(840.0 / num_ctas_), 3.0, 22.0)),
        gap(pitch >= 8 ? 2 : pitch >= 5 ? 1 : 0.5), sm_gap(ctas_per_sm_ == 1 ? 0 : pitch >= 8 ? 6 : 1) {}
  bool thin() const { return pitch < 8; }  // a hatch and 24 colours would be noise
  double y(std::int32_t cta) const { return cta * pitch + cta / ctas_per_sm * sm_gap; }
  double total() const { return y(num_ctas - 1) + pitch; }
};

struct Panel {
  Box box;
  double time_end;  // of the axis
  double x(double time) const { return box.x + time / time_end * box.width; }
};

Rgb colour_of(std::int32_t request, bool thin) { return category(thin ? request % 8 : request); }
std::string name_of(std::int32_t request, RequestNames names) {
  return names == RequestNames::letters ? std::string(1, static_cast<char>('A' + request)) : std::to_string(request);
}
Paint partial_of(Canvas& canvas, Rgb colour, bool thin) {
  return thin ? Paint(mix(colour, paper, 0.6)) : canvas.hatch(colour);
}

// With few items each bar is a rectangle that says what it is; with many, the bars of one paint share a path.
class Bars {
 public:
  Bars(Canvas& canvas, bool detailed, bool thin, RequestNames names)
      : canvas_(canvas), detailed_(detailed), thin_(thin), names_(names) {}

  void add(Box box, const WorkItem& item) {
    const Rgb colour = colour_of(item.request, thin_);
    const Paint paint = item.whole() ? colour : partial_of(canvas_, colour, thin_);
    if (detailed_) {
      canvas_.rect(box, {.fill = paint}, to_string(item) + (item.whole() ? "" : " partial"));
      write_name(box, item, colour);
    } else {
      add(box, paint);
    }
  }
  void add(Box box, const Paint& paint) {
    const std::string width = number(box.width), back = number(-box.width);
    const std::string corner = number(box.x) + " " + number(box.y);
    paths_[paint.css] += "M" + corner + "h" + width + "v" + number(box.height) + "h" + back + "z";
  }
  void finish() {
    for (const auto& [css, d] : paths_) {
      Style style;
      style.fill.css = css;
      canvas_.path(d, style);
    }
  }

 private:
  // Where it fits; on a hatch it needs a plate to be read.
  void write_name(Box box, const WorkItem& item, Rgb colour) {
    const std::string name = (names_ == RequestNames::numbers ? "r" : "") + name_of(item.request, names_) + " h" +
                             std::to_string(item.head);
    const double width = text_width(name, 10);
    if (box.height < 14 || width + 6 > box.width) return;
    const Rgb behind = item.whole() ? colour : mix(colour, paper, 0.65);
    const Point middle = box.centre();
    if (!item.whole()) canvas_.rect({middle.x - width / 2, box.y + 2, width, box.height - 4}, {.fill = behind});
    canvas_.text({middle.x, middle.y + 3.5}, name, {.size = 10, .anchor = Anchor::middle, .colour = ink_on(behind)});
  }

  Canvas& canvas_;
  bool detailed_, thin_;
  RequestNames names_;
  std::map<std::string, std::string> paths_;
};

// Items too narrow to see are drawn together with their successors in the lane, in the colour of the first. What is left of
// the lane up to its right edge is idle.
void draw_lane(Bars& bars, const Panel& panel, const Plan& plan, std::span<const float> work_cost, std::int32_t cta,
               Box lane) {
  const double items = static_cast<double>(plan.num_work());
  const double narrowest = std::min(items, most_bars) < items ? panel.box.width * plan.num_ctas() / most_bars : 0;
  double begin = 0, time = 0;
  std::optional<WorkItem> first;
  const auto finish = [&] {
    const double width = panel.x(time) - panel.x(begin), seam = width > 4 ? 0.8 : width * 0.15;
    if (first) bars.add({panel.x(begin), lane.y, width - seam, lane.height}, *first);
    begin = time;
    first.reset();
  };
  for_each_work_of(plan, work_cost, cta, [&](const PlanPart& part, std::int32_t work, double cost) {
    if (!first) first = part.work(work);
    time += cost;
    if (panel.x(time) - panel.x(begin) >= narrowest) finish();
  });
  finish();
  if (panel.x(time) < lane.right()) bars.add({panel.x(time), lane.y, lane.right() - panel.x(time), lane.height}, idle);
}

void draw_panel(Canvas& canvas, const Panel& panel, const Plan& plan, std::span<const float> work_cost,
                const LaneHeights& lanes, bool detailed, RequestNames names) {
  const LaneSummary summary = summarize_lanes(plan, work_cost);
  const double mean = panel.x(summary.makespan * summary.utilisation), end = panel.x(summary.makespan);
  Bars bars(canvas, detailed, lanes.thin(), names);
  for (std::int32_t cta = 0; cta < plan.num_ctas(); ++cta) {
    const Box lane{panel.box.x, panel.box.y + lanes.y(cta), end - panel.box.x, lanes.pitch - lanes.gap};
    draw_lane(bars, panel, plan, work_cost, cta, lane);
  }
  bars.finish();
  const double top = panel.box.y - 5, bottom = panel.box.y + lanes.total() + 5;
  canvas.line({mean, top}, {mean, bottom}, {.stroke = ink, .width = 1.5, .dashed = true});
  canvas.line({end, top}, {end, bottom}, {.stroke = ink, .width = 1.5});
  const int most_ticks = std::min(static_cast<int>(panel.box.width / 38), 10);
  for (const double tick : ticks_up_to(panel.time_end, most_ticks)) {
    canvas.line({panel.x(tick), bottom}, {panel.x(tick), bottom + 4}, {.stroke = muted});
    canvas.text({panel.x(tick), bottom + 16}, label(tick), {.size = 11, .anchor = Anchor::middle, .colour = muted});
  }
}

void draw_sm_names(Canvas& canvas, double right, double top, const LaneHeights& lanes) {
  const double sm_height = lanes.ctas_per_sm * lanes.pitch + lanes.sm_gap;
  const std::int32_t step = sm_height >= 12 ? 1 : 10;
  for (std::int32_t cta = 0, sm = 0; cta < lanes.num_ctas; cta += step * lanes.ctas_per_sm, sm += step) {
    const double y = top + lanes.y(cta) + (step == 1 ? (sm_height - lanes.sm_gap) / 2 : lanes.pitch);
    canvas.text({right, y + 4}, "SM " + std::to_string(sm), {.size = 11, .anchor = Anchor::end, .colour = muted});
  }
}

std::vector<LegendEntry> legend_of(Canvas& canvas, std::int32_t batch, bool thin, RequestNames names) {
  std::vector<LegendEntry> entries;
  const std::int32_t colours = thin ? 8 : num_categories, named = std::min(batch, thin ? 8 : most_named_requests);
  for (std::int32_t r = 0; r < named; ++r) entries.push_back({colour_of(r, thin), "request " + name_of(r, names)});
  if (batch > named) entries.push_back({{}, "and so on, every " + std::to_string(colours)});
  entries.push_back({partial_of(canvas, ink, thin), (thin ? "pale" : "hatched") + std::string(": partial, merged later")});
  entries.push_back({idle, "idle"});
  entries.push_back({{}, "dashed line: perfect balance"});
  return entries;
}

std::string sizes(const Plan& plan) {
  std::int64_t partials = 0;
  for (const PlanPart& part : plan.parts) {
    partials += part.copies * std::ranges::count_if(part.items, [](const WorkItem& item) { return !item.whole(); });
  }
  const std::string items = counted(plan.num_work(), "item");
  if (partials == 0) return items + ", no partials";
  return items + ", " + counted(partials, "partial") + " joined by " + counted(plan.num_merges(), "merge");
}

}  // namespace

LaneSummary summarize_lanes(const Plan& plan, std::span<const float> work_cost) {
  check(plan, work_cost, 1);
  double total = 0, longest = 0;
  for (std::int32_t cta = 0; cta < plan.num_ctas(); ++cta) {
    double lane = 0;
    for_each_work_of(plan, work_cost, cta, [&](const PlanPart&, std::int32_t, double cost) { lane += cost; });
    total += lane;
    longest = std::max(longest, lane);
  }
  if (!(longest > 0)) return {};
  const double mean = total / plan.num_ctas();
  return {longest, mean / longest, longest - mean};
}

Svg plan_lanes(const Plan& plan, std::span<const float> work_cost, std::int32_t ctas_per_sm, const std::string& title) {
  check(plan, work_cost, ctas_per_sm);
  const LaneSummary summary = summarize_lanes(plan, work_cost);
  const LaneHeights lanes(plan.num_ctas(), ctas_per_sm);
  constexpr double left = margin + 50, inner = 800, width = left + inner + margin;
  const std::string note = counted(plan.num_ctas(), "CTA") + " on " + counted(div_up(plan.num_ctas(), ctas_per_sm), "SM") +
                           "; " + sizes(plan) + ". Makespan " + label(summary.makespan) + ", utilisation " +
                           percent(summary.utilisation) + ", tail " + label(summary.tail) + ".";
  Canvas canvas;
  const double top = draw_caption(canvas, {title, note}, width);
  const Panel panel{{left, top, inner, lanes.total()}, summary.makespan > 0 ? summary.makespan : 1};
  draw_panel(canvas, panel, plan, work_cost, lanes, plan.num_work() <= most_detailed_items, RequestNames::numbers);
  draw_sm_names(canvas, left - 8, top, lanes);
  canvas.text({left + inner / 2, top + lanes.total() + 38}, "predicted cost, key-equivalents",
              {.anchor = Anchor::middle, .colour = muted});
  const auto legend = legend_of(canvas, plan.batch, lanes.thin(), RequestNames::numbers);
  const double end = draw_legend(canvas, {left, top + lanes.total() + 52}, inner, legend);
  return canvas.finish(width, end + margin - 6, title);
}

Svg policies_picture(std::span<const PolicyLanes> policies, std::int32_t ctas_per_sm, const Caption& caption,
                     RequestNames names) {
  require(!policies.empty(), "policies", policies.size(), "must name at least one plan");
  double time_end = 0;
  std::int64_t items = 0;
  std::int32_t most_ctas = 1, batch = 0;
  for (const PolicyLanes& p : policies) {
    check(*p.plan, p.work_cost, ctas_per_sm);
    time_end = std::max(time_end, summarize_lanes(*p.plan, p.work_cost).makespan);
    items += p.plan->num_work();
    most_ctas = std::max(most_ctas, p.plan->num_ctas());
    batch = std::max(batch, p.plan->batch);
  }
  if (batch > 26) names = RequestNames::numbers;
  const double count = static_cast<double>(policies.size()), gap = 28, left = margin + 50;
  const double inner = std::clamp((1080 - gap * (count - 1)) / count, 190.0, 420.0);
  const double width = left + count * inner + (count - 1) * gap + margin + 10;

  Canvas canvas;
  const double top = draw_caption(canvas, caption, width) + 62;
  const LaneHeights tallest(most_ctas, ctas_per_sm);
  Panel panel{{left, top, inner, tallest.total()}, time_end > 0 ? time_end : 1};
  draw_sm_names(canvas, left - 8, top, tallest);
  for (const PolicyLanes& p : policies) {
    const LaneSummary summary = summarize_lanes(*p.plan, p.work_cost);
    canvas.text({panel.box.x, top - 50}, p.name, {.size = 13, .bold = true});
    const std::string merges = counted(p.plan->num_merges(), "merge");
    const std::string counts = counted(p.plan->num_work(), "item") + ", " + merges;
    const std::string use = "makespan " + label(summary.makespan) + ", " + percent(summary.utilisation) + " used";
    canvas.text({panel.box.x, top - 34}, counts, {.size = 11, .colour = muted});
    canvas.text({panel.box.x, top - 18}, use, {.size = 11, .colour = muted});
    draw_panel(canvas, panel, *p.plan, p.work_cost, tallest, items <= most_detailed_items, names);
    panel.box.x += inner + gap;
  }
  const auto legend = legend_of(canvas, batch, tallest.thin(), names);
  const double end = draw_legend(canvas, {left, top + tallest.total() + 40}, width - left - margin, legend);
  return canvas.finish(width, end + margin - 6, caption.title);
}

}  // namespace flashladder::draw
