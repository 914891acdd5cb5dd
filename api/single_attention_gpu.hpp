// The GPU's part of single_decode_with_kv_cache and single_prefill_with_kv_cache.
#pragma once

#include <cstdint>

#include "api/attention_backend.hpp"

namespace flashladder::api {

// arguments: checked; one request of so many queries, and of kv_len tokens in identity pages. Only in a build with CUDA.
void single_attention_on_gpu(const AttentionConfig& config, const AttentionArguments& arguments, bool decode,
                             std::int32_t qo_len, std::int32_t kv_len, Stream stream);

}  // namespace flashladder::api
