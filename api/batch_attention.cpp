#include "api/batch_attention.hpp"

#include <utility>
#include <vector>

#include "api/attention_session.hpp"
#include "core/error.hpp"
#include "core/page_table.hpp"

namespace flashladder::api {
namespace {

AttentionSession::Kind kind_of(const AttentionLimits& limits) { return {.decode = false, .mixed = true, .graph = limits}; }

AttentionConfig with_sinks(AttentionConfig config) {
  config.logits.sinks = true;
  return config;
}

// Tokens in each request's last page. kv_len_arr must fill the pages of kv_indptr, the last one at least by one.
void fill_last_page_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_len_arr,
                         std::int32_t page_size, std::vector<std::int32_t>& lens) {
  require(kv_indptr.size() == kv_len_arr.size() + 1, "kv_indptr size", kv_indptr.size(), "must be that of kv_len_arr + 1");
  lens.resize(kv_len_arr.size());
  for (std::size_t b = 0; b < lens.size(); ++b) {
    const std::int64_t request = static_cast<std::int64_t>(b), pages = std::int64_t{kv_indptr[b + 1]} - kv_indptr[b];
    require(kv_len_arr[b] >= 0, "kv_len_arr", kv_len_arr[b], "must be 0 or more", request);
    require(pages == pages_for(kv_len_arr[b], page_size), "kv_len_arr", kv_len_arr[b],
            "must fill the request's pages, kv_indptr[request + 1] - kv_indptr[request], the last one at least by one token",
            request);
    lens[b] = last_page_len_for(kv_len_arr[b], page_size);
  }
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
                         std::span<const float> sinks, std::span<const std::uint8_t> custom_mask, const KvScales& scales) {
  require(!refused_, "run()", "", "must come after plan(); the last one was refused");
  session_->run({.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .custom_mask = custom_mask,
                 .scales = scales},
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
