#include "api/gpu_call.hpp"

#include <string>

#include "core/error.hpp"
#include "gpu/attention/needs_general.hpp"
#include "gpu/check.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/device.hpp"
#include "gpu/prefill/prefill.hpp"

namespace flashladder::api {

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status{};
  gpu::check(cudaStreamIsCapturing(cuda_stream(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

void require_computable(const AttentionParams& params, DType dtype, bool decode) {
  const std::string reason = decode ? gpu::d6::why_not(params, dtype) : gpu::p1::why_not(params, dtype);
  require(reason.empty(), "device", "gpu", ("does not compute this, cpu does: " + reason).c_str());
}

AttentionMachine gpu_machine(const AttentionParams& params, bool decode) {
  if (!decode) {
    const gpu::RungGrid grid = gpu::p1::grid(params);
    return {.shape = {.num_sms = gpu::multiprocessors(), .ctas_per_sm = grid.ctas_per_sm},
            .prefill_rows = grid.query_tile, .claimed = true};
  }
  const gpu::RungGrid grid = gpu::d6::grid(params.head_dim_qk, gpu::needs_general(params));
  return {.shape = {.num_sms = gpu::multiprocessors(), .ctas_per_sm = grid.ctas_per_sm},
          .most_decode_rows = grid.query_tile,
          .cost = {.per_item = gpu::d6::keys_per_item, .per_many = gpu::d6::keys_per_grouped_item}};
}

void attend_on_gpu(const gpu::AttentionCall& call, bool decode, const gpu::PackedShape& capacity, std::byte* packed,
                   void* partials, Stream stream) {
  if (decode) return gpu::d6::attend(call, capacity, packed, partials, cuda_stream(stream));
  gpu::p1::attend(call, capacity, packed, partials, cuda_stream(stream));
}

gpu::AttentionCall gpu_attention_call(const AttentionParams& params, const AttentionArguments& a,
                                      const std::int32_t* page_ids) {
  AttentionProblem problem;
  problem.params = params;
  problem.q = without_const(a.q);
  problem.kv = a.kv;
  problem.sinks = a.sinks;
  problem.custom_mask = a.custom_mask;
  gpu::AttentionCall call = gpu::attention_call(problem, a.output);
  call.kv.pages.indices = page_ids;  // where each request's begin is in the packed plan
  return call;
}

}  // namespace flashladder::api
