#include "api/gpu_call.hpp"

#include <string>

#include "core/error.hpp"
#include "gpu/check.hpp"
#include "gpu/device.hpp"

namespace flashladder::api {
namespace {

void require_aligned(const void* data, const char* argument) {
  require(reinterpret_cast<std::uintptr_t>(data) % 16 == 0, argument, "", "must begin at a multiple of 16 bytes on the GPU");
}

// The kernels of today take rows that lie one after the other.
void require_dense(const Tensor& t, const char* argument) {
  const bool dense = t.shape[0] * t.shape[1] == 0 ||
                     (t.strides[1] == t.shape[2] && (t.shape[0] == 1 || t.strides[0] == t.shape[1] * t.shape[2]));
  require(dense, argument, t.strides[0], "must be dense on the GPU: one row of num_qo_heads * head_dim after the other");
}

}  // namespace

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status{};
  gpu::check(cudaStreamIsCapturing(cuda_stream(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

void require_computable(const AttentionParams& params, DType dtype) {
  const std::string reason = gpu::why_no_decode(params, dtype);
  require(reason.empty(), "device", "gpu", ("does not compute this, cpu does: " + reason).c_str());
}

AttentionMachine gpu_machine(std::int32_t head_dim) {
  return {.shape = {.num_sms = gpu::multiprocessors(), .ctas_per_sm = gpu::d6::blocks_per_sm(head_dim)},
          .most_decode_rows = gpu::d6::most_rows(head_dim),
          .cost = {.per_item = gpu::d6::keys_per_item, .per_many = gpu::d6::keys_per_grouped_item}};
}

gpu::DecodeCall gpu_decode_call(const AttentionParams& params, const AttentionArguments& a, const std::int32_t* indices,
                                std::int32_t batch) {
  require_dense(a.q, "q stride");
  require_dense(a.output.o, "o stride");
  require_aligned(a.q.data, "q");
  require_aligned(a.output.o.data, "o");
  AttentionProblem problem;
  problem.params = params;
  problem.q = a.q;
  problem.kv = a.kv;
  problem.sinks = a.sinks;
  gpu::DecodeCall call = gpu::decode_call(problem, a.output);
  call.params.table.indices = indices;  // all that D6 needs of the table: first pages and lengths are in the packed plan
  call.batch = batch;
  return call;
}

}  // namespace flashladder::api
