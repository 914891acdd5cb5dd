// gpu/ptx/stmatrix.cuh on a simulated GPU.
#pragma once

#include <cstdint>

#include "simt/matrix.hpp"

namespace flashladder::gpu {

inline void stmatrix_x4(void* row, const std::uint32_t (&a)[4]) { simt::store_matrices(simt::shared_address(row), a); }

}  // namespace flashladder::gpu
