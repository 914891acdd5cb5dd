// The GPU's part of single_decode_with_kv_cache.
#pragma once

#include <cstdint>

#include "api/decode_backend.hpp"

namespace flashladder::api {

// arguments: checked; one request of kv_len tokens in one page. Only in a build with CUDA.
void single_decode_on_gpu(const DecodeConfig& config, const DecodeArguments& arguments, std::int32_t kv_len, Stream stream);

}  // namespace flashladder::api
