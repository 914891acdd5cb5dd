// The GPU's planner of a decode as a kernel: one CTA, because each phase needs all that the one before has found. What it
// does: even_plan.hpp, chunked_plan.hpp.
#include "core/error.hpp"
#include "gpu/launch.hpp"
#include "gpu/plan/cta_block.cuh"
#include "gpu/plan/plan_decode.hpp"
#include "gpu/plan/run_plan.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {
namespace {

__global__ void __launch_bounds__(plan_threads, 1)
plan_decode_kernel(const __grid_constant__ DecodePlanParams params, std::byte* scratch) {
  extern __shared__ __align__(16) std::byte shared[];
  griddepcontrol_wait();  // the kernel before may still write the lengths, or run the plan that is about to be overwritten
  griddepcontrol_launch_dependents();
  CtaBlock block;
  run_plan(block, params, shared, scratch);
}

DecodePlanMemory bytes_of(const DecodePlanParams& params) {
  return decode_plan_memory(params, plan_threads, nullptr, nullptr);
}

}  // namespace

const char* why_not_planned(const DecodePlanParams& p) {
  constexpr std::int32_t memory_bound_rows = 128;  // up to which every key costs 1: planner::CostModel
  if (p.per_item < 1) return "items must cost at least one key";
  if (p.query_tile > memory_bound_rows) return "tiles must have at most 128 rows";
  if (p.queries > 1 && p.tiles() > 1) return "several queries of a request must be one tile";
  return "";
}

std::size_t plan_scratch_bytes(const DecodePlanParams& params) { return bytes_of(params).scratch_bytes; }

void plan_decode(const DecodePlanParams& params, std::byte* scratch, cudaStream_t stream, bool programmatic) {
  const std::string reason = why_not_planned(params);
  require(reason.empty(), "plan on the device", reason, "can't be made");
  const LaunchShape shape{.grid = 1, .block = plan_threads, .shared_bytes = bytes_of(params).shared_bytes,
                          .programmatic = programmatic};
  launch(plan_decode_kernel, shape, stream, params, scratch);
}

}  // namespace flashladder::gpu
