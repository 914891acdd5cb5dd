// An operand of wgmma in shared memory: the 64 bits that describe it, taken apart again, and the byte that the hardware
// reads for each element of the 16 x n operand. The same number as gpu/ptx/wgmma.cuh's.
#pragma once

#include <cstdint>

#include "core/swizzle.hpp"

namespace flashladder::walkthroughs {

constexpr std::uint64_t wgmma_operand(std::uint32_t shared_address, std::uint32_t leading, std::uint32_t stride) {
  return std::uint64_t{(shared_address & 0x3ffffu) >> 4} | std::uint64_t{leading >> 4} << 16 |
         std::uint64_t{stride >> 4} << 32 | std::uint64_t{1} << 62;
}
constexpr std::uint64_t further(std::uint64_t operand, std::uint32_t bytes) { return operand + (bytes >> 4); }

struct OperandFields {  // in bytes
  std::int32_t address, leading, stride, swizzle;
};
constexpr OperandFields fields(std::uint64_t operand) {
  const auto bits = [&](int first, int count) {
    return static_cast<std::int32_t>(operand >> first & ((std::uint64_t{1} << count) - 1));
  };
  return {bits(0, 14) * 16, bits(16, 14) * 16, bits(32, 14) * 16, bits(62, 2)};
}

// Element (k, n) of the operand, k < 16. Keys lie as rows of its transpose: n counts rows (tokens), k lies along a row.
constexpr std::int32_t key_byte(std::uint64_t operand, int k, int n) {
  const OperandFields at = fields(operand);
  return swizzled_offset(Swizzle::bytes_128, at.address + n / 8 * at.stride + n % 8 * 128 + k * 2);
}
// Values lie as rows of the operand itself: k counts rows (tokens), n lies along a row of 64, then `leading` further on.
constexpr std::int32_t value_byte(std::uint64_t operand, int k, int n) {
  const OperandFields at = fields(operand);
  const int row = n / 64 * at.leading + k / 8 * at.stride + k % 8 * 128;
  return swizzled_offset(Swizzle::bytes_128, at.address + row + n % 64 * 2);
}

// Of a tile at `address` with head_dim features: K's operand for features 16 step .., V's for tokens 16 step ..
constexpr std::uint64_t key_operand(std::uint32_t address, int head_dim, int step) {
  return further(wgmma_operand(address, 0, 1024u * static_cast<unsigned>(head_dim / 64)),
                 static_cast<unsigned>(step / 4 * 1024 + step % 4 * 32));
}
constexpr std::uint64_t value_operand(std::uint32_t address, int head_dim, int step) {
  const auto atoms = static_cast<unsigned>(head_dim / 64);
  return further(wgmma_operand(address, 1024, 1024 * atoms), static_cast<unsigned>(step) * 2 * 1024 * atoms);
}

}  // namespace flashladder::walkthroughs
