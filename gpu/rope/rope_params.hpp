// What the RoPE kernels are given, alone (in place) and with the append, and how a call is cut into threads.
#pragma once

#include <cstdint>
#include <span>

#include "core/kv_cache.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

struct HeadRows {  // [nnz, num_heads, dim], dense along dim
  void* data = nullptr;
  std::int64_t token = 0, head = 0;  // strides, in elements
  std::int32_t num_heads = 0, dim = 0;
};
HeadRows head_rows(const Tensor& t);

// A token's heads are worked through in this order: q, k, v. Without an append there is no v, and k goes where it came from.
struct RopeParams {
  HeadRows q, k, v;
  const std::int32_t* positions = nullptr;      // [nnz]
  const std::int32_t* batch_indices = nullptr;  // [nnz]; append only, like all that follows
  std::int32_t nnz = 0, rotary_dim = 0;
  void* k_pool = nullptr;
  void* v_pool = nullptr;
  KvStrides k_strides, v_strides;
  PageTable table;

  FL_HD constexpr std::int32_t num_heads() const { return q.num_heads + k.num_heads + v.num_heads; }
};

// `lanes` threads share a head; `slots` of them a token: slot s takes heads s, s + slots, ..., `heads_at_once` at a time; a
// block has tokens_in_block tokens.
struct TokenShape {
  std::int32_t lanes = 1, slots = 1, tokens_in_block = 1;
  int heads_at_once = 1;

  FL_HD constexpr std::int32_t threads_of_token() const { return lanes * slots; }
  std::int64_t blocks(std::int64_t nnz) const { return (nnz + tokens_in_block - 1) / tokens_in_block; }
  int threads() const { return threads_of_token() * tokens_in_block; }
};

// Few tokens: a head for each group of lanes, in blocks of up to 1024 threads; the time is a chain of loads and one store.
// Many: `many` heads at once, so that their loads are on their way together, in blocks of up to 256 threads.
constexpr int most_token_threads(int heads_at_once) { return heads_at_once == 1 ? 1024 : 256; }
TokenShape token_shape(std::int64_t nnz, std::int32_t num_heads, std::int32_t lanes, int many, int multiprocessors);

// Does it, and do all heads (of 16-bit elements), begin at multiples of 16 bytes?
bool is_aligned(const void* data);
bool is_aligned(const HeadRows& rows);
bool is_aligned(const void* pool, const KvStrides& strides);

}  // namespace flashladder::gpu
