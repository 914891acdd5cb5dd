// A lane's way along a row of a swizzled tile in shared memory, two chunks of 16 bytes a step, as ldmatrix reads fragments.
//
// The swizzle is an XOR on the lowest three bits of the chunk (core/swizzle.hpp). A step adds 2 to the chunk, which is an
// XOR with 2, 4 or 6 as long as it stays within 128 bytes, and then goes on to the next 128: so that the address of a step
// is one XOR away from that of the first, and rows below, by multiples of 8, are a constant away.
#pragma once

#include <cstdint>

#include "core/swizzle.hpp"
#include "gpu/ptx/mma.cuh"

namespace flashladder::gpu {

// Where chunk c of a row of a tile is stored.
__device__ constexpr int swizzled(int row, int chunk) { return swizzled_chunk(Swizzle::bytes_128, row, chunk); }

template <int chunks>  // of a row
class SwizzledRow {
 public:
  static_assert(chunks % 8 == 0, "a row is whole rows of banks");

  // first: 0 or 1, the chunk at which the lane begins. The tile begins at a multiple of 128 bytes.
  template <int rows>
  __device__ SwizzledRow(const uint4 (&tile)[rows][chunks], int row, int first)
      : address_(shared_address(&tile[row][swizzled(row, first)])) {}

  // Of chunk first + 2 * step, so many rows below: a multiple of 8.
  __device__ std::uint32_t at(int step, int below = 0) const {
    return (address_ ^ step % 4 * 32) + step / 4 * 128 + below * chunks * 16;
  }

 private:
  std::uint32_t address_;
};

}  // namespace flashladder::gpu
