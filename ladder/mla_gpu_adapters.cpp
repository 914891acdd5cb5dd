// The GPU rungs of op mla.
#include <algorithm>
#include <memory>

#include "gpu/device.hpp"
#include "gpu/device_buffer.hpp"
#include "gpu/mla/mla.hpp"
#include "ladder/gpu_adapters.hpp"
#include "planner/planner.hpp"

namespace flashladder::ladder {
namespace {

Support supports(const MlaGpuRung& about, const CaseSpec& spec) {
  if (spec.op != Op::mla) return {"op " + std::string(name_of(spec.op)) + " is not mla: this rung computes latent attention"};
  const gpu::MlaFormats formats{.q = spec.dtype, .kv = spec.cache_dtype(), .scales = spec.kv_scales != KvScaling::none};
  const std::string reason = about.why_not(spec.params, formats);
  if (!reason.empty()) return {"this rung does not compute " + reason};
  return {about.why_no_device()};
}

// Tiles of 64 packed rows, and how many of them there are.
planner::PlanInputs plan_inputs(const MlaGpuRung& about, const CaseSpec& spec, const Settings& settings) {
  const std::int64_t heads = spec.params.num_qo_heads;
  std::int64_t tiles = 0, most_rows = 0;
  for (const std::int32_t len : spec.qo_lens) {
    tiles += div_up<std::int64_t>(len * heads, about.grid.query_tile);
    most_rows = std::max<std::int64_t>(most_rows, len * heads);
  }
  const std::int32_t ctas = settings.num_sms > 0 ? settings.num_sms : gpu::multiprocessors();
  const bool claimed = gpu::l5::claims(most_rows > about.grid.query_tile, tiles, ctas);
  planner::PlanInputs inputs = gpu_plan_inputs(spec, settings, {.grid = about.grid, .queues = !claimed});
  if (!claimed) {
    inputs.cost = {.per_item = gpu::l5::keys_per_item};
  }
  return inputs;
}

}  // namespace

Rung planned_mla_on_gpu(const MlaGpuRung& about, PlannedMlaAttend attend) {
  const auto make_plan = [about](const CaseSpec& spec, const Settings& settings) {
    return planner::make_plan(plan_inputs(about, spec, settings));
  };
  Rung rung{.name = about.name, .idea = about.idea, .teaches = about.teaches, .device = Device::gpu,
            .must_equal = about.must_equal, .p_as_kv = true, .op = Op::mla,
            .supports = [about](const CaseSpec& spec) { return supports(about, spec); }, .workspace_bytes = {}, .prepare = {}};
  rung.workspace_bytes = [make_plan](const CaseSpec& spec, const Settings& settings) {
    return gpu::partial_bytes(gpu::shape_of(make_plan(spec, settings)), spec.params.head_dim_vo);
  };
  rung.prepare = [make_plan, attend = std::move(attend)](const Buffers& buffers, const CaseSpec& spec,
                                                         const Settings& settings) -> Runner {
    const Plan plan = make_plan(spec, settings);
    const gpu::PackedShape shape = gpu::shape_of(plan);
    std::vector<std::byte> packed(gpu::packed_bytes(shape));
    gpu::pack(plan, {spec.page_size, buffers.mla.frame().max_pages()}, shape, packed);
    const auto on_device = std::make_shared<const gpu::DeviceBuffer>(packed.data(), packed.size());
    return [attend, on_device, shape, call = gpu::mla_call(buffers.mla, buffers.output),
            workspace = buffers.workspace.data()](void* stream) {
      attend(call, shape, on_device->data(), workspace, static_cast<cudaStream_t>(stream));
    };
  };
  return rung;
}

std::vector<Rung> gpu_mla_rungs() {
  return {
      planned_mla_on_gpu({.name = "L4", .idea = "GPU: tensor cores; warps share the keys of S, and the features of O",
                          .must_equal = "L3", .grid = gpu::l4::grid(), .why_not = gpu::l4::why_not,
                          .why_no_device = gpu::l4::why_no_device},
                         gpu::l4::attend),
      planned_mla_on_gpu({.name = "L5", .idea = "Hopper: a latent tile is K and V of wgmma; two warp groups share O",
                          .must_equal = "L4", .grid = gpu::l5::grid(), .why_not = gpu::l5::why_not,
                          .why_no_device = gpu::why_no_hopper},
                         gpu::l5::attend),
  };
}

}  // namespace flashladder::ladder
