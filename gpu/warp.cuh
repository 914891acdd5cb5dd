// What every warp-wide instruction names.
#pragma once

namespace flashladder::gpu {

inline constexpr unsigned all_lanes = 0xffffffffu;

}  // namespace flashladder::gpu
