// Where a 16-byte chunk of a row goes in shared memory, so that reading a column of chunks hits every bank once.
//
// Shared memory has 32 banks of 4 bytes: 128 bytes a cycle. A warp that moves 16 bytes a lane is served in phases of 8
// lanes, and a phase takes one cycle if its 8 chunks lie in 8 different bank groups (16 bytes each: (offset / 16) % 8).
// ldmatrix reads 8 rows of one column of chunks a phase: with rows of 128 bytes all lie in one group, 8 cycles, not one.
// A swizzle permutes the chunks within each row by XOR with a number that changes from row to row:
//   rows of 128 bytes   chunk ^ row % 8           bits 4-6 of the offset ^= bits 7-9
//   rows of  64 bytes   chunk ^ row / 2 % 4       bits 4-5 of the offset ^= bits 7-8
//   rows of  32 bytes   chunk ^ row / 4 % 2       bit 4    of the offset ^= bit 7
// These are the patterns of TMA and of wgmma's descriptors (PTX ISA, "Swizzling Modes"; CUDA C++ Programming Guide, "Shared
// Memory Swizzling"). They repeat every 8 rows, so a tile must start at a multiple of 1024, 512 or 256 bytes.
#pragma once

#include <array>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

inline constexpr std::int32_t chunk_bytes = 16, bank_groups = 8, lanes_per_phase = 8;

// The number is the span in bytes within which chunks move, which is the length of a row too, but for none.
enum class Swizzle : std::int32_t { none = 16, bytes_32 = 32, bytes_64 = 64, bytes_128 = 128 };
constexpr const char* name_of(Swizzle s) {
  return s == Swizzle::none ? "none" : s == Swizzle::bytes_32 ? "32B" : s == Swizzle::bytes_64 ? "64B" : "128B";
}

// The chunk position at which `chunk` of `row` is stored, in rows as long as the swizzle.
FL_HD constexpr std::int32_t swizzled_chunk(Swizzle s, std::int32_t row, std::int32_t chunk) {
  const std::int32_t chunks = static_cast<std::int32_t>(s) / chunk_bytes, rows_per_128_bytes = bank_groups / chunks;
  return chunk ^ (row / rows_per_128_bytes % chunks);
}

// The same on byte offsets from the start of the tile, rows of any length: what the TMA unit does.
FL_HD constexpr std::int32_t swizzled_offset(Swizzle s, std::int32_t byte_offset) {
  const std::int32_t chunks = static_cast<std::int32_t>(s) / chunk_bytes;
  return byte_offset ^ (byte_offset / 128 % chunks * chunk_bytes);
}

// Cycles that one phase takes: the most lanes that want different chunks of one bank group. Equal offsets are one read.
constexpr std::int32_t bank_conflict_ways(const std::array<std::int32_t, lanes_per_phase>& byte_offsets) {
  std::int32_t worst = 1;
  for (std::int32_t group = 0; group < bank_groups; ++group) {
    std::int32_t ways = 0;
    for (std::int32_t lane = 0; lane < lanes_per_phase; ++lane) {
      const std::int32_t chunk = byte_offsets[lane] / chunk_bytes;
      bool seen = chunk % bank_groups != group;
      for (std::int32_t earlier = 0; earlier < lane && !seen; ++earlier) {
        seen = byte_offsets[earlier] / chunk_bytes == chunk;
      }
      ways += !seen;
    }
    if (ways > worst) worst = ways;
  }
  return worst;
}

// The phase that ldmatrix needs: 8 rows of one column of chunks, rows of row_bytes.
constexpr std::array<std::int32_t, lanes_per_phase> column_phase(Swizzle s, std::int32_t row_bytes, std::int32_t first_row,
                                                                 std::int32_t chunk) {
  std::array<std::int32_t, lanes_per_phase> offsets{};
  for (std::int32_t lane = 0; lane < lanes_per_phase; ++lane) {
    offsets[lane] = swizzled_offset(s, (first_row + lane) * row_bytes + chunk * chunk_bytes);
  }
  return offsets;
}

}  // namespace flashladder
