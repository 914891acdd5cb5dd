// The instances of the RoPE kernels: dtype x style x angles, and dtype x angles of the one for odd shapes.
// rope.cu makes them for in place, append/rope_append.cu for the append.
#pragma once

#include <algorithm>

#include "gpu/launch.hpp"
#include "gpu/rope/rope_kernel.cuh"

namespace flashladder::gpu {

struct RopeCall {
  RopeParams params{};
  DType dtype = DType::f16;
  RopeStyle style = RopeStyle::neox;
  bool pieces = false;      // 16 bytes at a time; else elements
  std::int32_t lanes = 1;   // that a head has work for
  cudaStream_t stream = nullptr;
  bool enable_pdl = false;

  void use_elements() {
    pieces = false;
    lanes = std::min(std::max(params.rotary_dim / 2, params.v.dim), 64);
  }
};

inline RopeStyle style_of(bool interleave) { return interleave ? RopeStyle::interleaved : RopeStyle::neox; }

// A lane loads four cosines, or sines, at once.
inline bool is_aligned(const Tensor& cos_sin_cache) {
  return reinterpret_cast<std::uintptr_t>(cos_sin_cache.data) % 16 == 0 && cos_sin_cache.strides[0] % 4 == 0;
}
inline CachedAngles cached_angles(const Tensor& cos_sin_cache) {
  return {cos_sin_cache.data_as<const float>(), cos_sin_cache.strides[0]};
}

template <class Element, bool append, class Angles>
void launch_rope(const RopeCall& call, const Angles& angles) {
  const RopeParams& p = call.params;
  const TokenShape shape = token_shape(p.num_heads(), call.lanes, call.pieces ? rope_heads_at_once : 1, rope_threads);
  const LaunchShape blocks{.grid = p.num_heads() == 0 ? 0 : shape.blocks(p.nnz), .block = shape.threads(),
                           .programmatic = call.enable_pdl};
  if (!call.pieces) {
    return launch(rope_elements_kernel<Element, Angles, append>, blocks, call.stream, p, shape, angles, call.style);
  }
  const auto with_style = [&]<RopeStyle style>() {
    launch(rope_kernel<Element, style, Angles, append>, blocks, call.stream, p, shape, angles);
  };
  if (call.style == RopeStyle::neox) return with_style.template operator()<RopeStyle::neox>();
  with_style.template operator()<RopeStyle::interleaved>();
}

template <bool append, class Angles>
void launch_rope(const RopeCall& call, const Angles& angles) {
  if (call.dtype == DType::f16) return launch_rope<Half, append>(call, angles);
  launch_rope<BFloat16, append>(call, angles);
}

}  // namespace flashladder::gpu
