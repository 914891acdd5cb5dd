#include "gpu/merge/merge_params.hpp"

#include <algorithm>
#include <bit>

namespace flashladder::gpu {

StateRows state_rows(const ConstTensor& v, const ConstTensor& s, std::size_t head_dimension) {
  return {const_cast<void*>(v.data), const_cast<float*>(s.data_as<const float>()), v.dtype, v.strides[0],
          v.strides[head_dimension], s.strides[0], s.strides[head_dimension]};
}

MergeShape merge_shape(std::int64_t rows_and_heads, std::int64_t states, std::int32_t head_dim, bool vector,
                       int multiprocessors) {
  constexpr int threads = 256, states_in_flight = 4;
  MergeShape shape{.width = vector ? 4 : 1};
  shape.lanes = std::min(head_dim / shape.width, threads);
  // With enough rows one group of threads merges all states of a pair. With few rows several groups (ways) share them, as
  // many ways as still get states_in_flight states each.
  const bool few = rows_and_heads * shape.lanes < std::int64_t{multiprocessors} * 512;
  const auto useful = static_cast<std::uint64_t>(std::max<std::int64_t>(states / states_in_flight, 1));
  if (few) shape.ways = static_cast<std::int32_t>(std::min<std::uint64_t>(std::bit_floor(useful), 16));
  shape.ways = std::min(shape.ways, std::max(1, 2 * threads / shape.lanes));
  shape.pairs = std::max(1, threads / (shape.lanes * shape.ways));
  return shape;
}

bool is_vector(const ConstTensor& v) {
  constexpr int width = 4;
  const auto address = reinterpret_cast<std::uintptr_t>(v.data);
  bool vector = v.shape[v.rank - 1] % width == 0 && address % (width * size_of(v.dtype)) == 0;
  for (int i = 0; i + 1 < v.rank; ++i) vector = vector && (v.shape[i] <= 1 || v.strides[i] % width == 0);
  return vector;
}

}  // namespace flashladder::gpu
