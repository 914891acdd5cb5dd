#include "api/batch_attention.hpp"

#include <utility>
#include <vector>

#include "api/attention_session.hpp"
#include "api/kv_len_arr.hpp"
#include "core/error.hpp"

namespace flashladder::api {
namespace {

AttentionSession::Kind kind_of(const AttentionLimits& limits) { return {.decode = false, .mixed = true, .graph = limits}; }

AttentionConfig with_sinks(AttentionConfig config) {
  config.logits.sinks = true;
  return config;
}

}  // namespace

WorkspaceBytes BatchAttention::workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits) {
  return AttentionSession(config, kind_of(limits)).bytes_for(limits);
}

BatchAttention::BatchAttention(const AttentionConfig& config, const AttentionLimits& limits, const Workspace& workspace)
    : page_size_(config.cache.page_size), session_(std::make_unique<AttentionSession>(config, kind_of(limits))) {
  session_->attach(workspace);
}
BatchAttention::~BatchAttention() = default;
BatchAttention::BatchAttention(BatchAttention&&) noexcept = default;
BatchAttention& BatchAttention::operator=(BatchAttention&&) noexcept = default;

void BatchAttention::plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr,
                          std::span<const std::int32_t> kv_indices, std::span<const std::int32_t> kv_len_arr, Stream stream,
                          Device indices_on) {
  refused_ = true;  // until all is well
  fill_last_page_lens(kv_indptr, kv_len_arr, page_size_, last_page_len_);
  refused_ = false;  // what is refused from here on the session keeps in mind
  session_->plan({.qo_indptr = qo_indptr, .paged_kv_indptr = kv_indptr, .paged_kv_last_page_len = last_page_len_}, kv_indices,
                 indices_on, stream);
}

void BatchAttention::run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output, Stream stream,
                         std::span<const float> sinks, std::span<const std::uint8_t> custom_mask, const KvScales& scales,
                         std::span<const std::uint8_t> packed_custom_mask) {
  require(!refused_, "run()", "", "must come after plan(); the last one was refused");
  session_->run({.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .custom_mask = custom_mask,
                 .packed_custom_mask = packed_custom_mask, .scales = scales},
                stream);
}

const Plan& BatchAttention::current_plan() const { return session_->current_plan(); }
std::string BatchAttention::explain() const { return session_->explain(); }

WorkspaceBytes BatchAttentionWithAttentionSink::workspace_bytes(AttentionConfig config, const AttentionLimits& limits) {
  return BatchAttention::workspace_bytes(with_sinks(std::move(config)), limits);
}
BatchAttentionWithAttentionSink::BatchAttentionWithAttentionSink(AttentionConfig config, const AttentionLimits& limits,
                                                                 const Workspace& workspace)
    : attention_(with_sinks(std::move(config)), limits, workspace) {}

}  // namespace flashladder::api
