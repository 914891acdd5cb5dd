// What the RoPE kernels are given, in place and with the append, and how a call is cut into threads.
#pragma once

#include <cstdint>
#include <span>

#include "core/kv_cache.hpp"
#include "core/range.hpp"
#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

struct HeadRows {  // [nnz, num_heads, dim], dense along dim
  void* data = nullptr;
  std::int64_t token = 0, head = 0;  // strides, in elements
  std::int32_t num_heads = 0, dim = 0;
};
HeadRows head_rows(const Tensor& t);

// A token's heads are worked through in this order: q, k, v. In place there is no v and no cache.
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

// `lanes` threads share a head; `slots` of them a token: slot s takes heads s, s + slots, ..., heads_at_once of them at a
// time, so that their loads are on their way together; a block has tokens_in_block tokens.
struct TokenShape {
  std::int32_t lanes = 1, slots = 1, tokens_in_block = 1;

  std::int64_t blocks(std::int64_t nnz) const { return div_up<std::int64_t>(nnz, tokens_in_block); }
  int threads() const { return lanes * slots * tokens_in_block; }
};
TokenShape token_shape(std::int32_t num_heads, std::int32_t lanes, int heads_at_once, int most_threads);

// With the append: three heads of two pieces at once, small blocks, for few tokens as for many. 65536 tokens of 32/8 heads
// take 408 us in blocks of 128 threads, 417 in blocks of 256, 506 with one head at once; 64 tokens 6.2, 6.4, 6.0.
constexpr int rope_heads_at_once = 3, rope_threads = 128;

// In place. Few parameters: 240 bytes more in front of them cost 64 tokens 0.3 us.
struct InPlaceParams {
  void* q = nullptr;
  void* k = nullptr;
  const std::int32_t* positions = nullptr;                        // [nnz]
  std::int64_t q_token = 0, q_head = 0, k_token = 0, k_head = 0;  // strides, in elements
  std::int32_t nnz = 0, q_heads = 0, num_heads = 0, rotary_dim = 0;
};
// A lane has `pairs` pairs of a head, a token's heads are cut into `chunks` of tokens.slots. pairs == 0: not for pieces.
struct InPlaceShape {
  TokenShape tokens;
  std::int32_t pairs = 0, chunks = 1;
};
// With many tokens the memory's rate decides, and eight pairs a lane, two pieces of 16 bytes, use it best: 65536 tokens of
// 32/8 heads take 333 us, with four pairs 381. With few it is one thread's chain of loads and the fetch of its code, and
// four pairs have less of both: 64 tokens take 4.86 us, with eight 4.93 (interleaved). So: four as long as all threads run
// at once.
InPlaceShape in_place_shape(const HeadRows& q, const HeadRows& k, std::int32_t nnz, std::int32_t rotary_dim, RopeStyle style,
                            int multiprocessors);
constexpr int in_place_threads = 320;  // 32/8 heads of 8 lanes

// Does it, and do all heads (of 16-bit elements), begin at multiples of 16 bytes? (Of `bytes`?)
bool is_aligned(const void* data, int bytes = 16);
bool is_aligned(const HeadRows& rows, int bytes = 16);
bool is_aligned(const void* pool, const KvStrides& strides);

}  // namespace flashladder::gpu
