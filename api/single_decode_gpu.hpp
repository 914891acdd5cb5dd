// The GPU's part of single_decode_with_kv_cache.
#pragma once

#include <cstdint>

#include "api/attention_backend.hpp"

namespace flashladder::api {

// arguments: checked; one request of kv_len tokens in identity pages. Only in a build with CUDA.
void single_decode_on_gpu(const AttentionConfig& config, const AttentionArguments& arguments, std::int32_t kv_len,
                          Stream stream);

}  // namespace flashladder::api
