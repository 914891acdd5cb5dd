// What becomes of pages that the fastest prefill kernel can't read: P11 takes pages of 8 tokens and multiples of 8, and runs
// on a copy of K and V for the others (gpu/prefill/compact_pages.hpp). The rule when that pays.
//
// Copying reads and writes each key and value that some query sees, once. Then P11 computes, about twice as fast as P5,
// which reads pages of any size where they lie. So it is a question of how many rows use a key: with the rates below, 338
// packed rows a key on average, whatever the head dims; 84 queries where a KV head serves 4 query heads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "api/attention_config.hpp"

namespace flashladder::api {

// What a backend does with the pages of a config.
enum class PageCopies : std::uint8_t {
  never,        // reads them where they lie
  where_it_pays,
  always,       // backend fa3, asked for; RoPE inside attention or an 8-bit cache, also a ragged one: there is no other way
};

// What is done with the pages of one batch, or of a graph; and why.
enum class PageUse : std::uint8_t {
  in_place,          // as asked, or because the kernel reads them so
  copied,
  by_batch,          // nothing is planned yet
  too_few_queries,   // the others are in place too
  too_many_tokens,   // 2^31 or more
  invariant_bits,    // policies fixed and none: which kernel computes must not depend on the neighbours
  too_little_memory,
};
constexpr bool is_copied(PageUse use) { return use == PageUse::copied; }
// "" for those that need no reason.
std::string why_in_place(PageUse use);

// Of all requests: keys that some query sees, and pairs of a query and a key that it sees (of a custom mask: may see).
struct SeenKeys {
  double keys = 0, pairs = 0;
};
SeenKeys seen_keys(const AttentionParams& params, std::span<const std::int32_t> qo_lens,
                   std::span<const std::int32_t> kv_lens);
// Of the largest batch within the limits, if all its requests are alike.
SeenKeys seen_keys(const AttentionParams& params, const AttentionLimits& limits, std::int32_t page_size);

// Rows that a copy of a batch within the limits may have, and that any copy may have: P11 counts them in 32 bits.
constexpr std::int64_t most_copied_rows = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t most_tokens(const AttentionLimits& limits, std::int32_t page_size) {
  return limits.max_pages * page_size;
}

// Queries of one request.
constexpr std::int64_t most_qo_len(const AttentionLimits& limits) {
  const std::int64_t nnz_qo = limits.max_nnz_qo.value_or(0);
  return limits.max_qo_len ? std::min<std::int64_t>(*limits.max_qo_len, nnz_qo) : nnz_qo;
}

bool worth_copying(const AttentionParams& params, const SeenKeys& seen);
// Some batch whose requests have at most so many queries.
bool may_be_worth_copying(const AttentionParams& params, std::int64_t most_qo_len);

}  // namespace flashladder::api
