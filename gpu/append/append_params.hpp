// What the append without RoPE is given. It moves pieces (16 bytes, or one element) and knows no dtype: all strides and dims
// count pieces.
#pragma once

#include <cstdint>

#include "gpu/kv_pages.hpp"
#include "gpu/rope/rope_params.hpp"

namespace flashladder::gpu {

struct AppendParams {
  HeadRows k, v;                                 // the new rows
  KvPages kv;                                    // where they go
  const std::int32_t* indptr = nullptr;          // [num_requests + 1], where each request's pages begin
  const std::int32_t* batch_indices = nullptr;   // [nnz]
  const std::int32_t* positions = nullptr;       // [nnz]
  std::int32_t nnz = 0;
};

}  // namespace flashladder::gpu
