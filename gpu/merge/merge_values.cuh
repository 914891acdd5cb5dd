// A few neighbouring elements of a v tensor, in float. `width` elements are one access of 8 or 16 bytes; or width is 1.
#pragma once

#include <cstdint>

#include "core/tensor.hpp"
#include "gpu/element.cuh"

namespace flashladder::gpu {

template <int width>
struct Values {
  float at[width];
};

// The elements as they lie in memory, so that many loads can be in flight before the first is converted.
template <class Element, int width>
struct alignas(sizeof(Element) * width) Stored {
  Element at[width];
};

template <class Element, int width>
__device__ inline Stored<Element, width> load_stored(const void* v, std::int64_t offset) {
  return *reinterpret_cast<const Stored<Element, width>*>(static_cast<const Element*>(v) + offset);
}
template <class Element, int width>
__device__ inline Values<width> to_values(const Stored<Element, width>& stored) {
  Values<width> values;
#pragma unroll
  for (int i = 0; i < width; ++i) values.at[i] = to_float(stored.at[i]);
  return values;
}

template <int width>
__device__ inline Values<width> load_values(const void* v, DType dtype, std::int64_t offset) {
  if (dtype == DType::f32) return to_values(load_stored<float, width>(v, offset));
  if (dtype == DType::f16) return to_values(load_stored<Half, width>(v, offset));
  return to_values(load_stored<BFloat16, width>(v, offset));
}

template <class Element, int width>
__device__ inline void store_as(void* v, std::int64_t offset, const Values<width>& values) {
  Stored<Element, width> stored;
#pragma unroll
  for (int i = 0; i < width; ++i) stored.at[i] = from_float<Element>(values.at[i]);
  *reinterpret_cast<Stored<Element, width>*>(static_cast<Element*>(v) + offset) = stored;
}
template <int width>
__device__ inline void store_values(void* v, DType dtype, std::int64_t offset, const Values<width>& values) {
  if (dtype == DType::f32) return store_as<float>(v, offset, values);
  if (dtype == DType::f16) return store_as<Half>(v, offset, values);
  store_as<BFloat16>(v, offset, values);
}

}  // namespace flashladder::gpu
