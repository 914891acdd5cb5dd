// What of a batch's lengths decides which kernel computes it.
#pragma once

#include <cstdint>
#include <span>

#include "api/attention_backend.hpp"

namespace flashladder::api {

// qo_lens: empty for decode.
BatchSize size_of_batch(const AttentionConfig& config, bool decode, std::span<const std::int32_t> qo_lens,
                        std::span<const std::int32_t> kv_lens);
// Of a batch whose requests of one query are as much work as its others, which have so many queries.
BatchSize size_of_mixed(const AttentionConfig& config, std::int64_t batch, std::int64_t queries);

}  // namespace flashladder::api
