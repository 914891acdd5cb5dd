// Rates as points: the roofline, and rates over lengths and batches.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "bench/report/case_shape.hpp"
#include "bench/report/pictures.hpp"
#include "bench/report/targets.hpp"
#include "draw/text.hpp"
#include "draw/xy_chart.hpp"

namespace flashladder::bench {
namespace {

using draw::XyPoint;
using draw::XySeries;

// Families whose lines are of one kind of timer: a graph's lines are not drawn beside those of single runs.
bool is_attention(const Work& w) {
  return w.family != "graph" && (kind_of(w) == Kind::decode || kind_of(w) == Kind::prefill);
}

std::string tooltip(const Work& w, double rate, const char* unit) {
  return w.backend + ", " + w.work + ": " + draw::label(rate) + " " + unit;
}

// One series a backend; those of others are rings, plug-ins squares.
class ByBackend {
 public:
  explicit ByBackend(const Colours& colours) : colours_(colours) {}

  void add(const Work& w, XyPoint point, bool joined) {
    const std::string name = shown_as(w);
    const auto at = index_.find(name);
    if (at == index_.end()) {
      index_[name] = series_.size();
      series_.push_back({.name = name, .colour = colours_.at(name), .points = {}, .joined = joined,
                         .hollow = !w.ours() && !w.plugin(), .square = w.plugin()});
    }
    series_[index_[name]].points.push_back(std::move(point));
  }
  const std::vector<XySeries>& series() const { return series_; }

  // Without those of one x: a point is no curve.
  std::vector<XySeries> curves() const {
    std::vector<XySeries> curves;
    for (const XySeries& s : series_) {
      const auto differs = [&](const XyPoint& p) { return p.x != s.points.front().x; };
      if (std::any_of(s.points.begin(), s.points.end(), differs)) curves.push_back(s);
    }
    return curves;
  }

 private:
  const Colours& colours_;
  std::map<std::string, std::size_t> index_;
  std::vector<XySeries> series_;
};

// most_y: without a GEMM the memory's ceiling is drawn up to there, a little above the points.
std::vector<draw::XyRoof> roofs_of(const Lines& lines, double least_x, double most_x, double most_y) {
  const Ceilings c = ceilings_of(lines);
  const RateUnits units = units_of(lines);
  std::vector<draw::XyRoof> roofs;
  const std::optional<double> measured = c.gemm != nullptr ? c.gemm->tera_flops : std::nullopt;
  const double flops = measured.value_or(lines.computed_tera_flops().value_or(0)) * units.factor;
  for (const auto& [name, work] : {std::pair{"read", c.read}, {"copy", c.copy}}) {
    if (work == nullptr) continue;
    const double bytes = *work->tera_bytes_per_s * units.factor;
    const double end = std::min(most_x, (flops > 0 ? flops : most_y) / bytes);
    if (end <= least_x) continue;
    roofs.push_back({std::string(name) + " " + draw::label(bytes) + " " + units.bytes,
                     {{least_x, least_x * bytes}, {end, end * bytes}}});
    break;  // both lie within a line's width of each other; the table has both
  }
  if (flops > 0) {
    const double from = c.memory() != nullptr ? flops / (*c.memory()->tera_bytes_per_s * units.factor) : least_x;
    roofs.push_back({(measured ? "GEMM " : "computed, not measured: ") + draw::label(flops) + " " + units.flops,
                     {{std::min(from, most_x), flops}, {std::max(from, most_x), flops}}});
  }
  return roofs;
}

struct Axis {
  double x = 0;
  std::string fixed;  // equal for works that differ in x alone
};

Axis axis_of(const Work& w, Over what) {
  const CaseShape s = shape_of(w);
  const auto text = [](double n) { return draw::number(n); };
  switch (what) {
    case Over::decode_kv_len: return {s.kv_len, s.batch > 0 ? s.rest + ", batch " + text(s.batch) : ""};
    case Over::decode_batch: return {s.batch, s.kv_len > 0 ? s.rest + ", kv_len " + text(s.kv_len) : ""};
    case Over::prefill_length: return {s.kv_len == s.qo_len ? s.kv_len : 0, s.rest};
  }
  return {};
}

bool belongs(const Work& w, Over what) {
  const Kind kind = what == Over::prefill_length ? Kind::prefill : Kind::decode;
  const Axis axis = axis_of(w, what);
  const bool one_case_of_every_rung = w.family == "prefill-ladder";  // has a picture of its own
  return is_attention(w) && !one_case_of_every_rung && kind_of(w) == kind && axis.x > 0 && !axis.fixed.empty();
}

// Of the sets of works that differ in x alone, the one with most different x; of equals the one with most works.
std::string largest_set(const Lines& lines, Over what) {
  std::map<std::string, std::pair<std::set<double>, int>> sets;
  for (const Work& w : lines.works) {
    if (!belongs(w, what)) continue;
    const Axis axis = axis_of(w, what);
    sets[axis.fixed].first.insert(axis.x);
    ++sets[axis.fixed].second;
  }
  std::string best;
  std::pair<std::size_t, int> most{1, 0};  // one length alone is no curve
  for (const auto& [fixed, set] : sets) {
    const std::pair size{set.first.size(), set.second};
    if (set.first.size() >= 2 && size > most) most = size, best = fixed;
  }
  return best;
}

}  // namespace

RateUnits units_of(const Lines& lines) { return lines.on_gpu() ? RateUnits{} : RateUnits{1e3, "GB/s", "GFLOP/s"}; }

Colours colours_of(const Lines& lines) {
  Colours colours;
  std::int64_t ours = 0, others = 16;  // the palette's dark third: rings are thin
  for (const Work& w : lines.works) {
    if (!is_attention(w) || colours.contains(shown_as(w))) continue;
    colours[shown_as(w)] = draw::category(w.ours() ? ours++ : others++);
  }
  return colours;
}

draw::Svg roofline_picture(const Lines& lines, const Colours& colours) {
  const RateUnits units = units_of(lines);
  ByBackend all(colours);
  double least_x = 0, most_x = 0, most_y = 0;
  for (const Work& w : lines.works) {
    const auto x = intensity_of(w), y = tera_flops_of(w);
    if (!is_attention(w) || !x || !y || !is_fastest(lines, w)) continue;
    all.add(w, {*x, *y * units.factor, tooltip(w, *y * units.factor, units.flops)}, false);
    least_x = least_x == 0 ? *x : std::min(least_x, *x);
    most_x = std::max(most_x, *x);
    most_y = std::max(most_y, *y * units.factor);
  }
  if (all.series().empty()) return {};
  return draw::xy_chart(all.series(), {.caption = {.title = "Roofline"},
                                       .x = {"FLOP for each byte of K and V", true, {}},
                                       .y = {units.flops, true, {}},
                                       .roofs = roofs_of(lines, least_x / 1.3, most_x * 1.3, most_y * 2)});
}

draw::Svg rates_over(const Lines& lines, Over what, const Colours& colours) {
  const std::string fixed = largest_set(lines, what);
  if (fixed.empty()) return {};
  const RateUnits units = units_of(lines);
  const bool prefill = what == Over::prefill_length;
  ByBackend all(colours);
  std::set<double> ticks;
  double least_x = 0;
  for (const Work& w : lines.works) {
    const std::optional<double> rate = prefill ? w.tera_flops : w.tera_bytes_per_s;
    if (!belongs(w, what) || axis_of(w, what).fixed != fixed || !rate || !is_fastest(lines, w)) continue;
    const double x = axis_of(w, what).x, y = *rate * units.factor;
    all.add(w, {x, y, tooltip(w, y, prefill ? units.flops : units.bytes)}, true);
    ticks.insert(x);
    least_x = *ticks.begin();
  }
  const std::vector<XySeries> curves = all.curves();
  if (curves.empty()) return {};
  const Ceilings c = ceilings_of(lines);
  const Work* ceiling = prefill ? c.gemm : c.memory();
  std::vector<draw::XyRoof> roofs;
  if (ceiling != nullptr) {
    const double y = (prefill ? *ceiling->tera_flops : *ceiling->tera_bytes_per_s) * units.factor;
    roofs.push_back({prefill ? "GEMM" : ceiling == c.read ? "read" : "copy", {{least_x, y}, {*ticks.rbegin(), y}}});
  }
  const char* x = what == Over::decode_batch ? "requests" : prefill ? "queries and keys of a request" : "kv_len";
  const std::string title = std::string(prefill ? "Prefill over sequence length: " : what == Over::decode_batch
                                                    ? "Decode over batch: " : "Decode over kv_len: ") + fixed;
  return draw::xy_chart(curves, {.caption = {.title = title}, .x = {x, true, {ticks.begin(), ticks.end()}},
                                 .y = {prefill ? units.flops : units.bytes, false, {}}, .roofs = roofs});
}

}  // namespace flashladder::bench
