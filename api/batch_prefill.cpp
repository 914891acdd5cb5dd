#include "api/batch_prefill.hpp"

#include <utility>

#include "api/attention_session.hpp"
#include "api/contiguous_cache.hpp"

namespace flashladder::api {
namespace {

using Indices = std::span<const std::int32_t>;

BatchLengths page_lists(Indices qo_indptr, Indices paged_kv_indptr, Indices paged_kv_last_page_len) {
  return {.qo_indptr = qo_indptr, .paged_kv_indptr = paged_kv_indptr, .paged_kv_last_page_len = paged_kv_last_page_len};
}

BatchLengths on_device(const DeviceQueryLengths& queries, const DeviceBlockTableLengths& lengths) {
  return {.qo_indptr = queries.qo_indptr, .block_table = BlockTableLengths{lengths.seq_lens, lengths.max_pages},
          .max_seq_len = lengths.max_seq_len, .most_queries = MostQueries{queries.max_nnz_qo, queries.max_qo_len}};
}
BatchLengths on_device(const DeviceQueryLengths& queries, const DevicePageListLengths& lengths) {
  return {.qo_indptr = queries.qo_indptr, .paged_kv_indptr = lengths.paged_kv_indptr,
          .paged_kv_last_page_len = lengths.paged_kv_last_page_len, .max_seq_len = lengths.max_seq_len,
          .most_queries = MostQueries{queries.max_nnz_qo, queries.max_qo_len}};
}

using Kind = AttentionSession::Kind;
const Kind paged{.decode = false}, ragged{.decode = false, .ragged = true};
Kind graph_of(const AttentionLimits& limits) { return {.decode = false, .graph = limits}; }
Kind ragged_graph_of(const AttentionLimits& limits) { return {.decode = false, .ragged = true, .graph = limits}; }

AttentionArguments without_pages(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                 const AttentionOutput& output, std::span<const float> sinks,
                                 std::span<const std::uint8_t> custom_mask, const KvScales& scales,
                                 std::span<const std::uint8_t> packed_custom_mask) {
  return {.q = q, .kv = token_cache(k, v, KvLayout::NHD), .page_ids = {}, .identity_pages = true, .output = output,
          .sinks = sinks, .custom_mask = custom_mask, .packed_custom_mask = packed_custom_mask, .scales = scales};
}

std::unique_ptr<AttentionSession> attached(const AttentionConfig& config, const Kind& kind, const Workspace& workspace) {
  auto made = std::make_unique<AttentionSession>(config, kind);
  made->attach(workspace);
  return made;
}

}  // namespace

WorkspaceBytes BatchPrefillWithPagedKVCache::workspace_bytes(const AttentionConfig& config, Indices qo_indptr,
                                                             Indices paged_kv_indptr, Indices paged_kv_last_page_len) {
  return AttentionSession(config, paged).bytes_for(page_lists(qo_indptr, paged_kv_indptr, paged_kv_last_page_len));
}
WorkspaceBytes BatchPrefillWithPagedKVCache::workspace_bytes(const AttentionConfig& config, Indices qo_indptr,
                                                             const BlockTableLengths& lengths) {
  return AttentionSession(config, paged).bytes_for({.qo_indptr = qo_indptr, .block_table = lengths});
}
WorkspaceBytes BatchPrefillWithPagedKVCache::workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits) {
  return AttentionSession(config, paged).bytes_for(limits);
}
WorkspaceBytes BatchPrefillWithPagedKVCache::workspace_bytes(const AttentionConfig& config, const DeviceQueryLengths& queries,
                                                             const DeviceBlockTableLengths& lengths) {
  return AttentionSession(config, paged).bytes_for(on_device(queries, lengths));
}
WorkspaceBytes BatchPrefillWithPagedKVCache::workspace_bytes(const AttentionConfig& config, const DeviceQueryLengths& queries,
                                                             const DevicePageListLengths& lengths) {
  return AttentionSession(config, paged).bytes_for(on_device(queries, lengths));
}

BatchPrefillWithPagedKVCache::BatchPrefillWithPagedKVCache(const AttentionConfig& config, const Workspace& workspace)
    : session_(attached(config, paged, workspace)) {}
BatchPrefillWithPagedKVCache::~BatchPrefillWithPagedKVCache() = default;
BatchPrefillWithPagedKVCache::BatchPrefillWithPagedKVCache(BatchPrefillWithPagedKVCache&&) noexcept = default;
BatchPrefillWithPagedKVCache& BatchPrefillWithPagedKVCache::operator=(BatchPrefillWithPagedKVCache&&) noexcept = default;

void BatchPrefillWithPagedKVCache::plan(Indices qo_indptr, Indices paged_kv_indptr, Indices paged_kv_last_page_len,
                                        Stream stream) {
  session_->plan(page_lists(qo_indptr, paged_kv_indptr, paged_kv_last_page_len), {}, Device::cpu, stream);
}
void BatchPrefillWithPagedKVCache::plan(Indices qo_indptr, const BlockTableLengths& lengths, Stream stream) {
  session_->plan({.qo_indptr = qo_indptr, .block_table = lengths}, {}, Device::cpu, stream);
}
void BatchPrefillWithPagedKVCache::plan(const DeviceQueryLengths& queries, const DeviceBlockTableLengths& lengths,
                                        Stream stream) {
  session_->plan(on_device(queries, lengths), {}, Device::cpu, stream);
}
void BatchPrefillWithPagedKVCache::plan(const DeviceQueryLengths& queries, const DevicePageListLengths& lengths,
                                        Stream stream) {
  session_->plan(on_device(queries, lengths), {}, Device::cpu, stream);
}

void BatchPrefillWithPagedKVCache::run(const ConstTensor& q, const PagedKvCache& kv, Indices page_ids,
                                       const AttentionOutput& output, Stream stream, std::span<const float> sinks,
                                       std::span<const std::uint8_t> custom_mask, const KvScales& scales,
                                       std::span<const std::uint8_t> packed_custom_mask) {
  session_->run({.q = q, .kv = kv, .page_ids = page_ids, .output = output, .sinks = sinks, .custom_mask = custom_mask,
                 .packed_custom_mask = packed_custom_mask, .scales = scales},
                stream);
}

const Plan& BatchPrefillWithPagedKVCache::current_plan() const { return session_->current_plan(); }
std::string BatchPrefillWithPagedKVCache::explain() const { return session_->explain(); }

WorkspaceBytes CUDAGraphBatchPrefillWithPagedKVCache::workspace_bytes(const AttentionConfig& config,
                                                                      const AttentionLimits& limits) {
  return AttentionSession(config, graph_of(limits)).bytes_for(limits);
}

CUDAGraphBatchPrefillWithPagedKVCache::CUDAGraphBatchPrefillWithPagedKVCache(const AttentionConfig& config,
                                                                             const AttentionLimits& limits,
                                                                             const Workspace& workspace)
    : session_(attached(config, graph_of(limits), workspace)) {}
CUDAGraphBatchPrefillWithPagedKVCache::~CUDAGraphBatchPrefillWithPagedKVCache() = default;
CUDAGraphBatchPrefillWithPagedKVCache::CUDAGraphBatchPrefillWithPagedKVCache(
    CUDAGraphBatchPrefillWithPagedKVCache&&) noexcept = default;
CUDAGraphBatchPrefillWithPagedKVCache& CUDAGraphBatchPrefillWithPagedKVCache::operator=(
    CUDAGraphBatchPrefillWithPagedKVCache&&) noexcept = default;

void CUDAGraphBatchPrefillWithPagedKVCache::plan(Indices qo_indptr, Indices paged_kv_indptr, Indices paged_kv_indices,
                                                 Indices paged_kv_last_page_len, Stream stream, Device indices_on) {
  session_->plan(page_lists(qo_indptr, paged_kv_indptr, paged_kv_last_page_len), paged_kv_indices, indices_on, stream);
}
void CUDAGraphBatchPrefillWithPagedKVCache::plan(Indices qo_indptr, const BlockTableLengths& lengths, Indices block_tables,
                                                 Stream stream, Device indices_on) {
  session_->plan({.qo_indptr = qo_indptr, .block_table = lengths}, block_tables, indices_on, stream);
}

void CUDAGraphBatchPrefillWithPagedKVCache::run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output,
                                                Stream stream, std::span<const float> sinks,
                                                std::span<const std::uint8_t> custom_mask, const KvScales& scales,
                                                std::span<const std::uint8_t> packed_custom_mask) {
  session_->run({.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .custom_mask = custom_mask,
                 .packed_custom_mask = packed_custom_mask, .scales = scales},
                stream);
}

const Plan& CUDAGraphBatchPrefillWithPagedKVCache::current_plan() const { return session_->current_plan(); }
std::string CUDAGraphBatchPrefillWithPagedKVCache::explain() const { return session_->explain(); }

WorkspaceBytes BatchPrefillWithRaggedKVCache::workspace_bytes(const AttentionConfig& config, Indices qo_indptr,
                                                              Indices kv_indptr) {
  return AttentionSession(config, ragged).bytes_for({.qo_indptr = qo_indptr, .kv_indptr = kv_indptr});
}
WorkspaceBytes BatchPrefillWithRaggedKVCache::workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits) {
  return AttentionSession(config, ragged).bytes_for(limits);
}

BatchPrefillWithRaggedKVCache::BatchPrefillWithRaggedKVCache(const AttentionConfig& config, const Workspace& workspace)
    : session_(attached(config, ragged, workspace)) {}
BatchPrefillWithRaggedKVCache::~BatchPrefillWithRaggedKVCache() = default;
BatchPrefillWithRaggedKVCache::BatchPrefillWithRaggedKVCache(BatchPrefillWithRaggedKVCache&&) noexcept = default;
BatchPrefillWithRaggedKVCache& BatchPrefillWithRaggedKVCache::operator=(BatchPrefillWithRaggedKVCache&&) noexcept = default;

void BatchPrefillWithRaggedKVCache::plan(Indices qo_indptr, Indices kv_indptr, Stream stream) {
  session_->plan({.qo_indptr = qo_indptr, .kv_indptr = kv_indptr}, {}, Device::cpu, stream);
}

void BatchPrefillWithRaggedKVCache::run(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                        const AttentionOutput& output, Stream stream, std::span<const float> sinks,
                                        std::span<const std::uint8_t> custom_mask, const KvScales& scales,
                                        std::span<const std::uint8_t> packed_custom_mask) {
  session_->run(without_pages(q, k, v, output, sinks, custom_mask, scales, packed_custom_mask), stream);
}

const Plan& BatchPrefillWithRaggedKVCache::current_plan() const { return session_->current_plan(); }
std::string BatchPrefillWithRaggedKVCache::explain() const { return session_->explain(); }

WorkspaceBytes CUDAGraphBatchPrefillWithRaggedKVCache::workspace_bytes(const AttentionConfig& config,
                                                                       const AttentionLimits& limits) {
  return AttentionSession(config, ragged_graph_of(limits)).bytes_for(limits);
}

CUDAGraphBatchPrefillWithRaggedKVCache::CUDAGraphBatchPrefillWithRaggedKVCache(const AttentionConfig& config,
                                                                               const AttentionLimits& limits,
                                                                               const Workspace& workspace)
    : session_(attached(config, ragged_graph_of(limits), workspace)) {}
CUDAGraphBatchPrefillWithRaggedKVCache::~CUDAGraphBatchPrefillWithRaggedKVCache() = default;
CUDAGraphBatchPrefillWithRaggedKVCache::CUDAGraphBatchPrefillWithRaggedKVCache(
    CUDAGraphBatchPrefillWithRaggedKVCache&&) noexcept = default;
CUDAGraphBatchPrefillWithRaggedKVCache& CUDAGraphBatchPrefillWithRaggedKVCache::operator=(
    CUDAGraphBatchPrefillWithRaggedKVCache&&) noexcept = default;

void CUDAGraphBatchPrefillWithRaggedKVCache::plan(Indices qo_indptr, Indices kv_indptr, Stream stream) {
  session_->plan({.qo_indptr = qo_indptr, .kv_indptr = kv_indptr}, {}, Device::cpu, stream);
}

void CUDAGraphBatchPrefillWithRaggedKVCache::run(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                                 const AttentionOutput& output, Stream stream, std::span<const float> sinks,
                                                 std::span<const std::uint8_t> custom_mask, const KvScales& scales,
                                                 std::span<const std::uint8_t> packed_custom_mask) {
  session_->run(without_pages(q, k, v, output, sinks, custom_mask, scales, packed_custom_mask), stream);
}

const Plan& CUDAGraphBatchPrefillWithRaggedKVCache::current_plan() const { return session_->current_plan(); }
std::string CUDAGraphBatchPrefillWithRaggedKVCache::explain() const { return session_->explain(); }

}  // namespace flashladder::api
