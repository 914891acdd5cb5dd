#include "reference/rope_ops.hpp"

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "reference/rotate_head.hpp"

namespace flashladder::reference {
namespace {

using Indices = std::span<const std::int32_t>;

template <class Position, class Angles>
void rotate_all(const Tensor& q, const Tensor& k, const char* positions_name, std::span<const Position> positions,
                const Angles& angles) {
  for (std::size_t i = 0; i < positions.size(); ++i) {
    angles.check(positions_name, static_cast<std::int64_t>(i), positions[i]);
  }
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const Rotations rotations = angles.at(positions[i]);
    for (const Tensor* t : {&q, &k}) {
      for (std::int64_t head = 0; head < t->shape[1]; ++head) {
        const std::int64_t offset = static_cast<std::int64_t>(i) * t->strides[0] + head * t->strides[1];
        rotate_head(*t, offset, *t, offset, angles.style, rotations);
      }
    }
  }
}

template <class Position>
void rope_by_table(std::span<const Position> positions, const Tensor& q, const Tensor& k, const ConstTensor& cos_sin_cache,
                   bool is_neox) {
  check_rope(q, k, "positions", positions);
  check_cos_sin_cache(cos_sin_cache, q.shape[2], {{"q", q}, {"k", k}});
  const auto rotary_dim = static_cast<std::int32_t>(cos_sin_cache.shape[1]);
  rotate_all(q, k, "positions", positions, CachedAngles{rotary_dim, style_of(!is_neox), cos_sin_cache});
}

}  // namespace

void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, Indices pos_ids, std::int32_t rotary_dim, bool interleave,
                                float rope_scale, float rope_theta, const std::optional<Llama31Scaling>& llama31) {
  check_rope(q, k, "pos_ids", pos_ids);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta, llama31);
  rotate_all(q, k, "pos_ids", pos_ids, ComputedAngles{rotated, style_of(interleave), rope_scale, rope_theta, llama31});
}

void apply_rope_with_cos_sin_cache_inplace(Indices positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox) {
  rope_by_table(positions, q, k, cos_sin_cache, is_neox);
}
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int64_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox) {
  rope_by_table(positions, q, k, cos_sin_cache, is_neox);
}

std::vector<float> make_cos_sin_cache(std::int32_t max_pos, std::int32_t rotary_dim, float rope_scale, float rope_theta,
                                      const std::optional<Llama31Scaling>& llama31) {
  require(max_pos >= 1, "max_pos", max_pos, "must be at least 1");
  check_rotary_dim("rotary_dim", rotary_dim);
  check_frequencies(rope_scale, rope_theta, llama31);
  const auto row = static_cast<std::size_t>(rotary_dim);
  std::vector<float> cache(static_cast<std::size_t>(max_pos) * row);
  for (std::int32_t position = 0; position < max_pos; ++position) {
    float* cosines = cache.data() + static_cast<std::size_t>(position) * row;
    float* sines = cosines + rotary_dim / 2;
    for (std::int32_t pair = 0; pair < rotary_dim / 2; ++pair) {
      const auto r = rope_rotation<float>(position, pair, rotary_dim, rope_scale, rope_theta, llama31);
      cosines[pair] = r.cos;
      sines[pair] = r.sin;
    }
  }
  return cache;
}

}  // namespace flashladder::reference
