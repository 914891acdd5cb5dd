// What the RoPE kernels are given, in place and with the append, and how a call is cut into threads.
#pragma once

#include <cstdint>
#include <span>

#include "core/range.hpp"
#include "core/rope.hpp"
#include "core/tensor.hpp"
#include "gpu/kv_pages.hpp"

namespace flashladder::gpu {

struct HeadRows {  // [nnz, num_heads, dim], dense along dim
  void* data = nullptr;  // q is rotated in place; new keys and values are only read
  std::int64_t token = 0, head = 0;  // strides, in elements
  std::int32_t num_heads = 0, dim = 0;
};
HeadRows head_rows(const ConstTensor& t);

// A token's heads are worked through in this order: q, k, v. In place there is no v and no cache.
struct RopeParams {
  HeadRows q, k, v;
  const std::int32_t* positions = nullptr;      // [nnz], every position_bytes
  const std::int32_t* batch_indices = nullptr;  // [nnz], every index_bytes; append only, like all that follows
  std::int32_t nnz = 0, rotary_dim = 0;
  KvPages kv;
  const std::int32_t* indptr = nullptr;         // [num_requests + 1], where each request's pages begin in kv
  // By slots (gpu/slot_halves.hpp) indptr is null, and a row's place is its slot; else its position.
  const std::int32_t* slots = nullptr;          // [nnz], every index_bytes
  std::int32_t index_bytes = 4;
  std::int32_t position_bytes = 4;              // 8 in place alone, where positions may be int64

  FL_HD constexpr std::int32_t num_heads() const { return q.num_heads + k.num_heads + v.num_heads; }
};

// A block has tokens_in_block tokens, a token has `slots` groups of threads, and a group has `lanes` threads. The group of
// slot s takes heads s, s + slots, ...: heads_at_once of them at a time, so that their loads are in flight together.
struct TokenShape {
  std::int32_t lanes = 1, slots = 1, tokens_in_block = 1;

  std::int64_t blocks(std::int64_t nnz) const { return div_up<std::int64_t>(nnz, tokens_in_block); }
  int threads() const { return lanes * slots * tokens_in_block; }
};
TokenShape token_shape(std::int32_t num_heads, std::int32_t lanes, int heads_at_once, int most_threads);

// With the append: three heads at once and small blocks, which is best for many tokens and good for few
// (docs/measurements/h200-ops.md).
constexpr int rope_heads_at_once = 3, rope_threads = 128;

// What the kernel in place is given. It has parameters of its own because they are few: with RopeParams, which are three
// times as large, a call with few tokens would take measurably longer.
struct InPlaceParams {
  void* q = nullptr;
  void* k = nullptr;
  const std::int32_t* positions = nullptr;                        // [nnz], every position_bytes
  std::int64_t q_token = 0, q_head = 0, k_token = 0, k_head = 0;  // strides, in elements
  std::int32_t nnz = 0, q_heads = 0, num_heads = 0, rotary_dim = 0, position_bytes = 4;
};
// A lane has `pairs` pairs of a head; 0: they cannot be loaded in pieces. A token's heads are cut into `chunks` blocks of
// tokens.slots heads each.
struct InPlaceShape {
  TokenShape tokens;
  std::int32_t pairs = 0, chunks = 1;
};
// With many tokens the memory's rate decides, and eight pairs a lane, two pieces of 16 bytes, use it best. With few tokens
// every thread runs at once, and the time is that of one thread's loads and instructions: four pairs have fewer of both.
// (docs/measurements/h200-ops.md, second round.) The order of a lane's loads goes with its pairs (rope_in_place.cuh).
InPlaceShape in_place_shape(const HeadRows& q, const HeadRows& k, std::int32_t nnz, std::int32_t rotary_dim, RopeStyle style,
                            int multiprocessors);
constexpr int in_place_threads = 320;  // most threads of a block: a token with 32 + 8 heads of 8 lanes

// Is the address a multiple of `bytes`? With rows: does every head, of 16-bit elements, begin at such an address? With a pool,
// whose `bytes` hold eight elements: does every head?
bool is_aligned(const void* data, int bytes = 16);
bool is_aligned(const HeadRows& rows, int bytes = 16);
bool is_aligned(const void* pool, const KvStrides& strides, int bytes);

}  // namespace flashladder::gpu
