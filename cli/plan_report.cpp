#include "cli/plan_report.hpp"

#include <algorithm>
#include <cstdio>

#include "planner/planner.hpp"

namespace flashladder::cli {
namespace {

using ladder::Json;

template <class... Args>
std::string format(const char* form, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, form, args...);
  return text;
}

// [512, 1024]; of a long list the first eight: [512, ...]...
std::string first_eight(const std::vector<std::int32_t>& lens) {
  std::string text = "[";
  for (std::size_t i = 0; i < std::min<std::size_t>(lens.size(), 8); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(lens[i]);
  }
  return text + (lens.size() > 8 ? "]..." : "]");
}

std::string tier_lines(const planner::PlanSummary& s) {
  std::string text = "  Tier distribution:\n";
  for (std::size_t t = 0; t < s.tier_counts.size(); ++t) {
    const double share = s.items == 0 ? 0 : 100.0 * static_cast<double>(s.tier_counts[t]) / static_cast<double>(s.items);
    text += format("    Tier %zu: %lld (%.1f%%)\n", t, static_cast<long long>(s.tier_counts[t]), share);
  }
  return text;
}

Json range_json(Range r) { return Json::List{r.begin, r.end}; }

}  // namespace

std::string configuration_text(const ladder::CaseSpec& spec, const planner::PlanInputs& in, const std::string& policy) {
  const std::string line = std::string(70, '=') + "\n";
  std::string text = line + "FlashLadder: a plan for paged attention, policy " + policy + "\n" + line + "\nConfiguration:\n";
  text += format("  Batch size: %d\n", spec.batch());
  text += format("  Number of heads: %d", in.num_qo_heads);
  text += in.num_qo_heads == in.num_kv_heads ? "\n" : format(", on %d KV heads\n", in.num_kv_heads);
  text += "  Sequence lengths: " + first_eight(spec.kv_lens) + "\n";
  if (!in.qo_lens.empty()) text += "  Query lengths: " + first_eight(spec.qo_lens) + "\n";
  text += format("  Total KV tokens: %lld\n", static_cast<long long>(spec.total_kv()));
  return text + format("  Grid: %lld CTAs (%d SMs x %d)\n", static_cast<long long>(in.machine.num_ctas()),
                       in.machine.num_sms, in.machine.ctas_per_sm);
}

std::string planning_text(const NamedPlan& named, bool decode) {
  const Plan& plan = named.plan;
  const planner::PlanSummary s = planner::summarize(plan);
  const bool target = named.policy == planner::SplitPolicy::target;
  const std::string chunk = plan.chunk_size == 0 ? "not split" : std::to_string(plan.chunk_size);
  std::string text = "\n--- Planning Phase ---\n  " + std::string(target ? "Optimal chunk" : "Chunk") + " size: " + chunk +
                     "\n  Generated " + counted(s.items, "work descriptor") + "\n\nPlan Statistics:\n" +
                     "  Chunk size: " + chunk + "\n  Total work units: " + std::to_string(s.items) + "\n";
  if (target) text += tier_lines(s);
  text += std::string("  Chunks per (request, ") + (decode ? "" : "query tile, ") + "head):\n";
  text += format("    min=%d, max=%d, avg=%.1f\n", s.chunks_min, s.chunks_max, s.chunks_avg);
  text += format("  Predicted utilisation: %.1f%%, tail %.0f of %.0f key-equivalents\n", 100 * s.utilisation, s.tail,
                 static_cast<double>(plan.makespan));
  text += format("  Workspace: %zu bytes for %lld partial rows, %s\n\n", s.workspace_bytes,
                 static_cast<long long>(s.partial_rows), counted(s.merges, "merge").c_str());
  const std::int64_t shown = std::min<std::int64_t>(plan.num_work(), 5);
  text += "  First " + std::to_string(shown) + " descriptors:\n";
  std::int64_t i = 0;
  for (const PlanPart& part : plan.parts) {
    for_each_work(part, [&](std::int32_t w) {
      if (i < shown) text += "    [" + std::to_string(i) + "] " + to_string(part.work(w)) + "\n";
      ++i;
    });
  }
  return text + (plan.num_work() > shown ? "    ...\n" : "");
}

Json configuration_json(const ladder::CaseSpec& spec, const planner::PlanInputs& in) {
  return Json::Object{
          {"case", spec.name}, {"batch", spec.batch()}, {"num_qo_heads", in.num_qo_heads}, {"num_kv_heads", in.num_kv_heads},
          {"qo_lens", spec.qo_lens}, {"kv_lens", spec.kv_lens}, {"total_kv_tokens", spec.total_kv()},
          {"num_sms", in.machine.num_sms}, {"ctas_per_sm", in.machine.ctas_per_sm}};
}

Json part_json(const PlanPart& part) {
  Json::List items, merges;
  for (std::int64_t i = 0; i < part.num_work(); ++i) {
    const WorkItem w = part.work(i);
    items.push_back(Json::Object{{"request", w.request}, {"head", w.head}, {"rows", range_json(w.rows)},
                                 {"keys", range_json(w.keys)}, {"tier", w.tier}, {"flags", w.flags}, {"merge", w.merge},
                                 {"partial_slot", w.partial_slot}});
  }
  for (std::int64_t i = 0; i < part.num_merges(); ++i) {
    const Merge m = part.merge(i);
    merges.push_back(Json::Object{{"request", m.request}, {"head", m.head}, {"rows", range_json(m.rows)},
                                  {"first_slot", m.first_slot}, {"num_partials", m.num_partials}});
  }
  return Json::Object{{"query_tile", part.query_tile}, {"pack", part.pack}, {"claimed", part.claimed}, {"items", items},
                      {"queue_indptr", part.queue_indptr}, {"queue", part.queue}, {"merges", merges}};
}

Json plan_json(const NamedPlan& named) {
  const Plan& plan = named.plan;
  const planner::PlanSummary s = planner::summarize(plan);
  Json::List parts;
  for (const PlanPart& part : plan.parts) parts.push_back(part_json(part));
  return Json::Object{
          {"policy", name_of(named.policy)}, {"chunk_size", plan.chunk_size}, {"group_size", plan.group_size()},
          {"work_units", s.items}, {"tier_counts", s.tier_counts},
          {"chunks", Json::Object{{"min", s.chunks_min}, {"max", s.chunks_max}, {"avg", s.chunks_avg}}},
          {"utilisation", s.utilisation}, {"tail", s.tail}, {"idle_ctas", s.idle_ctas}, {"total_cost", plan.total_cost},
          {"makespan", plan.makespan}, {"partial_rows", s.partial_rows}, {"workspace_bytes", s.workspace_bytes},
          {"cta_cost", plan.cta_cost}, {"parts", parts}};
}

Json execution_json(const Execution& e) {
  const auto worst = [](const ladder::Worst& w) { return Json::Object{{"error", w.error}, {"tolerance", w.tolerance}}; };
  return Json::Object{
          {"rung", "C4"}, {"must_equal", "C3"}, {"threads", e.threads}, {"ms", e.milliseconds}, {"oracle_on", e.sample},
          {"ok", e.agreement.ok()}, {"o", worst(e.agreement.o)}, {"lse_log2", worst(e.agreement.lse_log2)},
          {"message", e.agreement.message()}};
}

}  // namespace flashladder::cli
