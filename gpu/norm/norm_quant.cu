// rmsnorm_quant and fused_add_rmsnorm_quant: all instances of the norm kernels that write fp8. Rows in registers: dtype x add
// x (a part of a warp with one piece a lane, or a block with two or four). Rows that are read twice: dtype x add.
#include "core/op_checks.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/norm/norm_row.cuh"
#include "gpu/norm/norm_walk.cuh"

namespace flashladder::gpu {
namespace {

template <class Element, bool add>
void launch_norm(const NormParams& p, const OutQuantiser& out, cudaStream_t stream, bool enable_pdl) {
  const NormShape shape = norm_shape(p, add, multiprocessors(), true);
  const LaunchShape blocks{.grid = shape.grid, .block = shape.threads, .programmatic = enable_pdl};
  if (!shape.in_registers) {
    return launch(rmsnorm_walk_kernel<Element, OneElement<Element>, add, OutQuantiser>, blocks, stream, p, out);
  }
  const auto with = [&]<int chunks, bool wide>() {
    launch(rmsnorm_row_kernel<Element, add, chunks, wide, OutQuantiser>, blocks, stream, p, shape.lanes, out);
  };
  if (!shape.wide) return with.template operator()<1, false>();
  if (shape.chunks == 2) return with.template operator()<2, true>();
  with.template operator()<4, true>();
}

template <bool add>
void launch_norm(const NormParams& p, DType dtype, const OutQuantiser& out, cudaStream_t stream, bool enable_pdl) {
  if (dtype == DType::f16) return launch_norm<Half, add>(p, out, stream, enable_pdl);
  launch_norm<BFloat16, add>(p, out, stream, enable_pdl);
}

}  // namespace

void rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale, float eps,
                   cudaStream_t stream, bool enable_pdl) {
  check_rmsnorm_quant(input, weight, out, scale, eps);
  launch_norm<false>(norm_params(input, out, weight, eps), input.dtype, {scale, out.dtype}, stream, enable_pdl);
}

void fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, const Tensor& out,
                             const QuantScale& scale, float eps, cudaStream_t stream, bool enable_pdl) {
  check_fused_add_rmsnorm_quant(input, residual, weight, out, scale, eps);
  NormParams params = norm_params(input, out, weight, eps);
  params.residual = {residual.data, residual.strides[0], 0};
  launch_norm<true>(params, input.dtype, {scale, out.dtype}, stream, enable_pdl);
}

}  // namespace flashladder::gpu
