// The GPU rungs. Compiled only with CUDA; without a GPU each of them says so in supports().
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/rung_grid.hpp"
#include "gpu/device.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/prefill/compact_pages.hpp"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/rotated_copy.hpp"
#include "ladder/rung.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::ladder {

std::vector<Rung> gpu_rungs();  // from the lowest up

// What all GPU rungs have in common.
struct GpuRung {
  std::string name{}, idea{}, teaches{}, must_equal{};
  std::string (*why_not)(const AttentionParams&, gpu::AttentionDTypes) = nullptr;  // "" if it computes this
  std::string (*why_not_pages)(std::int32_t page_size) = nullptr;  // the same of pages; null: any
  gpu::CompactPages compact = nullptr;  // such pages it takes behind this, on a copy of K and V in the workspace
  gpu::CompactPages rotate = nullptr;   // ROPE_LLAMA it computes behind this, on copies of q, K and V
  gpu::CompactPages widen = nullptr;    // a cache of E4M3 beside 16-bit q it takes behind this, on a copy in q's dtype
  const std::string& (*why_no_device)() = gpu::why_no_device;
  bool one_query = true;   // of each request, or few (most_queries): a decode rung
  std::int32_t (*most_queries)(const AttentionParams&) = nullptr;  // of a decode rung that takes more: so many
  bool p_as_kv = false;    // rounds P to q's dtype
  std::int32_t longest_chain = whole_row;  // Rounding::chain: most add to one sum from a lane's first key to its last
};

Rung gpu_rung(const GpuRung& about);     // without prepare
// P12, or a broken one: mixed_adapter.cpp.
using MixedAttend = std::function<void(const gpu::AttentionCall&, const gpu::MixedShape&, std::byte* packed,
                                       void* partials, cudaStream_t stream)>;
Rung mixed_on_gpu(const GpuRung& about, MixedAttend attend);
planner::CostModel d6_cost(std::int32_t head_dim);

// How a planned rung wants its plan.
struct GpuPlanShape {
  gpu::RungGrid grid;
  bool queues = false;  // its CTAs run the plan's queues. Else work is taken in the order of the claims, longest first: by
                        // CTAs that claim, or by the GPU's block scheduler
  std::int32_t pack = 0;  // query heads whose rows are packed: the group (or 0), or 1
  std::int32_t clusters = 0;  // not 0: queues are those of so many clusters, which merge row by row
};
using PlanShapeOf = GpuPlanShape (*)(const CaseSpec&);
GpuPlanShape d5_plan_shape(const CaseSpec& spec);
GpuPlanShape d6_plan_shape(const CaseSpec& spec);
GpuPlanShape d7_plan_shape(const CaseSpec& spec);
GpuPlanShape p11_plan_shape(const CaseSpec& spec);

// The plan that a rung executes. Policy balanced cuts for CTAs that each work through a queue, as D6's do; for rungs without
// queues it stands for the one chunk size, or none, for which the cost model predicts the shortest time.
planner::PlanInputs gpu_plan_inputs(const CaseSpec& spec, const Settings& settings, const GpuPlanShape& shape);

// A rung with a plan. The tests make some of broken kernels.
using PlannedAttend = std::function<void(const gpu::AttentionCall&, const gpu::PackedShape&, std::byte* packed,
                                         void* partials, cudaStream_t stream)>;
Rung planned_on_gpu(const GpuRung& about, PlanShapeOf shape, PlannedAttend attend);

// Those of op mla: mla_gpu_adapters.cpp.
std::vector<Rung> gpu_mla_rungs();
struct MlaGpuRung {
  std::string name{}, idea{}, teaches{"19"}, must_equal{};
  gpu::RungGrid grid;
  gpu::WhyNotMla* why_not = nullptr;
  const std::string& (*why_no_device)() = gpu::why_no_device;
};
using PlannedMlaAttend = std::function<void(const gpu::MlaCall&, const gpu::PackedShape&, std::byte* packed, void* partials,
                                            cudaStream_t stream)>;
Rung planned_mla_on_gpu(const MlaGpuRung& about, PlannedMlaAttend attend);

}  // namespace flashladder::ladder
