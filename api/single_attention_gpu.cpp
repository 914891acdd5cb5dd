#include "api/single_attention_gpu.hpp"

#include <span>
#include <vector>

#include "api/attention_session.hpp"
#include "api/gpu_call.hpp"
#include "core/error.hpp"
#include "gpu/check.hpp"

namespace flashladder::api {
namespace {

// From the stream's memory pool, given back behind whatever is enqueued until then.
class StreamMemory {
 public:
  StreamMemory(std::size_t bytes, cudaStream_t stream) : stream_(stream) {
    gpu::check(cudaMallocAsync(&data_, bytes, stream));
  }
  ~StreamMemory() { cudaFreeAsync(data_, stream_); }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  cudaStream_t stream_;
  void* data_ = nullptr;
};

}  // namespace

void single_attention_on_gpu(const AttentionConfig& config, const AttentionArguments& arguments, bool decode,
                             std::int32_t qo_len, std::int32_t kv_len, Stream stream) {
  const AttentionParams params = config.params();
  GpuKernel kernel = choose_kernel(config, {.decode = decode, .ragged = true}).kernel_for(qo_len);
  require(!is_capturing(stream), "stream", "capturing", "can't plan, which is host work: use the CUDAGraph classes");
  thread_local Plan plan;
  thread_local std::vector<std::byte> packed;
  const std::span<const std::int32_t> qo_lens = decode ? std::span<const std::int32_t>{} : std::span(&qo_len, 1);
  const std::int32_t sms = sms_to_use(config.execution);
  const AttentionMachine machine =
      gpu_machine(kernel, params, {.nnz_qo = qo_len, .batch = 1, .most_qo_len = qo_len, .most_kv_len = kv_len},
                  {.num_sms = sms, .clusters = clusters_to_use(config, sms)});
  planner::make_plan(plan_inputs(config, machine, decode, qo_lens, std::span(&kv_len, 1)), plan);
  gpu::PackedShape shape = gpu::shape_of(plan);
  if (machine.clusters > 0) kernel = GpuKernel::d7, shape.counters = shape.query_tile;
  packed.resize(gpu::packed_bytes(shape));
  gpu::pack(plan, {config.cache.page_size}, shape, packed);

  const StreamMemory memory(packed.size() + gpu::partial_bytes(shape, params.head_dim_vo), cuda_stream(stream));
  // From pageable memory: the call returns when the driver has taken its own copy (CUDA Runtime API, "API synchronization
  // behavior"), so that the next call may pack again.
  gpu::check(cudaMemcpyAsync(memory.data(), packed.data(), packed.size(), cudaMemcpyHostToDevice, cuda_stream(stream)));
  gpu::AttentionCall call = gpu_attention_call(params, arguments, nullptr);
  call.programmatic = config.execution.enable_pdl;
  attend_on_gpu(kernel, call, shape, memory.data(), memory.data() + packed.size(), stream);
}

}  // namespace flashladder::api
