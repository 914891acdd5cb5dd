// gpu/ptx/wgmma.cuh on a simulated GPU. A warp computes its own 16 rows of the 64: they depend on no other warp.
#pragma once

#include <cstdint>

#include "core/half.hpp"
#include "simt/products.hpp"

namespace flashladder::gpu {

inline void wgmma_fence() {}
inline void wgmma_commit() { simt::commit_products(); }
template <int pending>
inline void wgmma_wait() {
  simt::wait_for_products(pending);
}

inline std::uint64_t wgmma_operand(std::uint32_t shared_address, std::uint32_t leading, std::uint32_t stride) {
  return std::uint64_t{(shared_address & 0x3ffffu) >> 4} | std::uint64_t{leading >> 4} << 16 |
         std::uint64_t{stride >> 4} << 32 | std::uint64_t{1} << 62;
}
inline std::uint64_t further(std::uint64_t operand, std::uint32_t bytes) { return operand + (bytes >> 4); }

template <class Element, int n>
struct Wgmma {
  template <bool along_k>
  static void multiply(float (&c)[n / 2], const std::uint32_t* a, std::uint64_t b, bool add) {
    simt::multiply_64<Element>({c, n, {a[0], a[1], a[2], a[3]}, 0, false, b, along_k, add});
  }
  template <bool along_k>
  static void multiply(float (&c)[n / 2], std::uint64_t a, std::uint64_t b, bool add) {
    simt::multiply_64<Element>({c, n, {}, a, true, b, along_k, add});
  }
};

}  // namespace flashladder::gpu
