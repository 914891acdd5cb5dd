// A row of an output that is fp8: each element over a scale, divided in float, rounded to nearest even and saturated.
#pragma once

#include <cmath>
#include <span>

#include "core/error.hpp"
#include "core/kv_scales.hpp"
#include "core/tensor.hpp"
#include "reference/element_io.hpp"

namespace flashladder::reference {

// x / scale into out, from element `offset` on.
inline void store_quantised(std::span<float> x, float scale, const Tensor& out, std::int64_t offset) {
  for (float& value : x) value /= scale;
  visit_cache_dtype(out.dtype, [&]<class Element>(Element) {
    store_row(x.data(), static_cast<std::int64_t>(x.size()), out.data_as<Element>() + offset);
  });
}

// A stored scale is looked at here, where it can be read.
inline float checked_scale(const QuantScale& scale) {
  const float value = scale.value();
  require(std::isfinite(value) && value > 0, "scale", value, "must be finite and greater than 0");
  return value;
}

}  // namespace flashladder::reference
