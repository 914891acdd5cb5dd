// fused_add_rmsnorm: gpu/norm/norm_row.cuh with the addition of the residual in front.
#include "core/op_checks.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/norm/norm_launch.cuh"

namespace flashladder::gpu {

void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const Tensor& weight, float eps, cudaStream_t stream,
                       bool enable_pdl) {
  check_fused_add_rmsnorm(input, residual, weight, eps);
  NormParams params = norm_params(input, input, weight, eps);
  params.residual = {residual.data, residual.strides[0], 0};
  launch_norm<true>(params, input.dtype, stream, enable_pdl);
}

}  // namespace flashladder::gpu
