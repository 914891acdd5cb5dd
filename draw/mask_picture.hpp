// Which keys each query sees, cell by cell, as core/visibility.hpp decides. The bottom right corner is marked: the last
// query stands on the last key, and the diagonal through it is what causal and window_left are counted from.
#pragma once

#include <cstdint>
#include <span>

#include "core/attention_params.hpp"
#include "draw/figure.hpp"

namespace flashladder::draw {

inline constexpr std::int32_t max_mask_side = 1024;

// custom_mask: [qo_len, kv_len] bytes, 1 = visible, read only with MaskMode::custom.
// Throws InputError unless both lengths are 1 .. max_mask_side and the mask has its size.
Svg mask_picture(const AttentionParams& params, std::int32_t qo_len, std::int32_t kv_len,
                 std::span<const std::uint8_t> custom_mask = {}, const Caption& caption = {});

}  // namespace flashladder::draw
