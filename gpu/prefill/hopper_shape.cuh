// The shape of a CTA of the Hopper rungs: a warp group that copies, and two or three that compute 64 rows each, and what
// lies in their shared memory.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_plan.hpp"
#include "gpu/prefill/prefill.hpp"
#include "gpu/ptx/mbarrier.cuh"

namespace flashladder::gpu {

// keys_: of a tile, a multiple of 16 for which ptx/wgmma.cuh has an instruction. q_in_registers_: else Q stays in shared
// memory, and O leaves through the same bytes.
template <class Element_, int head_dim_qk_, int head_dim_vo_, int keys_, bool q_in_registers_>
struct HopperShape {
  using Element = Element_;
  static constexpr int head_dim_qk = head_dim_qk_, head_dim_vo = head_dim_vo_, keys = keys_;
  static constexpr bool q_in_registers = q_in_registers_;
  static constexpr int consumers = p11::warp_groups(head_dim_qk), group_threads = 128;
  static constexpr int threads = group_threads * (1 + consumers);
  static constexpr int group_rows = p11::warp_group_rows;  // 16 a warp
  static constexpr int stages = head_dim_qk == 64 ? 4 : 2;  // of the rings of K and of V
  // Of a thread. All together are what the CTA was launched with, all that an SM has.
  static constexpr int producer_registers = consumers == 2 ? 24 : 32, consumer_registers = consumers == 2 ? 240 : 160;
  static_assert(group_threads * (producer_registers + consumers * consumer_registers) <= 65536, "an SM's registers");

  static constexpr int q_bytes = group_rows * head_dim_qk * 2;  // of a warp group's queries
  static constexpr int o_bytes = group_rows * head_dim_vo * 2;
  static constexpr int k_bytes = keys * head_dim_qk * 2, v_bytes = keys * head_dim_vo * 2;  // of a stage
  static constexpr int k_atoms = head_dim_qk / 64, v_atoms = head_dim_vo / 64;  // side by side in 8 tokens
  static constexpr int atom_bytes = 1024;
};

// Full: the copy engine has brought it. Empty: it has been read, and may be overwritten. Of keys and values, which products
// read for a whole warp, one lane says that; of the record beside the queries, every thread that has read it by itself.
template <class S>
struct HopperBarriers {
  Mbarrier q_full, q_empty;
  Mbarrier k_full[S::stages], k_empty[S::stages];
  Mbarrier v_full[S::stages], v_empty[S::stages];

  __device__ void init() {
    constexpr int warps = S::consumers * S::group_threads / 32;
    q_full.init(1), q_empty.init((warps + 1) * 32);  // the warp that brings values reads the record too
    for (int i = 0; i < S::stages; ++i) k_full[i].init(1), k_empty[i].init(warps), v_full[i].init(1), v_empty[i].init(warps);
    fence_mbarrier_init();
  }
};

template <class S>
struct alignas(S::atom_bytes) HopperShared {
  unsigned char q[S::consumers][S::q_bytes];  // [features / 64][group_rows][128 bytes], swizzled
  unsigned char k[S::stages][S::k_bytes];     // [keys / 8][k_atoms] atoms
  unsigned char v[S::stages][S::v_bytes];     // [keys / 8][v_atoms] atoms
  unsigned char o[S::q_in_registers ? S::consumers : 1][S::q_in_registers ? S::o_bytes : 16];  // [group_rows][head_dim_vo]
  PackedItem items[2];                        // of this work and of the next; no rows: there is none
  PackedItem coming;                          // of the one after, on its way, for the head of copy 0: only the warp that
  std::int32_t coming_copy;                   // claims looks at it, and at which copy it is of
  std::uint32_t q_address[S::consumers];      // of q, in this address space: see HopperQueries
  HopperBarriers<S> barriers;
};

// Where a tile lies in the rings of K and of V, both alike: tiles are counted over all the work of a CTA.
template <int stages>
struct RingSlot {
  int stage;
  std::uint32_t parity;  // of the phase in which the stage is filled
  __device__ explicit RingSlot(std::uint32_t tile)
      : stage(static_cast<int>(tile % stages)), parity(tile / stages % 2) {}
};

// The tiles of an item's keys. They are taken from the last to the first, so that the tile with the edge comes first. An
// item without keys has one tile, of which its rows see nothing: no other path for what is rare.
template <int keys>
struct KeyTiles {
  std::int32_t begin, count;

  // first_key_mask: where a tile may begin (boxes.hpp).
  __device__ KeyTiles(Range range, std::int32_t first_key_mask)
      : begin(range.begin & first_key_mask), count(range.empty() ? 1 : div_up(range.end - begin, keys)) {}
  __device__ std::uint32_t first_key(int n) const { return static_cast<std::uint32_t>(begin) + n * keys; }
};

}  // namespace flashladder::gpu
