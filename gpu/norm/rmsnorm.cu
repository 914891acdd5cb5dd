// rmsnorm: the kernels of gpu/norm/ without an addition.
#include "core/op_checks.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/norm/norm_launch.cuh"

namespace flashladder::gpu {

void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, cudaStream_t stream,
             bool enable_pdl) {
  check_rmsnorm(input, weight, out, eps);
  launch_norm<false>(norm_params(input, out, weight, eps), input.dtype, stream, enable_pdl);
}

}  // namespace flashladder::gpu
