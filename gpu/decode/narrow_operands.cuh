// The operands of a tile whose keys and values are stored in 8 bits (E4M3): they arrive as bytes, half as many as else, and
// become f16 in registers, two by one instruction, which is exact. So is everything behind it that of f16.
//
// ldmatrix moves pairs of bytes where it would move one 16-bit element, so that a lane meets neighbours in fours (K) or twos
// (V). Both are a matter of naming: a dot product does not depend on the order of its features, and which row of an
// accumulator is which feature of o is for its reader to know.
//
//   K     a lane's 4 bytes of a chunk are features 4t .. 4t + 3 (t = lane % 4): columns 2t, 2t + 1, 2t + 8, 2t + 9 of A
//   Q     the same features of a head, in the same columns: 8 bytes of q
//   V^T   a lane's 4 bytes are features 2g, 2g + 1 (g = lane / 4) of tokens 2t, 2t + 1: rows g and g + 8 of A
//   O^T   hence rows g and g + 8 of step i are features 16 i + 2g and 16 i + 2g + 1
#pragma once

#include <cstdint>

#include "gpu/decode/tile_operands.cuh"
#include "gpu/element.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// q may be f16 or bf16. The numbers of a bf16 row are multiplied by a power of two that brings the largest of them below the
// largest f16, which is exact for all that matter beside it; the dots are divided by it again.
template <class S>
struct QueryTiles<S, true> {
  std::uint32_t at[S::steps][S::head_tiles][2];
  float factor[S::head_tiles][2];  // what dots of the heads of this lane's two columns are multiplied by: the scale of K too

  template <class Place>
  __device__ QueryTiles(const QueryRows& rows, const Place& place, const PackedItem& item) {
    const int lane = threadIdx.x % 32, count = item.rows.size();
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
      const int head = n * heads_in_tile + lane / 4;
      const auto* from = static_cast<const std::uint16_t*>(rows.q) + place.q_offset(rows, item, head) + lane % 4 * 4;
#pragma unroll
      for (int i = 0; i < S::steps; ++i) {
        const uint2 four = head < count ? *reinterpret_cast<const uint2*>(from + i * 16) : uint2{};
        at[i][n][0] = four.x, at[i][n][1] = four.y;
      }
    }
  }

  // Once an item, when q has arrived.
  __device__ void prepare(const QueryRows& rows, const KvPages& kv, std::int32_t kv_head) {
    const float of_keys = kv.k_scale_of(kv_head);
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
      const float mine = rows.q_dtype == DType::bf16 ? of_keys * to_f16(n) : of_keys;  // of head lane / 4
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        factor[n][j] = __shfl_sync(all_lanes, mine, static_cast<int>(threadIdx.x) % 4 * 8 + j * 4);
      }
    }
  }

 private:
  // Of a head, from bf16. Returns what undoes its multiplication.
  __device__ float to_f16(int n) {
    std::uint32_t most = 0;  // the largest magnitude, as bits of bf16
#pragma unroll
    for (int i = 0; i < S::steps * 2; ++i) {
      const std::uint32_t pair = at[i / 2][n][i % 2];
      most = max(most, max(pair & 0x7fffu, pair >> 16 & 0x7fffu));
    }
#pragma unroll
    for (int offset = 1; offset < 4; offset *= 2) most = max(most, __shfl_xor_sync(all_lanes, most, offset));
    // Biased by 127, and away from where the factors would not be normal numbers; infinities and NaN stay what they are.
    constexpr std::uint32_t bias = 127, wanted = bias + 14, least = 15, largest = 254;
    const std::uint32_t exponent = min(max(most >> 7, least), largest);
    const auto by = __uint_as_float((bias + wanted - exponent) << 23);
#pragma unroll
    for (int i = 0; i < S::steps * 2; ++i) {
      std::uint32_t& pair = at[i / 2][n][i % 2];
      const float2 x = to_floats<BFloat16>(pair);
      pair = pack<Half>(x.x * by, x.y * by);
    }
    return __uint_as_float((bias + exponent - wanted) << 23);
  }
};

// A step is one chunk of 16 features; blocks of bytes: tokens 0-7 and 8-15 of one, then of the next.
template <class S>
  requires S::narrow
__device__ inline void load_key_steps(std::uint32_t (&a)[2][4], const StoredTile<S>& k, int step) {
  const int lane = threadIdx.x % 32;
  std::uint32_t bytes[4];
  ldmatrix_x4(bytes, &k[lane % 16][S::stored_chunk(lane % 16, step + lane / 16)]);
#pragma unroll
  for (int block = 0; block < 4; ++block) {
    const uint2 four = e4m3_to_f16(bytes[block]);
    a[block / 2][block % 2] = four.x, a[block / 2][block % 2 + 2] = four.y;
  }
}

template <class S>
  requires S::narrow
__device__ inline void load_value_steps(std::uint32_t (&a)[2][4], const StoredTile<S>& v, int step) {
  const int lane = threadIdx.x % 32;
  std::uint32_t bytes[4];
  ldmatrix_x4_trans(bytes, &v[lane % 16][S::stored_chunk(lane % 16, step + lane / 16)]);
#pragma unroll
  for (int block = 0; block < 4; ++block) {
    // Tokens 2t, 2t + 1 of one feature, then of the next.
    const uint2 four = e4m3_to_f16(__byte_perm(bytes[block], 0, 0x3120));
    a[block / 2][block % 2 * 2] = four.x, a[block / 2][block % 2 * 2 + 1] = four.y;
  }
}

}  // namespace flashladder::gpu
