// The instances of the norm kernels, all of them: dtype x chunks x (part of a warp, block), and the walking one.
#pragma once

#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/norm/norm_row.cuh"
#include "gpu/norm/norm_walk.cuh"

namespace flashladder::gpu {

template <class Element, bool add>
void launch_norm(const NormParams& p, cudaStream_t stream, bool enable_pdl) {
  const NormShape shape = norm_shape(p, add, multiprocessors());
  const LaunchShape blocks{.grid = shape.grid, .block = shape.threads, .programmatic = enable_pdl};
  if (!shape.in_registers) {
    return launch(shape.aligned ? norm_walk_kernel<Element, EightElements<Element>, add>
                                : norm_walk_kernel<Element, OneElement<Element>, add>, blocks, stream, p);
  }
  const auto with_chunks = [&]<int chunks>() {
    const auto kernel = shape.wide ? norm_kernel<Element, add, chunks, true> : norm_kernel<Element, add, chunks, false>;
    launch(kernel, blocks, stream, p, shape.lanes);
  };
  if (shape.chunks == 1) return with_chunks.template operator()<1>();
  if (shape.chunks == 2) return with_chunks.template operator()<2>();
  if constexpr (!add) with_chunks.template operator()<4>();
}

template <bool add>
void launch_norm(const NormParams& p, DType dtype, cudaStream_t stream, bool enable_pdl) {
  if (dtype == DType::f16) return launch_norm<Half, add>(p, stream, enable_pdl);
  launch_norm<BFloat16, add>(p, stream, enable_pdl);
}

}  // namespace flashladder::gpu
