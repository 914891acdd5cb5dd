// What the append does with a piece of a row on its way into a page. A move takes a From, of so many elements, and leaves a
// To of as many:
//   load(from, is_v, head)   a piece, and what else storing it needs, in registers
//   store(to, loaded)
#pragma once

#include <cstdint>
#include <type_traits>

#include "gpu/element.cuh"
#include "gpu/quantise.cuh"

namespace flashladder::gpu {

// Bits are copied, whatever they mean.
template <class Piece>
struct Copy {
  using From = Piece;
  using To = Piece;
  using Loaded = Piece;

  __device__ Loaded load(const From* from, bool, std::int32_t) const { return *from; }
  __device__ void store(To* to, const Loaded& piece) const { *to = piece; }
};

// Elements become fp8: those of 16 bytes at once, or (not in_pieces) one after the other.
template <class Element, bool in_pieces>
struct Quantise {
  static constexpr int elements = in_pieces ? 16 / static_cast<int>(sizeof(Element)) : 1;
  using From = std::conditional_t<in_pieces, uint4, Element>;
  using To = typename BytesOf<elements>::Type;
  struct Loaded {
    From piece;
    float scale;
  };

  KvQuantiser kv;

  __device__ Loaded load(const From* from, bool is_v, std::int32_t head) const { return {*from, kv.scale(is_v, head)}; }
  __device__ void store(To* to, const Loaded& loaded) const {
    const auto& piece = loaded.piece;
    if constexpr (!in_pieces) {
      const float x[] = {to_float(piece)};
      *to = quantised(x, loaded.scale, kv.e5m2);
    } else if constexpr (std::is_same_v<Element, float>) {
      const float x[] = {__uint_as_float(piece.x), __uint_as_float(piece.y), __uint_as_float(piece.z),
                         __uint_as_float(piece.w)};
      *to = quantised(x, loaded.scale, kv.e5m2);
    } else {
      *to = quantised(to_floats<Element>(piece).at, loaded.scale, kv.e5m2);
    }
  }
};

}  // namespace flashladder::gpu
