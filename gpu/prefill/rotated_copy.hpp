// RoPE inside attention (ROPE_LLAMA) for P5 and P11: q and K are rotated to their positions on the way into a copy, and the
// kernels compute on that without knowing of RoPE. No instance of them is for RoPE, and without RoPE nothing is different.
//
//   K, V   as compaction copies them (compact_pages.hpp), key j of its request rotated to position j. Of a ragged cache K
//          alone: V lies in just these rows
//   q      [nnz_qo, num_qo_heads, head_dim_qk], query i rotated to position kv_len - qo_len + i
//
// Angles are those of gpu/rope (turns.hpp), arithmetic is float, and what was rotated is rounded once more to its dtype: the
// bits are those of apply_rope_pos_ids_inplace.
// Compulsory bytes: all of K, V and q that attention reads, once to read and once to write. For a prompt that is little beside
// its products; for a few queries on a long cache, which attention itself only reads once, it is twice as much again.
#pragma once

#include "gpu/prefill/compact_pages.hpp"

namespace flashladder::gpu {

// What P5 and P11 compute behind such a copy.
inline AttentionParams behind_rotation(AttentionParams params) {
  if (params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) params.pos_encoding_mode = PosEncodingMode::NONE;
  return params;
}

namespace rotated {
// As p11::compact_pages, with RoPE: to.capacity has queries. The returned call has no RoPE, and the copy of q.
AttentionCall copy(const AttentionCall& call, const Compaction& to, cudaStream_t stream);
}

}  // namespace flashladder::gpu
