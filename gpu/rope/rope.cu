// apply_rope_*_inplace: the kernel of gpu/rope/rope_in_place.cuh, or, for shapes that it cannot load in pieces,
// rope_elements_kernel of gpu/rope/rope_kernel.cuh. Instances: dtype x style x angles x pairs a lane.
#include "gpu/rope/rope.hpp"

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "gpu/arguments.hpp"
#include "gpu/device.hpp"
#include "gpu/rope/rope_in_place.cuh"
#include "gpu/rope/rope_launch.cuh"

namespace flashladder::gpu {
namespace {

// Positions are int32 or int64. Of int64 the kernels read the lower half, which comes first.
template <class Position>
RopeCall rope_call(const Tensor& q, const Tensor& k, std::span<const Position> positions, std::int32_t rotary_dim,
                   RopeStyle style, cudaStream_t stream, bool enable_pdl) {
  RopeCall call{.dtype = q.dtype, .style = style, .stream = stream, .enable_pdl = enable_pdl};
  call.params.q = head_rows(q);
  call.params.k = head_rows(k);
  call.params.positions = reinterpret_cast<const std::int32_t*>(positions.data());
  call.params.position_bytes = sizeof(Position);
  call.params.nnz = static_cast<std::int32_t>(positions.size());
  call.params.rotary_dim = rotary_dim;
  return call;
}

template <class Element, class Angles>
void launch_in_place(const RopeCall& call, bool angles_aligned, const Angles& angles) {
  const RopeParams& all = call.params;
  const HeadRows &q = all.q, &k = all.k;
  const InPlaceShape shape = in_place_shape(q, k, all.nnz, all.rotary_dim, call.style, multiprocessors());
  if (shape.pairs == 0 || !angles_aligned) return launch_rope_elements<Element>(call, angles);
  const InPlaceParams p{.q = q.data, .k = k.data, .positions = all.positions, .q_token = q.token, .q_head = q.head,
                        .k_token = k.token, .k_head = k.head, .nnz = all.nnz, .q_heads = q.num_heads,
                        .num_heads = all.num_heads(), .rotary_dim = all.rotary_dim,
                        .position_bytes = all.position_bytes};
  LaunchShape blocks = launch_shape(call, shape.tokens);
  blocks.grid_y = static_cast<unsigned>(shape.chunks);
  const auto with_style = [&]<RopeStyle style>() {
    const auto kernel = shape.pairs == 8 ? rope_in_place_kernel<Element, style, Angles, 8>
                                         : rope_in_place_kernel<Element, style, Angles, 4>;
    launch(kernel, blocks, call.stream, p, angles);
  };
  if (call.style == RopeStyle::neox) return with_style.template operator()<RopeStyle::neox>();
  with_style.template operator()<RopeStyle::interleaved>();
}

template <class Angles>
void launch_in_place(const RopeCall& call, bool angles_aligned, const Angles& angles) {
  if (call.dtype == DType::f16) return launch_in_place<Half>(call, angles_aligned, angles);
  launch_in_place<BFloat16>(call, angles_aligned, angles);
}

template <class Position>
void check_on_gpu(const Tensor& q, const Tensor& k, const char* argument, std::span<const Position> positions) {
  check_rope(q, k, argument, positions);
  require_16_bits("q", q);
  require_int32_shape("q", q);
  require_int32_shape("k", k);
  require_int32_heads("k", q.shape[1] + k.shape[1]);
}

template <class Position>
void rope_by_table(std::span<const Position> positions, const Tensor& q, const Tensor& k, const ConstTensor& cos_sin_cache,
                   bool is_neox, cudaStream_t stream, bool enable_pdl) {
  check_on_gpu(q, k, "positions", positions);
  check_cos_sin_cache(cos_sin_cache, q.shape[2], {{"q", q}, {"k", k}});
  const auto rotary_dim = static_cast<std::int32_t>(cos_sin_cache.shape[1]);
  launch_in_place(rope_call(q, k, positions, rotary_dim, style_of(!is_neox), stream, enable_pdl), is_aligned(cos_sin_cache),
                  cached_angles(cos_sin_cache));
}

}  // namespace

void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int32_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox, cudaStream_t stream,
                                           bool enable_pdl) {
  rope_by_table(positions, q, k, cos_sin_cache, is_neox, stream, enable_pdl);
}
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int64_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox, cudaStream_t stream,
                                           bool enable_pdl) {
  rope_by_table(positions, q, k, cos_sin_cache, is_neox, stream, enable_pdl);
}

void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                cudaStream_t stream, bool enable_pdl, const std::optional<Llama31Scaling>& llama31) {
  check_on_gpu(q, k, "pos_ids", pos_ids);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta, llama31);
  launch_in_place(rope_call(q, k, pos_ids, rotated, style_of(interleave), stream, enable_pdl), true,
                  ComputedAngles{rope_turns(rotated, rope_scale, rope_theta, llama31)});
}

}  // namespace flashladder::gpu
