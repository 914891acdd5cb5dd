#include "bench/gpu/api_decode.hpp"

#include "gpu/check.hpp"

namespace flashladder::bench {
namespace {

api::AttentionConfig config_of(const ladder::CaseSpec& spec, const ApiDecode::Options& options) {
  api::AttentionConfig config =
      api::config_for(spec.params, {.page_size = spec.page_size, .dtype = spec.dtype},
                      {.device = Device::gpu, .policy = options.policy, .chunk_size = options.chunk_size,
                       .enable_pdl = options.enable_pdl});
  config.o_dtype = options.o_dtype;
  return config;
}

}  // namespace

Pinned::Pinned(std::size_t size) {
  void* memory = nullptr;
  gpu::check(cudaMallocHost(&memory, size));
  bytes = {static_cast<std::byte*>(memory), size};
}
Pinned::~Pinned() { cudaFreeHost(bytes.data()); }

ApiDecode::ApiDecode(const ladder::CaseSpec& spec, const Options& options) : indptr_{0} {
  for (const std::int32_t len : spec.kv_lens) {
    indptr_.push_back(indptr_.back() + pages_for(len, spec.page_size));
    last_page_len_.push_back(last_page_len_for(len, spec.page_size));
  }
  const api::AttentionConfig config = config_of(spec, options);
  const api::WorkspaceBytes bytes =
      api::BatchDecodeWithPagedKVCache::workspace_bytes(config, indptr_, last_page_len_);
  device_ = gpu::DeviceBuffer(bytes.device);
  staging_ = std::make_unique<Pinned>(bytes.staging);
  decode_ = std::make_shared<api::BatchDecodeWithPagedKVCache>(
      config, api::Workspace{{device_.data(), device_.size()}, staging_->bytes});
}

Launch ApiDecode::launch(const Tensor& q, const PagedKvCache& kv, std::span<const std::int32_t> paged_kv_indices,
                         const AttentionOutput& output) const {
  return [=, decode = decode_](void* stream) { decode->run(q, kv, paged_kv_indices, output, stream); };
}

}  // namespace flashladder::bench
