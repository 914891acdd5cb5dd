// Does the variant General have to compute this (variants.cuh)? For the host, which plans smaller tiles for it.
#pragma once

#include "core/attention_params.hpp"

namespace flashladder::gpu {

// For kernels whose items say which keys are seen: a window and causal need no variant then, since the planner trims the
// keys and edge tiles ask.
constexpr bool needs_general(const AttentionParams& p) {
  return p.mask == MaskMode::custom || p.pos_encoding_mode != PosEncodingMode::NONE;
}

}  // namespace flashladder::gpu
