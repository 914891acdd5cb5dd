// fused_add_rmsnorm: the kernels of gpu/norm/ with the addition of the residual before the sum of squares.
#include "core/op_checks.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/norm/norm_launch.cuh"

namespace flashladder::gpu {

void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps,
                       cudaStream_t stream, bool enable_pdl) {
  check_fused_add_rmsnorm(input, residual, weight, eps);
  NormParams params = norm_params(input, input, weight, eps);
  params.residual = {residual.data, residual.strides[0], 0};
  launch_norm<true>(params, input.dtype, stream, enable_pdl);
}

}  // namespace flashladder::gpu
