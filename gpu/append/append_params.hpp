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
  // By requests and positions, or by slots (gpu/slot_halves.hpp).
  const std::int32_t* indptr = nullptr;          // [num_requests + 1], where each request's pages begin; null: by slots
  const std::int32_t* batch_indices = nullptr;   // [nnz], every index_bytes
  const std::int32_t* positions = nullptr;       // [nnz], every index_bytes
  std::int32_t index_bytes = 4;
  std::int32_t nnz = 0;
};

}  // namespace flashladder::gpu
