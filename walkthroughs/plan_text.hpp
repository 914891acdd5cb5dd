// What chapter 05 works on, its plans as text (lanes and items to read in a terminal), a plan executed, a request taken out
// of its batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/row.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "ladder/cases/specs/short_form.hpp"
#include "planner/planner.hpp"
#include "reference/c4_lanes.hpp"

namespace flashladder::walkthroughs {

// The batch: sixteen decode requests as a server may have them, 512 to 16384 keys. The machine: a small one, 8 SMs with one
// CTA each; C4 gives each CTA a thread.
inline constexpr int num_ctas = 8;

inline ladder::CaseSpec skewed_batch() {
  ladder::CaseSpec spec;
  spec.name = "skewed";
  spec.qo_lens = ladder::parse_lengths("--qo", "1x16");
  spec.kv_lens = ladder::parse_lengths("--kv", "512,1024,2048,4096,512x2,1024,2048,512,1024x2,2048,4096,8192x2,16384");
  spec.params = {.num_qo_heads = 4, .num_kv_heads = 1};
  return spec;
}

inline planner::PlanInputs inputs(std::span<const std::int32_t> kv_lens, planner::SplitPolicy policy) {
  return {.kv_lens = kv_lens, .num_qo_heads = 4, .num_kv_heads = 1, .policy = policy, .chunk_size = 2048,
          .target_units = 4 * num_ctas, .machine = {.num_sms = num_ctas, .ctas_per_sm = 1}};
}

// A line a CTA, a character `unit` of cost. A letter is a request (A is 0): capital = a whole tile, small = a partial.
inline std::string show_lanes(const Plan& plan, std::span<const float> cost, double unit) {
  std::string out;
  for (std::int32_t cta = 0; cta < plan.num_ctas(); ++cta) {
    std::string lane;
    double end = 0;
    const PlanPart& part = plan.parts.front();  // the chapter's plans have one part
    for (std::int32_t q = part.queue_indptr[cta]; q < part.queue_indptr[cta + 1]; ++q) {
      const WorkItem item = part.work(part.queue[q]);
      end += cost[part.queue[q]];
      const auto column = static_cast<std::size_t>(std::lround(end / unit));
      lane.resize(std::max(lane.size(), column), static_cast<char>((item.whole() ? 'A' : 'a') + item.request));
    }
    lane.resize(static_cast<std::size_t>(std::lround(plan.makespan / unit)), '.');
    out += "CTA " + std::to_string(cta) + "  " + lane + "\n";
  }
  return out;
}

// The first packed rows of KV head 0: which query, which query head.
inline std::string show_packed_rows(std::int32_t group_size, std::int32_t rows) {
  std::string packed = "packed row ", queries = "query      ", heads = "query head ";
  const auto add = [](std::string& line, std::int32_t n) { line += (n < 10 ? "   " : "  ") + std::to_string(n); };
  for (std::int32_t row = 0; row < rows; ++row) {
    const RowPlace place = row_of(0, row, group_size);
    add(packed, row);
    add(queries, place.query);
    add(heads, place.qo_head);
  }
  return packed + "\n" + queries + "\n" + heads + "\n";
}

// The items of one request: which keys, and where their results go.
inline std::string show_items(const Plan& plan, std::int32_t request) {
  std::string out;
  const PlanPart& part = plan.parts.front();
  for_each_work(part, [&](std::int32_t w) {
    const WorkItem item = part.work(w);
    if (item.request != request) return;
    const std::string rows = "rows=[" + std::to_string(item.rows.begin) + "," + std::to_string(item.rows.end) + ")  ";
    const std::int64_t slot = item.partial_slot;
    const std::string slots = "slots " + std::to_string(slot) + " .. " + std::to_string(slot + item.rows.size() - 1);
    out += to_string(item) + "  " + rows + (item.whole() ? "writes o" : slots) + "\n";
  });
  for (std::int64_t i = 0; i < part.num_merges(); ++i) {
    const Merge m = part.merge(i);
    if (m.request != request) continue;
    out += "merge: " + std::to_string(m.num_partials) + " partials of " + std::to_string(m.rows.size()) +
           " rows each, from slot " + std::to_string(m.first_slot) + " on\n";
  }
  return out;
}

// Where the keys of a request are cut: "0 1024 2048".
inline std::string cuts(const Plan& plan, std::int32_t request) {
  std::string out;
  for (const WorkItem& item : plan.parts.front().items) {
    if (item.request == request && item.head == 0) out += (out.empty() ? "" : " ") + std::to_string(item.keys.begin);
  }
  return out;
}

// C4 on exactly this plan, with a thread a CTA. Output and workspace start as NaN between guard bands.
inline ladder::RunResult run_plan(const ladder::Case& c, const Plan& plan, reference::Schedule schedule) {
  const AttentionParams& p = c.spec.params;
  ladder::GuardedOutput output(c.spec.nnz_qo(), p.num_qo_heads, p.head_dim_vo);
  ladder::GuardedBytes workspace(plan.workspace_bytes());
  std::fill_n(workspace.data(), workspace.size(), std::byte{0xff});
  const AttentionOutput view = output.view();
  reference::PlanExecutor c4(reference::c4::attend_item, plan.num_ctas(), reference::PlanExecutor::Workers::exactly);
  c4.run(c.problem(), plan, {workspace.data(), workspace.size()}, schedule, view);
  const float* o = view.o.data_as<const float>();
  return {.o = {o, o + view.o.size()}, .lse_log2 = {view.lse_log2.begin(), view.lse_log2.end()},
          .guards_intact = output.guards_intact() && workspace.guards_intact()};
}

// One decode request of a batch as a batch of its own: the same pages in the same pool.
inline ladder::Case alone(const ladder::Case& batch, std::int32_t b) {
  ladder::Case c = batch;
  const std::int32_t begin = batch.paged_kv_indptr[b], end = batch.paged_kv_indptr[b + 1];
  c.spec.qo_lens = {1};
  c.spec.kv_lens = {batch.spec.kv_lens[b]};
  c.qo_indptr = {0, 1};
  c.paged_kv_indptr = {0, end - begin};
  c.paged_kv_indices.assign(batch.paged_kv_indices.begin() + begin, batch.paged_kv_indices.begin() + end);
  c.paged_kv_last_page_len = {batch.paged_kv_last_page_len[b]};
  const std::int64_t row_bytes = static_cast<std::int64_t>(batch.q.bytes.size()) / batch.q.shape[0];
  c.q.shape[0] = 1;
  c.q.bytes.assign(batch.q.bytes.begin() + b * row_bytes, batch.q.bytes.begin() + (b + 1) * row_bytes);
  return c;
}

}  // namespace flashladder::walkthroughs
