// RoPE and append in one kernel: q's heads are rotated in place, k's on their way into their page, and v's are copied beside
// them, or, for an fp8 cache (a KvQuantiser), quantised as k's are. Must equal reference/rope_append.cpp.
// grid   blocks of tokens      block  lane x slot x token, see TokenShape      no shared memory
//  - A lane holds two pieces of 16 bytes of a head and their eight rotations. In neox the two pieces hold the features that
//    rotate together; interleaved, each piece holds whole pairs. The rotations stay in registers while the lane goes through
//    the heads of its slot.
//  - The loads of several heads are in flight before the first is rotated. They do not depend on the position and the page,
//    so they also start before these two have arrived.
// rope_elements_kernel takes shapes that cannot be loaded in pieces, with the append or in place alone (batch_indices null).
// Tensors: q, k, v [nnz, num_heads, dim], 16-bit; pages as core/kv_cache.hpp has them, 16-bit or fp8.
#pragma once

#include "gpu/index_entry.cuh"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/quantise.cuh"
#include "gpu/rope/angles.cuh"
#include "gpu/rope/rope_params.hpp"

namespace flashladder::gpu {

// Which thread this is.
struct TokenLane {
  std::int32_t lane = static_cast<std::int32_t>(threadIdx.x), slot = static_cast<std::int32_t>(threadIdx.y);
  std::int32_t token = static_cast<std::int32_t>(blockIdx.x * blockDim.z + threadIdx.z);  // at most nnz + 63
};
__device__ inline std::int32_t slots() { return static_cast<std::int32_t>(blockDim.y); }

// Where k and v of one token go: offsets of its head 0 in the pools, in elements.
struct KvDestination {
  std::int64_t k = 0, v = 0;

  __device__ static KvDestination of(const RopeParams& p, std::int32_t request, std::int32_t place) {
    const KvSlot slot = p.kv.pages.locate_from(p.indptr ? p.indptr[request] : 0, place);
    return {p.kv.k_strides.offset(slot, 0), p.kv.v_strides.offset(slot, 0)};
  }
};

// Head h of a token's q, k, v.
template <class Element>
struct Head {
  const HeadRows& rows;
  std::int32_t head;  // of these rows
  bool is_k, is_v;

  __device__ Head(const RopeParams& p, std::int32_t h)
      : rows(h < p.q.num_heads ? p.q : h < p.q.num_heads + p.k.num_heads ? p.k : p.v),
        head(h < p.q.num_heads                     ? h
             : h < p.q.num_heads + p.k.num_heads ? h - p.q.num_heads
                                                   : h - p.q.num_heads - p.k.num_heads),
        is_k(h >= p.q.num_heads && h < p.q.num_heads + p.k.num_heads),
        is_v(h >= p.q.num_heads + p.k.num_heads) {}

  __device__ Element* source(std::int32_t token) const {
    return static_cast<Element*>(rows.data) + token * rows.token + head * rows.head;
  }
  __device__ Element* destination(const RopeParams& p, std::int32_t token, const KvDestination& to) const {
    if (is_k) return static_cast<Element*>(p.kv.k) + to.k + head * p.kv.k_strides.head;
    if (is_v) return static_cast<Element*>(p.kv.v) + to.v + head * p.kv.v_strides.head;
    return source(token);
  }
  // Of k or v, in an fp8 cache.
  __device__ std::uint8_t* bytes_in_page(const RopeParams& p, const KvDestination& to) const {
    if (is_k) return static_cast<std::uint8_t*>(p.kv.k) + to.k + head * p.kv.k_strides.head;
    return static_cast<std::uint8_t*>(p.kv.v) + to.v + head * p.kv.v_strides.head;
  }
};

// The two pieces of a lane. The features that rotate are cut into two halves, and so are those that do not: lane by lane,
// one piece is in the first half and the other in the second.
struct TwoPieces {
  std::int32_t a = 0, b = 0;  // first elements; b < 0: nothing for this lane
  bool rotates = false;

  __device__ static TwoPieces of(std::int32_t lane, std::int32_t rotary_dim, std::int32_t dim) {
    if (lane < rotary_dim / 16) return {8 * lane, rotary_dim / 2 + 8 * lane, true};
    if (lane >= dim / 16) return {0, -1, false};
    const std::int32_t beyond = 8 * (lane - rotary_dim / 16);
    return {rotary_dim + beyond, rotary_dim + (dim - rotary_dim) / 2 + beyond, false};
  }
  // Field by field: a choice between two addresses would put both into local memory.
  __device__ static TwoPieces select(bool first, const TwoPieces& x, const TwoPieces& y) {
    return {first ? x.a : y.a, first ? x.b : y.b, first ? x.rotates : y.rotates};
  }
};

// A lane's eight pairs are two times four. The first pair of the four with number i (0, 1); interleaved, piece i has them.
template <RopeStyle style>
__device__ inline std::int32_t first_pair(std::int32_t lane, int i, std::int32_t rotary_dim) {
  return style == RopeStyle::neox ? 8 * lane + 4 * i : 4 * lane + i * (rotary_dim / 4);
}

// The heads of one step: slot s has heads first, first + slots, ... of its token.
template <class Element, RopeStyle style, int heads_at_once, class Kv>
struct HeadsAtOnce {
  const RopeParams& p;
  const Kv& kv;
  const TokenLane& at;
  const TwoPieces &qk, &v;
  std::uint32_t words[heads_at_once][8];  // piece a, then piece b

  // Calls work(head, where the lane's two pieces of it are, their words) for each head of the step that the lane has pieces
  // of.
  template <class Work>
  __device__ void each(std::int32_t first, const Work& work) {
#pragma unroll
    for (int i = 0; i < heads_at_once; ++i) {
      const std::int32_t h = first + i * slots();
      if (h >= p.num_heads()) break;
      const Head<Element> head(p, h);
      const TwoPieces mine = TwoPieces::select(head.is_v, v, qk);
      if (mine.b >= 0) work(head, mine, words[i]);
    }
  }

  __device__ void load(std::int32_t first) {
    each(first, [&](const Head<Element>& head, const TwoPieces& mine, std::uint32_t (&pieces)[8]) {
      const Element* from = head.source(at.token);
      load_words<4>(from + mine.a, pieces);
      load_words<4>(from + mine.b, pieces + 4);
    });
  }

  __device__ void rotate_and_store(std::int32_t first, const Rotations<8>& rotations, const KvDestination& to) {
    each(first, [&](const Head<Element>& head, const TwoPieces& mine, std::uint32_t (&pieces)[8]) {
      if constexpr (Kv::quantises) {
        if (head.is_k || head.is_v) return store_quantised(head, mine, pieces, rotations, to);
      }
      if (mine.rotates) {
        rotate<Element, style>(rotations, pieces);
      } else if (!head.is_k && !head.is_v) {
        return;  // q's other features stay
      }
      Element* out = head.destination(p, at.token, to);
      store_words<4>(out + mine.a, pieces);
      store_words<4>(out + mine.b, pieces + 4);
    });
  }

  __device__ void store_quantised(const Head<Element>& head, const TwoPieces& mine, const std::uint32_t (&pieces)[8],
                                  const Rotations<8>& rotations, const KvDestination& to) const {
    float x[2][8];  // of each piece
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float2 two = to_floats<Element>(pieces[i]);
      x[i / 4][i % 4 * 2] = two.x, x[i / 4][i % 4 * 2 + 1] = two.y;
    }
#pragma unroll
    for (int i = 0; i < 8 && mine.rotates; ++i) {
      const RopePair pair = rope_pair(style, i, 16);
      rotate({rotations.cos[i], rotations.sin[i]}, x[pair.x / 8][pair.x % 8], x[pair.y / 8][pair.y % 8]);
    }
    const float scale = kv.scale(head.is_v, head.head);
    std::uint8_t* out = head.bytes_in_page(p, to);
    *reinterpret_cast<uint2*>(out + mine.a) = quantised(x[0], scale, kv.e5m2);
    *reinterpret_cast<uint2*>(out + mine.b) = quantised(x[1], scale, kv.e5m2);
  }
};

// Seven blocks an SM leave a thread 72 registers: with 64 it is slower, with 80 as well (docs/measurements/h200-ops.md). What
// quantises would spill with so few.
template <class Kv>
constexpr int least_rope_blocks = Kv::quantises ? 5 : 7;

template <class Element, RopeStyle style, class Angles, class Kv>
__global__ void __launch_bounds__(rope_threads, least_rope_blocks<Kv>)
rope_rows_kernel(const __grid_constant__ RopeParams p, const __grid_constant__ Angles angles,
                 const __grid_constant__ Kv kv) {
  const TokenLane at;
  const TwoPieces qk = TwoPieces::of(at.lane, p.rotary_dim, p.q.dim), v = TwoPieces::of(at.lane, 0, p.v.dim);
  // The previous kernel on the stream may still write q, k, v, positions and scales, or read the pages.
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  if (at.token >= p.nnz) return;
  const std::int32_t request = index_entry(p.batch_indices, p.index_bytes, at.token), position = p.positions[at.token];
  const std::int32_t place = p.slots ? index_entry(p.slots, p.index_bytes, at.token) : position;
  HeadsAtOnce<Element, style, rope_heads_at_once, Kv> heads{p, kv, at, qk, v};
  heads.load(at.slot);
  if (request < 0) return;  // a row of padding: its position and what was loaded of it mean nothing
  Rotations<8> rotations;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (qk.rotates) angles.four(position, first_pair<style>(at.lane, i, p.rotary_dim), p.rotary_dim, 4 * i, rotations);
  }
  const KvDestination to = KvDestination::of(p, request, place);
  heads.rotate_and_store(at.slot, rotations, to);
  const std::int32_t step = slots() * rope_heads_at_once;
  for (std::int32_t first = at.slot + step; first < p.num_heads(); first += step) {
    heads.load(first);
    heads.rotate_and_store(first, rotations, to);
  }
}

// Where one feature at a time goes: x, or feature i of `from` as it is.
template <class Element>
struct ElementsOut {
  Element* to;

  __device__ void put(std::int32_t i, float x) const { to[i] = from_float<Element>(x); }
  __device__ void move(const Element* from, std::int32_t i) const { to[i] = from[i]; }
};
struct QuantisedOut {
  std::uint8_t* to;
  float scale;
  bool e5m2;

  __device__ void put(std::int32_t i, float x) const {
    const float one[] = {x};
    to[i] = quantised(one, scale, e5m2);
  }
  template <class Element>
  __device__ void move(const Element* from, std::int32_t i) const {
    put(i, to_float(from[i]));
  }
};

// Any rotary_dim and any alignment: a lane takes one pair at a time, or one feature that does not rotate.
template <class Element, class Angles, class Kv>
__global__ void __launch_bounds__(rope_threads)
rope_elements_kernel(const __grid_constant__ RopeParams p, const __grid_constant__ Angles angles, RopeStyle style,
                     const __grid_constant__ Kv kv) {
  const TokenLane at;
  // The previous kernel on the stream may still write q, k, v, positions and scales, or read the pages.
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  if (at.token >= p.nnz) return;
  const bool in_place = p.batch_indices == nullptr;
  const std::int32_t request = in_place ? 0 : index_entry(p.batch_indices, p.index_bytes, at.token);
  const std::int32_t position = index_entry(p.positions, p.position_bytes, at.token);
  const std::int32_t place = p.slots ? index_entry(p.slots, p.index_bytes, at.token) : position;
  if (request < 0) return;  // a row of padding
  const KvDestination to = in_place ? KvDestination{} : KvDestination::of(p, request, place);
  for (std::int32_t h = at.slot; h < p.num_heads(); h += slots()) {
    const Head<Element> head(p, h);
    const Element* from = head.source(at.token);
    Element* out = in_place ? head.source(at.token) : head.destination(p, at.token, to);
    const std::int32_t pairs = head.is_v ? 0 : p.rotary_dim / 2;
    const auto rotate_pairs = [&](const auto& out) {
      for (std::int32_t i = at.lane; i < pairs; i += static_cast<std::int32_t>(blockDim.x)) {
        const RopePair pair = rope_pair(style, i, p.rotary_dim);
        float x = to_float(from[pair.x]), y = to_float(from[pair.y]);
        rotate(angles.rotation(position, i, p.rotary_dim), x, y);
        out.put(pair.x, x);
        out.put(pair.y, y);
      }
    };
    const auto move_others = [&](const auto& out) {
      for (std::int32_t i = 2 * pairs + at.lane; i < head.rows.dim; i += static_cast<std::int32_t>(blockDim.x)) {
        out.move(from, i);
      }
    };
    if constexpr (Kv::quantises) {
      if (head.is_k || head.is_v) {
        const QuantisedOut bytes{head.bytes_in_page(p, to), kv.scale(head.is_v, head.head), kv.e5m2};
        rotate_pairs(bytes);
        move_others(bytes);
        continue;
      }
    }
    rotate_pairs(ElementsOut<Element>{out});
    if (out == from) continue;  // the other features stay
    move_others(ElementsOut<Element>{out});
  }
}

}  // namespace flashladder::gpu
