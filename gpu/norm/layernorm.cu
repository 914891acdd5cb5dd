// layernorm: all instances of gpu/norm/layernorm.cuh. Rows in registers: dtype x (a part of a warp or a block for a row).
// Rows that are read again: dtype.
#include "gpu/norm/layernorm.hpp"

#include "core/op_checks.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/norm/layernorm.cuh"

namespace flashladder::gpu {
namespace {

bool is_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

// Rows are cut into lanes as rmsnorm cuts them; but a group has one row at a time, and room for four pieces in each lane.
template <class Element>
void launch_layernorm(const LayerNormParams& p, cudaStream_t stream, bool enable_pdl) {
  const NormShape shape = norm_shape(p.norm, false, multiprocessors());
  LaunchShape blocks{.grid = shape.grid, .block = shape.threads, .programmatic = enable_pdl};
  if (!shape.in_registers || !is_aligned(p.beta)) return launch(layernorm_walk_kernel<Element>, blocks, stream, p);
  if (shape.wide) return launch(layernorm_row_kernel<Element, true>, blocks, stream, p, shape.lanes);
  const std::int64_t rows_in_block = shape.threads / shape.lanes;
  blocks.grid = (std::int64_t{p.norm.rows} + rows_in_block - 1) / rows_in_block;
  launch(layernorm_row_kernel<Element, false>, blocks, stream, p, shape.lanes);
}

}  // namespace

void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out, float eps,
               cudaStream_t stream, bool enable_pdl) {
  check_layernorm(input, gamma, beta, out, eps);
  const LayerNormParams params{.norm = norm_params(input, out, gamma, eps), .beta = beta.data,
                               .f32_weights = gamma.dtype == DType::f32};
  if (input.dtype == DType::f16) return launch_layernorm<Half>(params, stream, enable_pdl);
  launch_layernorm<BFloat16>(params, stream, enable_pdl);
}

}  // namespace flashladder::gpu
