// Which variant of a kernel computes what is asked for (variants.cuh), for the host.
#pragma once

#include <cstdint>

#include "core/attention_params.hpp"

namespace flashladder::gpu {

enum class VariantKind : std::uint8_t { scaled, soft_capped, general };

// For kernels whose items say which keys are seen. A window and causal need no variant then: the planner trims the keys, and
// edge tiles ask.
constexpr VariantKind variant_of(const AttentionParams& p) {
  if (p.mask == MaskMode::custom || p.pos_encoding_mode != PosEncodingMode::NONE) return VariantKind::general;
  return p.logits_soft_cap > 0 ? VariantKind::soft_capped : VariantKind::scaled;
}

}  // namespace flashladder::gpu
