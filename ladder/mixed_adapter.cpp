// P12 as a rung: a plan of two parts, packed into two blocks that lie behind each other.
#include <memory>
#include <utility>

#include "gpu/device_buffer.hpp"
#include "gpu/prefill/mixed_cost.hpp"
#include "gpu/prefill/prefill.hpp"
#include "ladder/gpu_adapters.hpp"
#include "planner/planner.hpp"

namespace flashladder::ladder {
namespace {

// Of the requests with more than one query.
std::int32_t pack_of(const CaseSpec& spec) {
  std::int64_t nnz_qo = 0, batch = 0;
  for (const std::int32_t len : spec.qo_lens) nnz_qo += len > 1 ? len : 0, batch += len > 1;
  return gpu::p11::pack(spec.params, nnz_qo, batch);
}

// CTAs of so many that decode first.
std::int32_t decode_ctas(const CaseSpec& spec, std::int32_t num_sms) {
  const AttentionParams& p = spec.params;
  gpu::p12::MixedWork work;
  for (std::int32_t b = 0; b < spec.batch(); ++b) {
    const std::int64_t qo_len = spec.qo_lens[static_cast<std::size_t>(b)], kv_len = spec.kv_lens[static_cast<std::size_t>(b)];
    if (qo_len == 1) work.decode_keys += kv_len * p.num_kv_heads;
    else work.prefill_pairs += qo_len * kv_len * p.num_qo_heads;
  }
  return gpu::p12::decode_ctas(num_sms, work);
}

Plan plan_of(const CaseSpec& spec, const Settings& settings) {
  const std::int32_t pack = pack_of(spec), group = spec.params.group_size();
  planner::PlanInputs in = gpu_plan_inputs(spec, settings, {gpu::p11::grid(spec.params, pack), false, pack});
  in.qo_lens = spec.qo_lens;
  in.query_tile = gpu::p11::grid(spec.params, pack).query_tile;
  in.decode_tile = div_up(group, div_up(group, gpu::MixedShape::decode_rows));
  in.decode_queues = decode_ctas(spec, in.machine.num_sms) * gpu::MixedShape::queues_per_cta;
  in.decode_cost = d6_cost(spec.params.head_dim_qk);
  in.predicted = false;
  if (settings.policy == planner::SplitPolicy::balanced) in.policy = planner::SplitPolicy::none;  // decode fills what is left
  return planner::make_plan(in);
}

gpu::MixedShape shape_of(const Plan& plan, const CaseSpec& spec, const Settings& settings) {
  gpu::MixedShape shape{gpu::shape_of(plan, 0), gpu::shape_of(plan, 1)};
  const std::int32_t sms = settings.num_sms > 0 ? settings.num_sms : gpu::multiprocessors();
  shape.decode.num_ctas = decode_ctas(spec, sms) * gpu::MixedShape::queues_per_cta;
  shape.prefill.query_tile = gpu::p11::grid(spec.params, pack_of(spec)).query_tile;
  return shape;
}

}  // namespace

Rung mixed_on_gpu(const GpuRung& about, MixedAttend attend) {
  Rung rung = gpu_rung(about);
  rung.workspace_bytes = [](const CaseSpec& spec, const Settings& settings) {
    return gpu::partial_bytes(shape_of(plan_of(spec, settings), spec, settings).prefill, spec.params.head_dim_vo);
  };
  rung.prepare = [attend = std::move(attend)](const Buffers& buffers, const CaseSpec& spec,
                                              const Settings& settings) -> Runner {
    const Plan plan = plan_of(spec, settings);
    const gpu::MixedShape shape = shape_of(plan, spec, settings);
    const gpu::PageRows pages{spec.page_size, buffers.problem.max_pages()};
    const std::size_t first = gpu::packed_bytes(shape.decode);
    std::vector<std::byte> packed(first + gpu::packed_bytes(shape.prefill));
    gpu::pack(plan, pages, shape.decode, std::span(packed).first(first), 0);
    gpu::pack(plan, pages, shape.prefill, std::span(packed).subspan(first), 1);
    const auto on_device = std::make_shared<const gpu::DeviceBuffer>(packed.data(), packed.size());
    return [attend, on_device, shape, call = gpu::attention_call(buffers.problem, buffers.output),
            workspace = buffers.workspace.data()](void* stream) {
      attend(call, shape, on_device->data(), workspace, static_cast<cudaStream_t>(stream));
    };
  };
  return rung;
}

}  // namespace flashladder::ladder
