#include "api/single_attention_gpu.hpp"

#include <optional>
#include <span>
#include <vector>

#include "api/attention_session.hpp"
#include "api/gpu_call.hpp"
#include "core/error.hpp"
#include "core/mask_bits.hpp"
#include "gpu/attention/mask_bits.hpp"
#include "gpu/check.hpp"
#include "gpu/prefill/rotated_copy.hpp"

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

// Where the parts begin of what a call takes on the device; the packed plan comes first.
struct Layout {
  std::size_t list = 0, mask_list = 0, partials = 0, copy = 0, mask_bits = 0, end = 0;
};

}  // namespace

void single_attention_on_gpu(const AttentionConfig& config, const AttentionArguments& arguments, bool decode,
                             std::int32_t qo_len, std::int32_t kv_len, Stream stream) {
  const AttentionParams params = config.params();
  const GpuChoice choice = choose_kernel(config, {.decode = decode, .ragged = true});
  GpuKernel kernel = choice.kernel_for(qo_len);
  require(!is_capturing(stream), "stream", "capturing", "can't plan, which is host work: use the CUDAGraph classes");
  std::optional<gpu::CompactedShape> copied;
  if (choice.copies == PageCopies::always && !choice.as_decode(qo_len)) {
    copied = {.requests = 1, .tokens = kv_len};
    if (choice.rotates) copied->queries = qo_len, copied->values = false;
  }

  thread_local Plan plan;
  thread_local std::vector<std::byte> packed;
  const std::span<const std::int32_t> qo_lens = decode ? std::span<const std::int32_t>{} : std::span(&qo_len, 1);
  const std::int32_t sms = sms_to_use(config.execution);
  const BatchSize size{.nnz_qo = qo_len, .batch = 1, .most_qo_len = qo_len, .most_kv_len = kv_len};
  const AttentionMachine machine = gpu_machine(kernel, copied ? gpu::behind_rotation(params) : params, size,
                                               {sms, clusters_to_use(config, sms), config.cache.dtype});
  planner::make_plan(plan_inputs(config, machine, decode, qo_lens, std::span(&kv_len, 1)), plan);
  gpu::PackedShape shape = gpu::shape_of(plan);
  if (machine.clusters > 0) kernel = GpuKernel::d7, shape.counters = shape.query_tile;

  Layout at{.list = gpu::packed_bytes(shape)};
  const gpu::MaskShape mask{.requests = 1, .words = mask_words(qo_len, std::int64_t{qo_len} * kv_len)};
  const bool custom = params.mask == MaskMode::custom;
  at.mask_list = at.list + (copied ? gpu::compaction_list_bytes(*copied) : 0);
  at.partials = at.mask_list + (custom ? gpu::mask_list_bytes(mask) : 0);
  at.copy = (at.partials + gpu::partial_bytes(shape, params.head_dim_vo) + 127) / 128 * 128;
  at.mask_bits = at.copy + (copied ? gpu::compacted_bytes(*copied, params, config.dtype_of_q()) : 0);
  at.mask_bits = (at.mask_bits + 15) / 16 * 16;
  at.end = at.mask_bits + (custom ? gpu::mask_words_bytes(mask) : 0);
  packed.resize(at.partials);
  const gpu::PageRows rows{config.cache.page_size};
  gpu::pack(plan, rows, shape, packed);
  if (copied) gpu::pack_compaction(plan, params, rows, *copied, std::span(packed).subspan(at.list));
  if (custom) gpu::pack_mask_list(plan, mask, std::span(packed).subspan(at.mask_list));

  const StreamMemory memory(at.end, cuda_stream(stream));
  // From pageable memory: the call returns when the driver has taken its own copy (CUDA Runtime API, "API synchronization
  // behavior"), so that the next call may pack again.
  gpu::check(cudaMemcpyAsync(memory.data(), packed.data(), packed.size(), cudaMemcpyHostToDevice, cuda_stream(stream)));
  require_scales(kernel, config, arguments.scales);
  gpu::AttentionCall call = gpu_attention_call(params, arguments, nullptr);
  call.programmatic = config.execution.enable_pdl;
  if (custom) {
    const gpu::MaskMemory to{mask, memory.data() + at.mask_list, memory.data() + at.mask_bits, sms};
    call = gpu::make_mask_bits(call, to, cuda_stream(stream));
  }
  if (copied) {
    const gpu::Compaction to{*copied, memory.data() + at.list, memory.data() + at.copy, sms};
    call = (choice.rotates ? gpu::rotated::copy : gpu::p11::compact_pages)(call, to, cuda_stream(stream));
  }
  attend_on_gpu(kernel, call, shape, memory.data(), memory.data() + at.partials, stream);
}

}  // namespace flashladder::api
