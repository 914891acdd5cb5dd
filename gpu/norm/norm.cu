// rmsnorm, and fused_add_rmsnorm, which adds the residual before the sum of squares: all instances of the norm kernels that
// write 16 bits. Rows in registers: dtype x add x (a part of a warp or a block for a row) x chunks. Rows that are read twice:
// dtype x add x (one element or sixteen bytes at a time).
#include "gpu/norm/norm.hpp"

#include "core/op_checks.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/norm/norm_row.cuh"
#include "gpu/norm/norm_walk.cuh"

namespace flashladder::gpu {
namespace {

template <class Element, bool add>
void launch_norm(const NormParams& p, cudaStream_t stream, bool enable_pdl) {
  const NormShape shape = norm_shape(p, add, multiprocessors());
  const LaunchShape blocks{.grid = shape.grid, .block = shape.threads, .programmatic = enable_pdl};
  constexpr Unquantised out;
  if (!shape.in_registers) {
    return launch(shape.aligned ? rmsnorm_walk_kernel<Element, EightElements<Element>, add, Unquantised>
                                : rmsnorm_walk_kernel<Element, OneElement<Element>, add, Unquantised>,
                  blocks, stream, p, out);
  }
  const auto with = [&]<int chunks, bool wide>() {
    launch(rmsnorm_row_kernel<Element, add, chunks, wide, Unquantised>, blocks, stream, p, shape.lanes, out);
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

constexpr float gemma = 1, plain = NormParams{}.added;  // what is added to the weight

void norm(const ConstTensor& input, const ConstTensor& weight, float added, const Tensor& out, float eps,
          cudaStream_t stream, bool enable_pdl) {
  check_rmsnorm(input, weight, out, eps);
  NormParams params = norm_params(input, out, weight, eps);
  params.added = added;
  launch_norm<false>(params, input.dtype, stream, enable_pdl);
}

void fused_add_norm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float added, float eps,
                    cudaStream_t stream, bool enable_pdl) {
  check_fused_add_rmsnorm(input, residual, weight, eps);
  NormParams params = norm_params(input, input, weight, eps);
  params.residual = {residual.data, residual.strides[0], 0};
  params.added = added;
  launch_norm<true>(params, input.dtype, stream, enable_pdl);
}

}  // namespace

void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, cudaStream_t stream,
             bool enable_pdl) {
  norm(input, weight, plain, out, eps, stream, enable_pdl);
}
void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps,
                       cudaStream_t stream, bool enable_pdl) {
  fused_add_norm(input, residual, weight, plain, eps, stream, enable_pdl);
}

void gemma_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, cudaStream_t stream,
                   bool enable_pdl) {
  norm(input, weight, gemma, out, eps, stream, enable_pdl);
}
void gemma_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps,
                             cudaStream_t stream, bool enable_pdl) {
  fused_add_norm(input, residual, weight, gemma, eps, stream, enable_pdl);
}

}  // namespace flashladder::gpu
