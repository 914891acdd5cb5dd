// layernorm and layernorm_quant: all instances of gpu/norm/layernorm.cuh, each for 16 bits and for fp8. Rows in registers:
// dtype x (a part of a warp or a block for a row). Rows that are read again: dtype.
#include "gpu/norm/layernorm.hpp"

#include "core/op_checks.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/norm/layernorm.cuh"

namespace flashladder::gpu {
namespace {

bool is_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

// Rows are cut into lanes as rmsnorm cuts them; but a group has one row at a time, and room for four pieces in each lane.
template <class Element, class Out>
void launch_layernorm(const LayerNormParams& p, const Out& out, cudaStream_t stream, bool enable_pdl) {
  const NormShape shape = norm_shape(p.norm, false, multiprocessors(), Out::quantises);
  LaunchShape blocks{.grid = shape.grid, .block = shape.threads, .programmatic = enable_pdl};
  if (!shape.in_registers || !is_aligned(p.beta)) return launch(layernorm_walk_kernel<Element, Out>, blocks, stream, p, out);
  if (shape.wide) return launch(layernorm_row_kernel<Element, true, Out>, blocks, stream, p, shape.lanes, out);
  const std::int64_t rows_in_block = shape.threads / shape.lanes;
  blocks.grid = (std::int64_t{p.norm.rows} + rows_in_block - 1) / rows_in_block;
  launch(layernorm_row_kernel<Element, false, Out>, blocks, stream, p, shape.lanes, out);
}

// After the checks.
template <class Out>
void launch_layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& to, float eps,
                      const Out& out, cudaStream_t stream, bool enable_pdl) {
  const LayerNormParams params{.norm = norm_params(input, to, gamma, eps), .beta = beta.data,
                               .f32_weights = gamma.dtype == DType::f32};
  if (input.dtype == DType::f16) return launch_layernorm<Half>(params, out, stream, enable_pdl);
  launch_layernorm<BFloat16>(params, out, stream, enable_pdl);
}

}  // namespace

void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out, float eps,
               cudaStream_t stream, bool enable_pdl) {
  check_layernorm(input, gamma, beta, out, eps);
  launch_layernorm(input, gamma, beta, out, eps, Unquantised{}, stream, enable_pdl);
}

void layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     const QuantScale& scale, float eps, cudaStream_t stream, bool enable_pdl) {
  check_layernorm_quant(input, gamma, beta, out, scale, eps);
  launch_layernorm(input, gamma, beta, out, eps, OutQuantiser{scale, out.dtype}, stream, enable_pdl);
}

}  // namespace flashladder::gpu
