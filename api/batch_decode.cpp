#include "api/batch_decode.hpp"

#include <utility>

#include "api/decode_session.hpp"

namespace flashladder::api {

using Indices = std::span<const std::int32_t>;

WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const DecodeConfig& config, Indices paged_kv_indptr,
                                                            Indices paged_kv_last_page_len) {
  return DecodeSession(config, {}).bytes_for(paged_kv_indptr, paged_kv_last_page_len);
}
WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const DecodeConfig& config, const DecodeLimits& limits) {
  return DecodeSession(config, {}).bytes_for(limits);
}

BatchDecodeWithPagedKVCache::BatchDecodeWithPagedKVCache(const DecodeConfig& config, const Workspace& workspace)
    : session_(std::make_unique<DecodeSession>(config, std::nullopt)) {
  session_->attach(workspace);
}
BatchDecodeWithPagedKVCache::~BatchDecodeWithPagedKVCache() = default;
BatchDecodeWithPagedKVCache::BatchDecodeWithPagedKVCache(BatchDecodeWithPagedKVCache&&) noexcept = default;
BatchDecodeWithPagedKVCache& BatchDecodeWithPagedKVCache::operator=(BatchDecodeWithPagedKVCache&&) noexcept = default;

void BatchDecodeWithPagedKVCache::plan(Indices paged_kv_indptr, Indices paged_kv_last_page_len, Stream stream) {
  session_->plan(paged_kv_indptr, paged_kv_last_page_len, {}, Device::cpu, stream);
}

void BatchDecodeWithPagedKVCache::run(const Tensor& q, const PagedKvCache& kv, Indices paged_kv_indices,
                                      const AttentionOutput& output, Stream stream, std::span<const float> sinks) {
  session_->run({q, kv, paged_kv_indices, output, sinks}, stream);
}

const Plan& BatchDecodeWithPagedKVCache::current_plan() const { return session_->current_plan(); }

WorkspaceBytes CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(const DecodeConfig& config,
                                                                     const DecodeLimits& limits) {
  return DecodeSession(config, limits).bytes_for(limits);
}

CUDAGraphBatchDecodeWithPagedKVCache::CUDAGraphBatchDecodeWithPagedKVCache(const DecodeConfig& config,
                                                                           const DecodeLimits& limits,
                                                                           const Workspace& workspace)
    : session_(std::make_unique<DecodeSession>(config, limits)) {
  session_->attach(workspace);
}
CUDAGraphBatchDecodeWithPagedKVCache::~CUDAGraphBatchDecodeWithPagedKVCache() = default;
CUDAGraphBatchDecodeWithPagedKVCache::CUDAGraphBatchDecodeWithPagedKVCache(
    CUDAGraphBatchDecodeWithPagedKVCache&&) noexcept = default;
CUDAGraphBatchDecodeWithPagedKVCache& CUDAGraphBatchDecodeWithPagedKVCache::operator=(
    CUDAGraphBatchDecodeWithPagedKVCache&&) noexcept = default;

void CUDAGraphBatchDecodeWithPagedKVCache::plan(Indices paged_kv_indptr, Indices paged_kv_indices,
                                                Indices paged_kv_last_page_len, Stream stream, Device indices_on) {
  session_->plan(paged_kv_indptr, paged_kv_last_page_len, paged_kv_indices, indices_on, stream);
}

void CUDAGraphBatchDecodeWithPagedKVCache::run(const Tensor& q, const PagedKvCache& kv, const AttentionOutput& output,
                                               Stream stream, std::span<const float> sinks) {
  session_->run({q, kv, {}, output, sinks}, stream);
}

const Plan& CUDAGraphBatchDecodeWithPagedKVCache::current_plan() const { return session_->current_plan(); }

}  // namespace flashladder::api
