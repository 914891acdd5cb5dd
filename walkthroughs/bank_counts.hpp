// Cycles that a warp's reads of a tile in shared memory take, counted from the addresses of P3 and P4: rows of 64 keys,
// head_dim 128.
#pragma once

#include <algorithm>
#include <array>
#include <set>

#include "walkthroughs/prefill_pipeline.hpp"

namespace flashladder::walkthroughs {

inline constexpr int head_dim = 128, chunks = head_dim / 8, row_bytes = head_dim * 2, counted_keys = 64;

// Cycles of one load of a warp, 2 or 4 bytes a lane: the most different words that lanes want of one bank.
inline int cycles(const Lanes<int>& offsets) {
  std::array<std::set<int>, 32> words;
  for (const int offset : offsets) words[offset / 4 % 32].insert(offset / 4);
  std::size_t most = 0;
  for (const auto& of_bank : words) most = std::max(most, of_bank.size());
  return static_cast<int>(most);
}

struct Reads {
  int instructions = 0, cycles = 0;
  void add(int taken) { ++instructions, cycles += taken; }
};

// What a warp of P3 reads of a tile: k[i * 8] and k[i * 8 + 4] of a lane's key, four elements of V a mma.
inline Reads p3_reads_k() {
  Reads reads;
  for (int n = 0; n < counted_keys / 8; ++n) {
    for (int i = 0; i < head_dim / 16; ++i) {
      for (const int word : {i * 8, i * 8 + 4}) {
        reads.add(cycles(each_lane([&](int lane) { return (n * 8 + lane / 4) * row_bytes + (lane % 4 + word) * 4; })));
      }
    }
  }
  return reads;
}
inline Reads p3_reads_v() {
  Reads reads;
  for (int i = 0; i < counted_keys / 16; ++i) {
    for (int n = 0; n < head_dim / 8; ++n) {
      for (const int key : {0, 1, 8, 9}) {
        reads.add(cycles(each_lane([&](int lane) {
          return (i * 16 + lane % 4 * 2 + key) * row_bytes + (n * 8 + lane / 4) * 2;
        })));
      }
    }
  }
  return reads;
}

// ldmatrix of all of a tile: four phases of eight lanes each. place(row, chunk): the byte offset.
template <class Row, class Place>
Reads ldmatrix_reads(int keys, Row row_of, Place place) {
  Reads reads;
  for (int first = 0; first < keys; first += 16) {
    for (int step = 0; step < head_dim / 16; ++step) {
      int taken = 0;
      for (int phase = 0; phase < 4; ++phase) {
        std::array<std::int32_t, lanes_per_phase> offsets{};
        for (int l = 0; l < lanes_per_phase; ++l) {
          const NamedRow named = row_of(8 * phase + l, first, step);
          offsets[l] = place(named.row, named.chunk);
        }
        taken += bank_conflict_ways(offsets);
      }
      reads.add(taken);
    }
  }
  return reads;
}
inline int plain(int row, int chunk) { return (row * chunks + chunk) * chunk_bytes; }
inline int padded(int row, int chunk) { return (row * (chunks + 1) + chunk) * chunk_bytes; }
inline int swizzled(int row, int chunk) { return plain(row, swizzled_chunk(Swizzle::bytes_128, row, chunk)); }

}  // namespace flashladder::walkthroughs
