#include "cli/climb_page.hpp"

#include <algorithm>
#include <cmath>

#include "cli/attention_weights.hpp"
#include "cli/console.hpp"
#include "cli/lanes.hpp"
#include "core/error.hpp"
#include "draw/bar_chart.hpp"
#include "draw/heatmap.hpp"
#include "draw/html.hpp"
#include "draw/page_table_picture.hpp"
#include "draw/text.hpp"
#include "ladder/cases/input/json.hpp"
#include "planner/planner.hpp"

namespace flashladder::cli {
namespace {

using draw::HtmlPage;
using ladder::Case;

// What a real case says of its tokens: the note x-tokens, a JSON list of texts. Empty if there is none of that length.
std::vector<std::string> token_texts(const Case& c) {
  const auto note = c.notes.find("x-tokens");
  if (note == c.notes.end() || c.spec.batch() == 0) return {};
  ladder::Json json;
  try {
    json = ladder::parse_json(note->second, "x-tokens", 1);
  } catch (const InputError&) {  // a note may say anything
  }
  if (json.list() == nullptr) return {};
  std::vector<std::string> texts;
  for (const ladder::Json& token : *json.list()) {
    if (token.text() == nullptr) return {};
    texts.push_back(*token.text() == "\n" ? "\\n" : *token.text());
  }
  return static_cast<std::int32_t>(texts.size()) == c.spec.kv_lens[0] ? texts : std::vector<std::string>{};
}

// "C4 on 2 threads, the others on one"
std::string threads_text(const Climb& climb) {
  std::string parallel, plugins;
  for (const Step& s : climb.steps) {
    if (s.rung->parallel) parallel += (parallel.empty() ? "" : ", ") + s.rung->name;
    if (s.plugin) plugins += ", " + s.rung->name + " on as many as it takes";
  }
  return parallel + " on " + counted(climb.settings.thread_count(), "thread") + plugins + ", the others on one";
}

void add_origin(HtmlPage& page, const Case& c) {
  const auto model = c.notes.find("x-model"), layer = c.notes.find("x-layer"), prompt = c.notes.find("x-prompt");
  if (model == c.notes.end() || layer == c.notes.end() || prompt == c.notes.end()) return;
  constexpr std::size_t most = 240;
  page.paragraph("Q, K and V are what layer " + layer->second + " of `" + model->second +
                 "` hands to attention while it reads: \u201c" +
                 prompt->second.substr(0, prompt->second.rfind(' ', most)) + " ...\u201d");
}

// Times of which the shortest would be a sliver beside the longest on an axis that begins at 0.
bool far_apart(const std::vector<Step>& steps) {
  constexpr double most_times = 25;
  const auto [fastest, slowest] = std::ranges::minmax_element(steps, {}, &Step::milliseconds);
  return fastest != steps.end() && slowest->milliseconds > most_times * fastest->milliseconds;
}

void add_ladder(HtmlPage& page, const Climb& climb) {
  page.section("The ladder");
  add_origin(page, *climb.of);
  page.paragraph("Every rung computes the same function. Each adds one idea to the rung below and must give what that rung "
                 "gives; the lowest is the formula itself, in double precision.");
  std::vector<std::vector<std::string>> rows;
  std::vector<draw::Bar> times, errors;
  for (const Step& s : climb.steps) {
    const ladder::Worst& worst = s.worst();
    const std::string speed_up = short_number(climb.steps[0].milliseconds / s.milliseconds) + "x";
    rows.push_back({s.rung->name, s.rung->idea, s.rung->must_equal.empty() ? "the formula" : s.rung->must_equal,
                    short_number(worst.error), short_number(worst.tolerance), milliseconds(s.milliseconds), speed_up,
                    name_of(s.verdict())});
    times.push_back({s.rung->name, {s.milliseconds * 1e-3}, speed_up});
    errors.push_back({s.rung->name, {100 * s.agreement.ratio()}});
  }
  page.table({"rung", "idea", "must equal", "worst error", "tolerance", "time", "speed-up", ""}, rows);
  for (const std::string& failed : climb.failed) page.paragraph("Not on the ladder: " + failed);
  if (!climb.steps.empty() && climb.steps[0].has_expected) {
    double worst = 0;
    for (const Step& s : climb.steps) worst = std::max(worst, s.expected.ratio());
    page.paragraph("The case file also says what the answer should be: the rungs differ from it by " + draw::percent(worst) +
                   " of the tolerance, at worst.");
  }
  const bool logarithmic = far_apart(climb.steps);
  page.figure(draw::bar_chart(times, {.caption = {.title = "Time of one run"}, .unit = "s", .logarithmic = logarithmic}),
              "Median of " + counted(climb_rounds, "run") + " on this machine: " + threads_text(climb) + "." +
              (logarithmic ? " The axis is logarithmic." : ""));
  page.figure(draw::bar_chart(errors, {.caption = {.title = "Worst error, in percent of the tolerance"}, .unit = "%"}),
              "The tolerance is derived from the case: twice the error that the plain formula makes in float, plus a bound "
              "on rounding. A rung fails above 100 %.");
}

draw::Svg part_of_map(const std::vector<float>& weights, std::int32_t kv_len, Range tokens,
                      const std::vector<std::string>& names, const std::string& title) {
  std::vector<float> part;
  for (std::int32_t i = tokens.begin; i < tokens.end; ++i) {
    const auto row = weights.begin() + std::int64_t{i} * kv_len;
    part.insert(part.end(), row + tokens.begin, row + tokens.end);
  }
  std::vector<std::string> labels;
  if (!names.empty()) labels.assign(names.begin() + tokens.begin, names.begin() + tokens.end);
  return draw::heatmap(tokens.size(), tokens.size(), part,
                       {.caption = {.title = title}, .row_labels = labels, .column_labels = labels,
                        .scale = draw::ColourScale::square_root});
}

// Measured, so that the picture's text can't claim what is not there: mean weights over the rows from the 32nd on, when a
// query has keys to choose from.
std::string shares_text(const std::vector<float>& weights, std::int32_t queries, std::int32_t keys) {
  constexpr std::int32_t warm = 32;
  if (queries <= warm || queries != keys) return "";
  const auto weight = [](float x) { return std::isnan(x) ? 0.0 : double{x}; };  // NaN: a key that is hidden
  double first = 0, before = 0, self = 0;
  for (std::int32_t i = warm; i < queries; ++i) {
    const float* row = &weights[static_cast<std::size_t>(i) * keys];
    first += weight(row[0]);
    before += weight(row[i - 1]);
    self += weight(row[i]);
  }
  const double n = queries - warm;
  return " Of a row's weight, on average " + draw::percent(first / n) + " is on the first token, " +
         draw::percent(before / n) + " on the token before, " + draw::percent(self / n) + " on the token itself.";
}

void add_heads(HtmlPage& page, const Climb& climb) {
  page.section("What heads look at");
  page.paragraph("A row is a query, a column a key, the colour the weight that the softmax gives: what naive attention "
                 "holds as a matrix, and what the rungs above C0 never hold at once. The upper right is blank: a causal "
                 "query sees no later key.");
  for (const HeadPicture& h : climb.heads) {
    const Case& c = *h.of;
    const std::vector<float> weights = attention_weights(c.problem(), 0, h.qo_head);
    const std::vector<std::string> names = token_texts(c);
    const bool square = c.spec.qo_lens[0] == c.spec.kv_lens[0];
    page.figure(draw::heatmap(c.spec.qo_lens[0], c.spec.kv_lens[0], weights,
                              {.caption = {.title = h.title}, .row_labels = square ? names : std::vector<std::string>{},
                               .column_labels = names, .scale = draw::ColourScale::square_root}),
                h.text + shares_text(weights, c.spec.qo_lens[0], c.spec.kv_lens[0]));
    if (h.zoom.empty() || h.zoom.end > c.spec.qo_lens[0] || !square) continue;
    page.figure(part_of_map(weights, c.spec.kv_lens[0], h.zoom, names, h.title + ", tokens " + std::to_string(h.zoom.begin) +
                            " to " + std::to_string(h.zoom.end - 1)), "The same head, close enough to read the tokens.");
  }
}

void add_pages(HtmlPage& page, const Climb& climb) {
  const Case& c = *climb.of;
  const AttentionProblem problem = c.problem();
  page.section("Where the keys lie");
  page.paragraph("The cache is a pool of pages of " + counted(problem.kv.page_size, "token") + ". Token t of a request lies "
                 "in page `indices[indptr[request] + t / page_size]`, entry `t % page_size`. C0 to C2 gather a request's "
                 "pages first; from C3 on K and V are read where they lie. The slots that no token uses hold NaN: a rung "
                 "that read one would show it.");
  const auto held = std::ssize(c.paged_kv_indices);  // more than the pool has, where requests share pages
  if (std::max<std::int64_t>(problem.kv.num_pages, held) > draw::max_drawn_pages) {
    page.paragraph("This pool has " + counted(problem.kv.num_pages, "page") + ", and the requests hold " +
                   std::to_string(held) + ": too many to draw.");
    return;
  }
  const draw::Caption caption{.title = "The page table of " + c.spec.name};
  page.figure(draw::page_table_picture(problem.page_table(), problem.kv.num_pages, caption),
              "Logical pages in token order, on the left, and where the page table sends them.");
}

void add_plan(HtmlPage& page, const Climb& climb) {
  const planner::PlanInputs inputs = ladder::cpu_plan_inputs(climb.of->spec, climb.settings);
  page.section("Who computes what");
  page.paragraph("C4 executes a plan: a list of work items, each a tile of query rows against a range of keys, in a queue "
                 "for each thread. The planner makes it beforehand from the lengths alone; its unit of cost is one key read "
                 "by one tile.");
  const std::vector<NamedPlan> one{{inputs.policy, planner::make_plan(inputs)}};
  page.figure(lanes_picture(one, inputs, "The plan that C4 executed, policy " + std::string(name_of(inputs.policy))),
              "One lane a thread. Hatched items leave partial results, which a merge joins by their lse.");
  if (climb.served.empty()) return;
  const AttentionParams& p = climb.of->spec.params;
  planner::PlanInputs served{.kv_lens = climb.served, .num_qo_heads = p.num_qo_heads, .num_kv_heads = p.num_kv_heads,
                             .head_dim_qk = p.head_dim_qk, .head_dim_vo = p.head_dim_vo, .chunk_size = 1024,
                             .machine = {.num_sms = 16, .ctas_per_sm = 2}};
  const std::vector<NamedPlan> all = plans_of_all_policies(served);
  page.paragraph("What a plan is good for shows in a ragged batch: " + counted(std::ssize(climb.served), "request") +
                 " of a real chat service, caught while they decode, on a small GPU of 16 SMs with two CTAs each.");
  page.figure(lanes_picture(all, served, "The same batch by every policy"),
              "Grey is a CTA with nothing left to do. Makespan and tail in the table are in key-equivalents; chunk 0: not "
              "cut.");
  std::vector<std::vector<std::string>> rows;
  for (const NamedPlan& named : all) {
    if (named.refused.empty()) rows.push_back(policy_row(named));
  }
  page.table(policy_header, rows);
}

}  // namespace

std::string climb_page(const Climb& climb) {
  HtmlPage page("FlashLadder: the climb",
                climb.of->spec.name + ", `" + case_string(climb.of->spec) + "`, from `" + climb.file + "`");
  add_ladder(page, climb);
  if (!climb.heads.empty()) add_heads(page, climb);
  add_pages(page, climb);
  add_plan(page, climb);
  return page.str();
}

}  // namespace flashladder::cli
