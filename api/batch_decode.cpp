#include "api/batch_decode.hpp"

#include <optional>
#include <utility>

#include "api/attention_session.hpp"

namespace flashladder::api {
namespace {

using Indices = std::span<const std::int32_t>;

BatchLengths page_lists(Indices paged_kv_indptr, Indices paged_kv_last_page_len) {
  return {.paged_kv_indptr = paged_kv_indptr, .paged_kv_last_page_len = paged_kv_last_page_len};
}

BatchLengths on_device(const DeviceBlockTableLengths& lengths) {
  return {.block_table = BlockTableLengths{lengths.seq_lens, lengths.max_pages}, .max_seq_len = lengths.max_seq_len};
}
BatchLengths on_device(const DevicePageListLengths& lengths) {
  return {.paged_kv_indptr = lengths.paged_kv_indptr, .paged_kv_last_page_len = lengths.paged_kv_last_page_len,
          .max_seq_len = lengths.max_seq_len};
}

AttentionSession session(const AttentionConfig& config, const std::optional<AttentionLimits>& graph = {}) {
  return {config, {.decode = true, .graph = graph}};
}

std::unique_ptr<AttentionSession> attached(const AttentionConfig& config, const std::optional<AttentionLimits>& graph,
                                           const Workspace& workspace) {
  auto made = std::make_unique<AttentionSession>(session(config, graph));
  made->attach(workspace);
  return made;
}

}  // namespace

WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const AttentionConfig& config, Indices paged_kv_indptr,
                                                            Indices paged_kv_last_page_len) {
  return session(config).bytes_for(page_lists(paged_kv_indptr, paged_kv_last_page_len));
}
WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const AttentionConfig& config,
                                                            const BlockTableLengths& lengths) {
  return session(config).bytes_for({.block_table = lengths});
}
WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits) {
  return session(config).bytes_for(limits);
}
WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const AttentionConfig& config,
                                                            const DeviceBlockTableLengths& lengths) {
  return session(config).bytes_for(on_device(lengths));
}
WorkspaceBytes BatchDecodeWithPagedKVCache::workspace_bytes(const AttentionConfig& config,
                                                            const DevicePageListLengths& lengths) {
  return session(config).bytes_for(on_device(lengths));
}

BatchDecodeWithPagedKVCache::BatchDecodeWithPagedKVCache(const AttentionConfig& config, const Workspace& workspace)
    : session_(attached(config, {}, workspace)) {}
BatchDecodeWithPagedKVCache::~BatchDecodeWithPagedKVCache() = default;
BatchDecodeWithPagedKVCache::BatchDecodeWithPagedKVCache(BatchDecodeWithPagedKVCache&&) noexcept = default;
BatchDecodeWithPagedKVCache& BatchDecodeWithPagedKVCache::operator=(BatchDecodeWithPagedKVCache&&) noexcept = default;

void BatchDecodeWithPagedKVCache::plan(Indices paged_kv_indptr, Indices paged_kv_last_page_len, Stream stream) {
  session_->plan(page_lists(paged_kv_indptr, paged_kv_last_page_len), {}, Device::cpu, stream);
}
void BatchDecodeWithPagedKVCache::plan(const BlockTableLengths& lengths, Stream stream) {
  session_->plan({.block_table = lengths}, {}, Device::cpu, stream);
}
void BatchDecodeWithPagedKVCache::plan(const DeviceBlockTableLengths& lengths, Stream stream) {
  session_->plan(on_device(lengths), {}, Device::cpu, stream);
}
void BatchDecodeWithPagedKVCache::plan(const DevicePageListLengths& lengths, Stream stream) {
  session_->plan(on_device(lengths), {}, Device::cpu, stream);
}

void BatchDecodeWithPagedKVCache::run(const ConstTensor& q, const PagedKvCache& kv, Indices page_ids,
                                      const AttentionOutput& output, Stream stream, std::span<const float> sinks,
                                      std::span<const std::uint8_t> custom_mask, const KvScales& scales) {
  session_->run({.q = q, .kv = kv, .page_ids = page_ids, .output = output, .sinks = sinks, .custom_mask = custom_mask,
                 .scales = scales},
                stream);
}

const Plan& BatchDecodeWithPagedKVCache::current_plan() const { return session_->current_plan(); }

WorkspaceBytes CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(const AttentionConfig& config,
                                                                     const AttentionLimits& limits) {
  return session(config, limits).bytes_for(limits);
}

CUDAGraphBatchDecodeWithPagedKVCache::CUDAGraphBatchDecodeWithPagedKVCache(const AttentionConfig& config,
                                                                           const AttentionLimits& limits,
                                                                           const Workspace& workspace)
    : session_(attached(config, limits, workspace)) {}
CUDAGraphBatchDecodeWithPagedKVCache::~CUDAGraphBatchDecodeWithPagedKVCache() = default;
CUDAGraphBatchDecodeWithPagedKVCache::CUDAGraphBatchDecodeWithPagedKVCache(
    CUDAGraphBatchDecodeWithPagedKVCache&&) noexcept = default;
CUDAGraphBatchDecodeWithPagedKVCache& CUDAGraphBatchDecodeWithPagedKVCache::operator=(
    CUDAGraphBatchDecodeWithPagedKVCache&&) noexcept = default;

void CUDAGraphBatchDecodeWithPagedKVCache::plan(Indices paged_kv_indptr, Indices paged_kv_indices,
                                                Indices paged_kv_last_page_len, Stream stream, Device indices_on) {
  session_->plan(page_lists(paged_kv_indptr, paged_kv_last_page_len), paged_kv_indices, indices_on, stream);
}
void CUDAGraphBatchDecodeWithPagedKVCache::plan(const BlockTableLengths& lengths, Indices block_tables, Stream stream,
                                                Device indices_on) {
  session_->plan({.block_table = lengths}, block_tables, indices_on, stream);
}

void CUDAGraphBatchDecodeWithPagedKVCache::run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output,
                                               Stream stream, std::span<const float> sinks, const KvScales& scales) {
  session_->run({.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .scales = scales}, stream);
}

const Plan& CUDAGraphBatchDecodeWithPagedKVCache::current_plan() const { return session_->current_plan(); }

}  // namespace flashladder::api
