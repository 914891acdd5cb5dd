// A CUDA graph in miniature: capture freezes which function runs, on which pointers, with which grid; a replay runs just
// that, on whatever lies in the buffers by then. Here the function is C4 and the buffers are vectors that never move.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "planner/planner.hpp"
#include "reference/c4_lanes.hpp"
#include "walkthroughs/page_server.hpp"
#include "walkthroughs/plan_text.hpp"

namespace flashladder::walkthroughs {

class CapturedDecode {
 public:
  CapturedDecode(const PageServer& server, const planner::CaptureLimits& limits, planner::MachineShape machine)
      : limits_(limits), machine_(machine), params_(server.c.spec.params),
        c4_(reference::c4::attend_item, static_cast<int>(machine.num_ctas()), reference::PlanExecutor::Workers::exactly),
        indptr_(limits.batch + 1), indices_(limits.pages), last_page_len_(limits.batch), qo_indptr_(limits.batch + 1),
        workspace_(limits.partial_rows * (params_.head_dim_vo + 1) * sizeof(float)),
        q_(limits.batch * row_size()), o_(limits.batch * row_size()), lse_log2_(limits.batch * params_.num_qo_heads) {
    for (std::size_t b = 0; b < qo_indptr_.size(); ++b) qo_indptr_[b] = static_cast<std::int32_t>(b);
    captured_at_ = addresses();
  }

  // A new batch, into the same buffers. What does not fit is said, and then nothing has changed.
  std::string plan(const PageServer& server) {
    const planner::PlanInputs in = inputs(server.c.spec.kv_lens);
    const Plan next = planner::make_plan(in);
    const std::string too_much = planner::exceeds(next, in, limits_);
    if (!too_much.empty()) return too_much;
    const ladder::Case& c = server.c;
    std::ranges::copy(c.paged_kv_indptr, indptr_.begin());
    std::ranges::copy(c.paged_kv_indices, indices_.begin());
    std::ranges::copy(c.paged_kv_last_page_len, last_page_len_.begin());
    std::memcpy(q_.data(), c.q.bytes.data(), c.q.bytes.size());
    plan_ = next;
    return "";
  }

  // Nothing but what was captured: no host work, no look at the server but through the pointers. Rows of requests that the
  // plan does not have stay what they were: NaN.
  ladder::RunResult replay(const PagedKvCache& kv) {
    std::ranges::fill(o_, std::nanf("")), std::ranges::fill(lse_log2_, std::nanf(""));
    c4_.run(problem(kv), plan_, workspace_, reference::Schedule::fixed, output());
    return {.o = o_, .lse_log2 = lse_log2_};
  }

  bool where_it_was_captured() const { return addresses() == captured_at_; }
  const Plan& current_plan() const { return plan_; }

 private:
  planner::PlanInputs inputs(std::span<const std::int32_t> kv_lens) const {
    return {.kv_lens = kv_lens, .num_qo_heads = params_.num_qo_heads, .num_kv_heads = params_.num_kv_heads,
            .head_dim_qk = params_.head_dim_qk, .head_dim_vo = params_.head_dim_vo, .page_size = 4, .chunk_align = 4,
            .machine = machine_, .cost = {.per_item = 2}};
  }
  std::int64_t row_size() const { return std::int64_t{params_.num_qo_heads} * params_.head_dim_qk; }
  // How many requests there are is the plan's to say; the buffers are as long as the limits.
  AttentionProblem problem(const PagedKvCache& kv) const {
    const std::size_t batch = plan_.kv_lens.size();
    const Tensor q = contiguous(const_cast<float*>(q_.data()), DType::f32,
                                {plan_.batch, params_.num_qo_heads, params_.head_dim_qk});
    const auto first = [](const std::vector<std::int32_t>& of, std::size_t count) { return std::span(of.data(), count); };
    return {.params = params_, .q = q, .kv = kv, .qo_indptr = first(qo_indptr_, batch + 1),
            .paged_kv_indptr = first(indptr_, batch + 1),
            .paged_kv_indices = first(indices_, static_cast<std::size_t>(indptr_[batch])),
            .paged_kv_last_page_len = first(last_page_len_, batch), .custom_mask = {}, .sinks = {}};
  }
  AttentionOutput output() {
    return {.o = contiguous(o_.data(), DType::f32, {plan_.batch, params_.num_qo_heads, params_.head_dim_vo}),
            .lse_log2 = std::span(lse_log2_).first(static_cast<std::size_t>(plan_.batch) * params_.num_qo_heads)};
  }
  std::vector<const void*> addresses() const {
    return {indptr_.data(), indices_.data(), last_page_len_.data(), workspace_.data(), q_.data(), o_.data()};
  }

  planner::CaptureLimits limits_;
  planner::MachineShape machine_;
  AttentionParams params_;
  reference::PlanExecutor c4_;
  std::vector<std::int32_t> indptr_, indices_, last_page_len_, qo_indptr_;
  std::vector<std::byte> workspace_;
  std::vector<float> q_, o_, lse_log2_;
  Plan plan_;
  std::vector<const void*> captured_at_;
};

}  // namespace flashladder::walkthroughs
