// What lies where in the shared memory of an L5 CTA, and who waits for whom.
//
// Three warp groups: one copies; group A computes scores, their softmax, and the left half of O, 64 rows x 256 features, 128
// registers of each thread; group B computes the right half. P goes from A to B through shared memory. A tile of 64 latent
// rows is three parts, each with barriers of its own, because they are needed and free again at different times:
//
//   part    features            read by S = Q K^T (A)    read by O += P V
//   rope    kpe 0..63           yes                      -
//   left    ckv 0..255          yes                      by A
//   right   ckv 256..511        yes                      by B
#pragma once

#include <cstdint>

#include "gpu/attention/packed_plan.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/ptx/mbarrier.cuh"

namespace flashladder::gpu::l5 {

inline constexpr int group_threads = 128, groups = 3, threads = groups * group_threads;
inline constexpr int rows = 64, keys = 64, stages = 2;
// Of a thread. All together are no more than what the CTA is launched with: else who asks for more waits for ever.
inline constexpr int launch_registers = 65536 / threads / 8 * 8, producer_registers = 72, consumer_registers = 216;
static_assert(producer_registers + 2 * consumer_registers <= groups * launch_registers, "the CTA's registers");

inline constexpr int atom_bytes = 1024, panel_bytes = rows * 128;  // 8 tokens x 64 features; 64 rows of q x 64 features
inline constexpr int half_features = mla_ckv / 2, half_atoms = half_features / 64, row_atoms = 2 * half_atoms;
inline constexpr int half_bytes = keys * half_features * 2, rope_bytes = keys * mla_kpe * 2;
inline constexpr int q_panels = (mla_ckv + mla_kpe) / 64, rope_panel = q_panels - 1;

enum Part { left, right, rope, parts };
constexpr int bytes_of(Part part) { return part == rope ? rope_bytes : half_bytes; }
constexpr int group_bytes(Part part) { return (part == rope ? 1 : row_atoms) * atom_bytes; }  // from 8 tokens to the next 8

struct Tile {
  unsigned char ckv[keys / 8][row_atoms][atom_bytes];  // the halves side by side, as in memory
  unsigned char rope[rope_bytes];                      // [keys / 8] atoms

  __device__ unsigned char* of(Part part) { return part == l5::rope ? rope : ckv[0][part * half_atoms]; }
};

// Full: it has come. Empty: it has been read, and may be overwritten.
struct Barriers {
  Mbarrier q_full, q_empty;
  Mbarrier full[stages][parts], empty[stages][parts];
  Mbarrier p_full, p_empty;  // what A hands to B
  // B may multiply: while A computes exponents, the tensor cores have no other work.
  Mbarrier b_turn;

  static constexpr int warps = group_threads / 32;
  // copiers: threads that arrive when they have copied their part of a tile.
  __device__ void init(int copiers) {
    q_full.init(group_threads + 1), q_empty.init(2 * group_threads);
    for (int s = 0; s < stages; ++s) {
      for (int p = 0; p < parts; ++p) full[s][p].init(copiers), empty[s][p].init(warps);
    }
    p_full.init(group_threads), p_empty.init(group_threads), b_turn.init(warps);
    fence_mbarrier_init();
  }
};

struct alignas(atom_bytes) Shared {
  unsigned char q[q_panels][panel_bytes];  // [features / 64][rows][128 bytes], swizzled; the rotated part is the last panel
  Tile tiles[stages];
  uint4 p[4][group_threads];               // P as A operands, what a thread of A has to that of B with the same number
  float2 of_rows[group_threads];           // beside it: the references of the thread's two rows, or, at the end, O's scales
  PackedItem items[2];                     // of this work and of the next; no rows: there is none
  Barriers barriers;
};
static_assert(sizeof(Shared) <= 227 * 1024, "what a CTA may have");

// A warp group's messages, counted over all the work of a CTA, as the tiles are (RingSlot): the parity of number n.
__device__ inline std::uint32_t parity_of(std::uint32_t n) { return n % 2; }

}  // namespace flashladder::gpu::l5
