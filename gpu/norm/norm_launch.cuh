// All instances of the norm kernels. Rows in registers: dtype x (a part of a warp or a block for a row) x chunks. Rows that
// are read twice: dtype x (one element or sixteen bytes at a time).
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
  const auto with = [&]<int chunks, bool wide>() {
    launch(norm_kernel<Element, add, chunks, wide>, blocks, stream, p, shape.lanes);
  };
  if (shape.wide) return shape.chunks == 2 ? with.template operator()<2, true>() : with.template operator()<4, true>();
  if (shape.chunks == 1) return with.template operator()<1, false>();
  if (shape.chunks == 2) return with.template operator()<2, false>();
  if constexpr (!add) with.template operator()<4, false>();
}

template <bool add>
void launch_norm(const NormParams& p, DType dtype, cudaStream_t stream, bool enable_pdl) {
  if (dtype == DType::f16) return launch_norm<Half, add>(p, stream, enable_pdl);
  launch_norm<BFloat16, add>(p, stream, enable_pdl);
}

}  // namespace flashladder::gpu
