// The planner that a policy asks for, by whichever block.
#pragma once

#include "gpu/plan/chunked_plan.hpp"
#include "gpu/plan/even_plan.hpp"

namespace flashladder::gpu {

template <class Block>
FL_HD void run_plan(Block& block, const DecodePlanParams& params, std::byte* shared, std::byte* scratch) {
  const DecodePlanMemory memory = decode_plan_memory(params, Block::threads, shared, scratch);
  if (params.even) {
    EvenPlan(params, memory).run(block);
  } else {
    ChunkedPlan(params, memory).run(block);
  }
}

}  // namespace flashladder::gpu
