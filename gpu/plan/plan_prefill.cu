// The GPU's planner of a prefill as a kernel: one CTA, because each phase needs all that the one before has found. What it
// does: claimed_plan.hpp.
#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "gpu/launch.hpp"
#include "gpu/plan/claimed_plan.hpp"
#include "gpu/plan/cta_block.cuh"
#include "gpu/plan/plan_prefill.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {
namespace {

__global__ void __launch_bounds__(plan_threads, 1)
plan_prefill_kernel(const __grid_constant__ PrefillPlanParams params, std::byte* scratch) {
  extern __shared__ __align__(16) std::byte shared[];
  griddepcontrol_wait();  // the kernel before may still write the lengths, or run the plan that is about to be overwritten
  griddepcontrol_launch_dependents();
  CtaBlock block;
  run_claimed_plan(block, params, shared, scratch);
}

ClaimedPlanMemory bytes_of(const PrefillPlanParams& params) {
  return claimed_plan_memory(params, plan_threads, nullptr, nullptr);
}

}  // namespace

const char* why_not_planned(const PrefillPlanParams& p) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (p.mask == MaskMode::custom) return "a custom mask's words are counted on the host";
  if (p.per_item < 1) return "items must cost at least one key";
  if (p.memory_bound_rows < 1 || !std::has_single_bit(static_cast<std::uint32_t>(p.memory_bound_rows))) {
    return "rows up to which a key costs 1 must be a power of two";
  }
  if (std::int64_t{std::min(p.most_queries, p.nnz_qo)} * p.pack > most) return "packed rows must be at most 2^31 - 1";
  if (p.most_tiles() > p.most_items) return "the block must have room for every tile";
  if (p.most_tiles() * p.copies() > most) return "work must be at most 2^31 - 1 items";
  return "";
}

std::size_t plan_scratch_bytes(const PrefillPlanParams& params) { return bytes_of(params).scratch_bytes; }

void plan_prefill(const PrefillPlanParams& params, std::byte* scratch, cudaStream_t stream, bool programmatic) {
  const std::string reason = why_not_planned(params);
  require(reason.empty(), "plan on the device", reason, "can't be made");
  const LaunchShape shape{.grid = 1, .block = plan_threads, .shared_bytes = bytes_of(params).shared_bytes,
                          .programmatic = programmatic};
  launch(plan_prefill_kernel, shape, stream, params, scratch);
}

}  // namespace flashladder::gpu
