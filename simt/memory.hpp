// Shared memory of a simulated CTA, and addresses in it as the instructions have them: 32 bits, from 0 on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/cluster.hpp"

namespace flashladder::simt {

template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(current->cta->shared);
}

// Of dynamic shared memory only: what kernels reckon with.
inline std::uint32_t shared_address(const void* p) {
  const auto at = reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(cluster->arena());
  if (at >= cluster->arena_bytes()) cluster->fail("an address that is not in dynamic shared memory");
  return static_cast<std::uint32_t>(at);
}
inline std::byte* at_shared(std::uint32_t address, std::size_t bytes) {
  const std::size_t in_window = address % Cluster::window;
  if (address >= cluster->arena_bytes() || in_window + bytes > cluster->launch().shared_bytes) {
    cluster->fail("shared memory at " + std::to_string(in_window) + " and on, of " +
                  std::to_string(cluster->launch().shared_bytes) + " bytes");
  }
  return cluster->arena() + address;
}
// Where a byte of swizzled rows of 128 bytes lies: bits 4 to 6 of its address are turned by bits 7 to 9.
inline std::uint32_t swizzled_128(std::uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

}  // namespace flashladder::simt
