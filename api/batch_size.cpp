#include "api/batch_size.hpp"

#include <algorithm>

#include "gpu/prefill/mixed_cost.hpp"

namespace flashladder::api {
namespace {

// Keys of a request's one query, and pairs of many. Without the corners of a window: they are for a prediction.
std::int64_t seen_by_one(const LogitsConfig& logits, std::int64_t kv_len) {
  return logits.window_left < 0 ? kv_len : std::min<std::int64_t>(kv_len, std::int64_t{logits.window_left} + 1);
}
std::int64_t seen_pairs(const LogitsConfig& logits, std::int64_t qo_len, std::int64_t kv_len) {
  const std::int64_t hidden = logits.mask == MaskMode::causal ? std::min(qo_len, kv_len) / 2 : 0;
  return qo_len * std::min(kv_len - hidden, seen_by_one(logits, kv_len));
}

}  // namespace

BatchSize size_of_batch(const AttentionConfig& config, bool decode, std::span<const std::int32_t> qo_lens,
                        std::span<const std::int32_t> kv_lens) {
  BatchSize size{.batch = std::ssize(kv_lens)};
  std::int64_t most_kv_len = 0;
  for (std::size_t b = 0; b < kv_lens.size(); ++b) {
    if (decode || qo_lens[b] > 0) most_kv_len = std::max<std::int64_t>(most_kv_len, kv_lens[b]);
  }
  size.most_kv_len = most_kv_len;
  for (std::size_t b = 0; b < qo_lens.size(); ++b) {
    const std::int64_t len = qo_lens[b];
    size.nnz_qo += len;
    size.most_qo_len = std::max(size.most_qo_len, len);
    if (len == 1) size.decode_keys += seen_by_one(config.logits, kv_lens[b]);
    if (len <= 1) continue;
    size.prefill_pairs += seen_pairs(config.logits, len, kv_lens[b]);
    size.prefill_queries += len, ++size.prefill_requests, size.prefill_keys += kv_lens[b];
  }
  return size;
}

BatchSize size_of_mixed(const AttentionConfig& config, std::int64_t batch, std::int64_t queries) {
  // So many pairs of a query head cost what a key costs a KV head: the parts are of one size.
  constexpr auto pairs_of_a_key = static_cast<std::int64_t>(gpu::p12::operations_per_us / gpu::p12::bytes_per_us);
  return {.nnz_qo = batch + queries, .batch = batch, .most_qo_len = queries,
          .decode_keys = config.heads.num_qo_heads, .prefill_pairs = pairs_of_a_key * config.heads.num_kv_heads,
          .prefill_queries = queries, .prefill_requests = batch};
}

}  // namespace flashladder::api
