#include "reference/rope_ops.hpp"

#include <cmath>

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "core/rope.hpp"
#include "reference/element_io.hpp"

namespace flashladder::reference {
namespace {

using Rotations = std::vector<Rotation<float>>;  // [rotary_dim / 2]

void rotate_heads(const Tensor& t, std::int64_t token, RopeStyle style, const Rotations& rotations) {
  const auto rotary_dim = static_cast<std::int32_t>(2 * rotations.size());
  std::vector<float> features(rotary_dim);
  for (std::int64_t head = 0; head < t.shape[1]; ++head) {
    const std::int64_t offset = token * t.strides[0] + head * t.strides[1];
    load_row(t, offset, rotary_dim, features.data());
    for (std::int32_t pair = 0; pair < rotary_dim / 2; ++pair) {
      const RopePair f = rope_pair(style, pair, rotary_dim);
      rotations[pair].apply(features[f.x], features[f.y]);
    }
    store_row(features.data(), rotary_dim, t, offset);
  }
}

}  // namespace

void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta) {
  const auto nnz = static_cast<std::int64_t>(pos_ids.size());
  check_rope_heads(q, k, nnz);
  check_span("pos_ids", pos_ids, nnz);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta);
  for (std::int64_t i = 0; i < nnz; ++i) {
    require(pos_ids[i] >= 0, element("pos_ids", i).c_str(), pos_ids[i], "must not be negative");
  }

  const RopeStyle style = interleave ? RopeStyle::interleaved : RopeStyle::neox;
  Rotations rotations(rotated / 2);
  for (std::int64_t i = 0; i < nnz; ++i) {
    for (std::size_t p = 0; p < rotations.size(); ++p) {
      rotations[p] = rope_rotation<float>(pos_ids[i], static_cast<std::int32_t>(p), rotated, rope_scale, rope_theta);
    }
    rotate_heads(q, i, style, rotations);
    rotate_heads(k, i, style, rotations);
  }
}

void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int32_t> positions, const Tensor& q, const Tensor& k,
                                           const Tensor& cos_sin_cache, bool is_neox) {
  const auto nnz = static_cast<std::int64_t>(positions.size());
  check_rope_heads(q, k, nnz);
  check_span("positions", positions, nnz);
  check_cos_sin_cache(cos_sin_cache, q.shape[2]);
  const std::int64_t max_pos = cos_sin_cache.shape[0], rotary_dim = cos_sin_cache.shape[1];
  for (std::int64_t i = 0; i < nnz; ++i) {
    require(positions[i] >= 0 && positions[i] < max_pos, element("positions", i).c_str(), positions[i],
            "must be a row of cos_sin_cache");
  }

  Rotations rotations(rotary_dim / 2);
  for (std::int64_t i = 0; i < nnz; ++i) {
    const float* cosines = cos_sin_cache.data_as<const float>() + positions[i] * cos_sin_cache.strides[0];
    for (std::size_t p = 0; p < rotations.size(); ++p) rotations[p] = {cosines[p], cosines[rotations.size() + p]};
    rotate_heads(q, i, is_neox ? RopeStyle::neox : RopeStyle::interleaved, rotations);
    rotate_heads(k, i, is_neox ? RopeStyle::neox : RopeStyle::interleaved, rotations);
  }
}

std::vector<float> make_cos_sin_cache(std::int32_t max_pos, std::int32_t rotary_dim, float rope_scale, float rope_theta) {
  require(max_pos >= 1, "max_pos", max_pos, "must be at least 1");
  check_rotary_dim("rotary_dim", rotary_dim);
  check_frequencies(rope_scale, rope_theta);
  std::vector<float> cache(static_cast<std::size_t>(max_pos) * rotary_dim);
  for (std::int32_t position = 0; position < max_pos; ++position) {
    float* cosines = cache.data() + static_cast<std::size_t>(position) * rotary_dim;
    float* sines = cosines + rotary_dim / 2;
    for (std::int32_t pair = 0; pair < rotary_dim / 2; ++pair) {
      const auto r = rope_rotation<float>(position, pair, rotary_dim, rope_scale, rope_theta);
      cosines[pair] = r.cos;
      sines[pair] = r.sin;
    }
  }
  return cache;
}

}  // namespace flashladder::reference
