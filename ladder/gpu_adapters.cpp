#include "ladder/gpu_adapters.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/error.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/device.hpp"
#include "gpu/device_problem.hpp"
#include "planner/planner.hpp"

namespace flashladder::ladder {
namespace {

using gpu::DecodeCall;
using gpu::DeviceBuffer;

Support decode_on_gpu(const CaseSpec& spec) {
  for (std::int32_t b = 0; b < spec.batch(); ++b) {
    if (spec.qo_lens[b] != 1) {
      return {"request " + std::to_string(b) + " has " + std::to_string(spec.qo_lens[b]) +
              " queries, a decode rung takes one of each"};
    }
  }
  if (spec.block_table) return {"a block table is not supported by this rung"};
  const std::string reason = gpu::why_no_decode(spec.params, spec.dtype);
  return {reason.empty() ? gpu::why_no_device() : reason + " is not supported by this rung"};
}

Rung gpu_rung(std::string name, std::string idea, std::string teaches, std::string must_equal) {
  return {.name = std::move(name), .op = Op::attention, .idea = std::move(idea), .teaches = std::move(teaches),
          .device = Device::gpu, .must_equal = std::move(must_equal), .p_dtype = DType::f32, .supports = decode_on_gpu,
          .workspace_bytes = [](const CaseSpec&, const Settings&) { return std::size_t{0}; }, .prepare = {}};
}

Rung direct_on_gpu(std::string name, std::string idea, std::string teaches, std::string must_equal,
                   void (*attend)(const DecodeCall&, cudaStream_t)) {
  Rung rung = gpu_rung(std::move(name), std::move(idea), std::move(teaches), std::move(must_equal));
  rung.prepare = [attend](const Buffers& buffers, const CaseSpec&, const Settings&) -> Runner {
    return [attend, call = gpu::decode_call(buffers.problem, buffers.output)](void* stream) {
      attend(call, static_cast<cudaStream_t>(stream));
    };
  };
  return rung;
}

// The chunk (0: none) with the smallest predicted makespan when blocks take the items in order, merging included.
std::int32_t quickest_chunk(planner::PlanInputs inputs) {
  constexpr float keys_per_partial = 18;  // what a partial costs the merge, in key-equivalents: fitted, docs/measurements
  std::int32_t best = 0;
  float least = 0;
  for (const std::int32_t chunk : {0, 4096, 2048, 1024, 512, 256, 128}) {
    inputs.policy = chunk == 0 ? planner::SplitPolicy::none : planner::SplitPolicy::fixed;
    inputs.chunk_size = chunk;
    const Plan plan = planner::make_plan(inputs);
    std::int32_t partials = 0;
    for (const Merge& m : plan.parts.front().merges) partials = std::max(partials, m.num_partials);
    const float cost = plan.makespan + keys_per_partial * static_cast<float>(partials);
    if (chunk == 0 || cost < least) best = chunk, least = cost;
  }
  return best;
}

}  // namespace

planner::PlanInputs gpu_plan_inputs(const CaseSpec& spec, const Settings& settings, GpuGrid grid) {
  const AttentionParams& p = spec.params;
  const std::int32_t group = p.group_size();
  planner::PlanInputs inputs{.kv_lens = spec.kv_lens,
                             .num_qo_heads = p.num_qo_heads,
                             .num_kv_heads = p.num_kv_heads,
                             .head_dim_qk = p.head_dim_qk,
                             .head_dim_vo = p.head_dim_vo,
                             .page_size = spec.page_size,
                             .query_tile = div_up(group, div_up(group, grid.most_rows)),
                             .policy = settings.policy,
                             .chunk_size = settings.chunk_size,
                             .machine = {.num_sms = settings.num_sms > 0 ? settings.num_sms : gpu::multiprocessors(),
                                         .ctas_per_sm = grid.blocks_per_sm}};
  if (grid.persistent) inputs.cost.per_item = gpu::d6::keys_per_item, inputs.cost.per_many = gpu::d6::keys_per_grouped_item;
  if (settings.policy == planner::SplitPolicy::balanced && !grid.persistent) {
    inputs.chunk_size = quickest_chunk(inputs);
    inputs.policy = inputs.chunk_size == 0 ? planner::SplitPolicy::none : planner::SplitPolicy::fixed;
  }
  return inputs;
}

GpuGrid d5_grid(const AttentionParams& p) {
  return {gpu::d5::most_rows(p.head_dim_qk), gpu::d5::blocks_per_sm(p.head_dim_qk)};
}

GpuGrid d6_grid(const AttentionParams& p) {
  return {gpu::d6::most_rows(p.head_dim_qk), gpu::d6::blocks_per_sm(p.head_dim_qk), true};
}

Rung planned_on_gpu(std::string name, std::string idea, std::string teaches, std::string must_equal, GridOf grid,
                    PlannedAttend attend) {
  Rung rung = gpu_rung(std::move(name), std::move(idea), std::move(teaches), std::move(must_equal));
  const auto make_plan = [grid](const CaseSpec& spec, const Settings& settings) {
    return planner::make_plan(gpu_plan_inputs(spec, settings, grid(spec.params)));
  };
  rung.workspace_bytes = [make_plan](const CaseSpec& spec, const Settings& settings) {
    return make_plan(spec, settings).workspace_bytes();
  };
  rung.prepare = [make_plan, attend](const Buffers& buffers, const CaseSpec& spec, const Settings& settings) -> Runner {
    const auto plan = std::make_shared<const gpu::DevicePlan>(make_plan(spec, settings));
    return [attend, plan, call = gpu::decode_call(buffers.problem, buffers.output), workspace = buffers.workspace.data()](
               void* stream) { attend(call, *plan, workspace, static_cast<cudaStream_t>(stream)); };
  };
  return rung;
}

Rung persistent_on_gpu(std::string name, std::string idea, std::string teaches, std::string must_equal, GridOf grid,
                       PersistentAttend attend) {
  Rung rung = gpu_rung(std::move(name), std::move(idea), std::move(teaches), std::move(must_equal));
  const auto make_plan = [grid](const CaseSpec& spec, const Settings& settings) {
    return planner::make_plan(gpu_plan_inputs(spec, settings, grid(spec.params)));
  };
  rung.workspace_bytes = [make_plan](const CaseSpec& spec, const Settings& settings) {
    return gpu::partial_bytes(gpu::shape_of(make_plan(spec, settings)), spec.params.head_dim_vo);
  };
  rung.prepare = [make_plan, attend](const Buffers& buffers, const CaseSpec& spec, const Settings& settings) -> Runner {
    const Plan plan = make_plan(spec, settings);
    const gpu::PackedShape shape = gpu::shape_of(plan);
    std::vector<std::byte> packed(gpu::packed_bytes(shape));
    gpu::pack(plan, spec.page_size, shape, packed);
    const auto on_device = std::make_shared<const DeviceBuffer>(packed.data(), packed.size());
    return [attend, on_device, shape, call = gpu::decode_call(buffers.problem, buffers.output),
            workspace = buffers.workspace.data()](void* stream) {
      attend(call, shape, on_device->data(), workspace, static_cast<cudaStream_t>(stream), nullptr);
    };
  };
  return rung;
}

std::vector<Rung> gpu_rungs() {
  const GridOf lane_groups = [](const AttentionParams& p) { return GpuGrid{gpu::most_rows, p.group_size() <= 4 ? 3 : 2}; };
  std::vector<Rung> rungs{
      direct_on_gpu("D1", "GPU decode: one block a query head, scalar loads", "06", "C4", gpu::d1::attend),
      direct_on_gpu("D2", "16-byte loads, lane groups, K and V once for a group of heads", "06", "D1", gpu::d2::attend),
      planned_on_gpu("D3", "split-K over a plan, merge kernel", "07", "D2", lane_groups, gpu::d3::attend),
      planned_on_gpu("D4", "cp.async pipeline, page ids fetched ahead", "07", "D3", lane_groups, gpu::d4::attend),
      planned_on_gpu("D5", "tensor cores: tokens are M, heads are N", "08", "D4", d5_grid, gpu::d5::attend),
      persistent_on_gpu("D6", "persistent CTAs run a balanced plan's queues, the last one merges", "09", "D5", d6_grid,
                        gpu::d6::attend),
  };
  for (Rung& rung : rungs) rung.p_as_kv = rung.name == "D5" || rung.name == "D6";
  return rungs;
}

}  // namespace flashladder::ladder
