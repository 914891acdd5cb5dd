// RoPE inside a persistent decode (ROPE_LLAMA): q is rotated once an item, in registers; a tile of keys between its arrival
// in the ring and its use, in place, by the warp that computes it. Who rotates what: core/rotated_tile.hpp. D6 and D7 use it.
//
// A lane keeps its eight pairs for all tiles, so it walks: it holds eight cosines and sines, and a step ahead (to its next
// token in the tile, or to the warp's next tile) is a multiplication of complex numbers by a constant. Each such
// multiplication loses up to 2^-22; after exact_every of them the angles are formed anew from the position (rope/turns.hpp),
// so that a walked rotation is off by at most 2^-15, which is less than what rounding the rotated key to 16 bits loses.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/rotated_tile.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/element.cuh"
#include "gpu/rope/rotate.cuh"
#include "gpu/rope/turns.hpp"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// The steps of the walk, for every pair. In shared memory.
template <int pairs>
struct RotationSteps {
  struct Step {
    float cos[pairs], sin[pairs];
  };
  Step token, tile;  // to the lane's next token of a tile; to the warp's next tile
};

template <class S, class Warps>
class TileRotation {
 public:
  using Element = typename S::Element;
  using Place = RotatedPlace<S::chunks>;
  using Steps = RotationSteps<S::head_dim / 2>;

  // By all threads of the block.
  static __device__ void make_steps(const Rotated::Params& params, Steps& steps) {
    for (int i = threadIdx.x; i < S::head_dim; i += tile_warps * 32) {
      const bool tile = i >= S::head_dim / 2;
      const int pair = i % (S::head_dim / 2);
      const Rotation<float> step = rotation_by(tile ? Warps::count * tile_tokens : Place::at_once,
                                               params.turns.per_position[pair]);
      (tile ? steps.tile : steps.token).cos[pair] = step.cos;
      (tile ? steps.tile : steps.token).sin[pair] = step.sin;
    }
    __syncthreads();  // every lane may walk
  }

  __device__ TileRotation(const Rotated::Params& params, const Steps& steps) : turns_(params.turns), steps_(steps) {}

  // To a tile whose first token is `token`: an item's first, or the warp's next. Says whether it is the first. Looks at no
  // key: may go ahead of their arrival.
  __device__ bool turn_to(std::uint32_t token) {
    const int chunk = Place::chunk(threadIdx.x % 32);
    const bool first = walked_ < 0;
    if (first || walked_ == rotation_exact_every) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const std::uint64_t per_position = turns_.per_position[chunk * 8 + i];
        const Rotation<float> exact = rotation_by(token + Place::token(threadIdx.x % 32), per_position);
        at_.cos[i] = exact.cos, at_.sin[i] = exact.sin;
      }
      walked_ = 0;
    } else {
      walk(of_lane(steps_.tile), at_);
    }
    ++walked_;
    return first;
  }

  // The tile that has arrived, by all lanes of the warp.
  __device__ void rotate_keys(uint4 (&k)[tile_tokens][S::chunks]) const {
    constexpr int unrolled = Place::steps <= 4 ? Place::steps : 2;  // for registers' sake
    const int chunk = Place::chunk(threadIdx.x % 32);
    const Rotations<8> step = of_lane(steps_.token);
    Rotations<8> at = at_;
#pragma unroll unrolled
    for (int u = 0; u < Place::steps; ++u) {
      if (u > 0) walk(step, at);
      const int token = Place::token(threadIdx.x % 32) + u * Place::at_once;
      uint4& low = k[token][S::stored_chunk(token, chunk)];
      uint4& high = k[token][S::stored_chunk(token, chunk + S::chunks / 2)];
      Float8 x = to_floats<Element>(low), y = to_floats<Element>(high);
#pragma unroll
      for (int i = 0; i < 8; ++i) rotate({at.cos[i], at.sin[i]}, x.at[i], y.at[i]);
      low = pack<Element>(x);
      high = pack<Element>(y);
    }
    __syncwarp();  // the tile is rotated: other lanes' tokens too
  }

  // Q^T of one query at `position`, once an item. A pair's features lie in one lane, half of its words apart; its rotation
  // is formed by lane pair % 32, once for all heads.
  __device__ void rotate_query(std::int32_t position, QueryTiles<S>& q) const {
    Rotation<float> mine[S::head_dim / 64];  // of pairs lane, lane + 32 ...
#pragma unroll
    for (int i = 0; i < S::head_dim / 64; ++i) {
      mine[i] = rotation_by(position, turns_.per_position[threadIdx.x % 32 + i * 32]);
    }
#pragma unroll
    for (int i = 0; i < S::steps; ++i) {  // features i * 8 + lane % 4 * 2 + {0, 1}, and those half of a head behind
      const int owner = i % 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
      const auto from_lane = [r = mine[i / 4]](int lane) {
        return Rotation<float>{__shfl_sync(all_lanes, r.cos, lane), __shfl_sync(all_lanes, r.sin, lane)};
      };
      const Rotation<float> first = from_lane(owner), second = from_lane(owner + 1);
#pragma unroll
      for (int n = 0; n < S::head_tiles; ++n) {
        std::uint32_t &low = q.at[i / 2][n][i % 2], &high = q.at[(i + S::steps) / 2][n][i % 2];
        float2 x = to_floats<Element>(low), y = to_floats<Element>(high);
        rotate(first, x.x, y.x);
        rotate(second, x.y, y.y);
        low = pack<Element>(x.x, x.y);
        high = pack<Element>(y.x, y.y);
      }
    }
  }

 private:
  // A step of the lane's eight pairs.
  static __device__ Rotations<8> of_lane(const typename Steps::Step& step) {
    Rotations<8> mine;
    const int first = Place::chunk(threadIdx.x % 32) * 8;
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      const float4 cos = *reinterpret_cast<const float4*>(&step.cos[first + i]);
      const float4 sin = *reinterpret_cast<const float4*>(&step.sin[first + i]);
      mine.cos[i] = cos.x, mine.cos[i + 1] = cos.y, mine.cos[i + 2] = cos.z, mine.cos[i + 3] = cos.w;
      mine.sin[i] = sin.x, mine.sin[i + 1] = sin.y, mine.sin[i + 2] = sin.z, mine.sin[i + 3] = sin.w;
    }
    return mine;
  }

  static __device__ void walk(const Rotations<8>& step, Rotations<8>& at) {
#pragma unroll
    for (int i = 0; i < 8; ++i) rotate({step.cos[i], step.sin[i]}, at.cos[i], at.sin[i]);
  }

  const RopeTurns& turns_;
  const Steps& steps_;
  Rotations<8> at_;  // of the lane's first token in the tile
  int walked_ = -1;  // tiles since the angles were exact; -1: there was none
};

// Of a variant that takes keys as they arrive: nothing at all.
struct NoRotation {
  struct Steps {};
  template <class Params>
  static __device__ void make_steps(const Params&, Steps&) {}
  template <class Params>
  __device__ NoRotation(const Params&, const Steps&) {}
  __device__ static constexpr bool turn_to(std::uint32_t) { return false; }
  template <class Keys>
  __device__ void rotate_keys(Keys&) const {}
  template <class Query>
  __device__ void rotate_query(std::int32_t, Query&) const {}
};

template <class S, class Warps, class Variant>
using RotationOf = std::conditional_t<Variant::rotates, TileRotation<S, Warps>, NoRotation>;

}  // namespace flashladder::gpu
