// Scales of what is quantised, on the GPU: no kernel there quantises.
#pragma once

#include "api/placement.hpp"
#include "core/error.hpp"
#include "core/kv_scales.hpp"

namespace flashladder::api {

inline void require_scales_on(const On& on, const KvScales& s) {
  if (on.device == Device::cpu) return;
  constexpr const char* rule = "is of an fp8 cache, which the GPU does not append to, cpu does";
  require(s.k == 1, "k_scale", s.k, rule);
  require(s.v == 1, "v_scale", s.v, rule);
  require(s.k_per_head.empty(), "k_scale_per_head size", s.k_per_head.size(), rule);
  require(s.v_per_head.empty(), "v_scale_per_head size", s.v_per_head.size(), rule);
}

}  // namespace flashladder::api
