// A call of a RoPE kernel, and the instances of gpu/rope/rope_kernel.cuh: dtype x style x angles of rope_rows_kernel, and
// dtype x angles of rope_elements_kernel, each for a cache of that dtype and for one of fp8.
#pragma once

#include <algorithm>

#include "gpu/launch.hpp"
#include "gpu/rope/rope_kernel.cuh"

namespace flashladder::gpu {

struct RopeCall {
  RopeParams params{};
  DType dtype = DType::f16;
  RopeStyle style = RopeStyle::neox;
  cudaStream_t stream = nullptr;
  bool enable_pdl = false;
};

// A lane loads four cosines, or sines, at once.
inline bool is_aligned(const ConstTensor& cos_sin_cache) {
  return reinterpret_cast<std::uintptr_t>(cos_sin_cache.data) % 16 == 0 && cos_sin_cache.strides[0] % 4 == 0;
}
inline CachedAngles cached_angles(const ConstTensor& cos_sin_cache) {
  return {cos_sin_cache.data_as<const float>(), cos_sin_cache.strides[0]};
}

inline LaunchShape launch_shape(const RopeCall& call, const TokenShape& shape) {
  return {.grid = call.params.num_heads() == 0 ? 0 : shape.blocks(call.params.nnz),
          .block = dim3(shape.lanes, shape.slots, shape.tokens_in_block), .programmatic = call.enable_pdl};
}

template <class Element, class Angles, class Kv = Unquantised>
void launch_rope_elements(const RopeCall& call, const Angles& angles, const Kv& kv = {}) {
  const RopeParams& p = call.params;
  const std::int32_t lanes = std::min(std::max(p.rotary_dim / 2, p.v.dim), 64);
  launch(rope_elements_kernel<Element, Angles, Kv>, launch_shape(call, token_shape(p.num_heads(), lanes, 1, rope_threads)),
         call.stream, p, angles, call.style, kv);
}

template <class Element, class Angles, class Kv>
void launch_rope_append(const RopeCall& call, bool pieces, const Angles& angles, const Kv& kv) {
  const RopeParams& p = call.params;
  const std::int32_t lanes = std::max(p.k.dim, p.v.dim) / 16;
  if (!pieces || lanes > rope_threads) return launch_rope_elements<Element>(call, angles, kv);
  const auto with_style = [&]<RopeStyle style>() {
    launch(rope_rows_kernel<Element, style, Angles, Kv>,
           launch_shape(call, token_shape(p.num_heads(), lanes, rope_heads_at_once, rope_threads)), call.stream, p, angles,
           kv);
  };
  if (call.style == RopeStyle::neox) return with_style.template operator()<RopeStyle::neox>();
  with_style.template operator()<RopeStyle::interleaved>();
}

}  // namespace flashladder::gpu
