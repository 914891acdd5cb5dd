// The two products of a warp group, S = Q K^T and O += P V, over tiles that lie in shared memory as boxes bring them, and
// how queries come from there into registers.
#pragma once

#include <cstdint>

#include "core/swizzle.hpp"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/ptx/tma.cuh"
#include "gpu/ptx/wgmma.cuh"

namespace flashladder::gpu {

// A thread's queries: A operands of all k steps, unless they stay in shared memory. Then their address is read from there in
// every step (q_address): were it known to stay the same, the compiler would keep the descriptions of all k steps in
// registers, which O needs.
template <class S>
struct HopperQueries {
  static constexpr int steps = S::head_dim_qk / 16, step_bytes = 32, panel_bytes = S::group_rows * 128;
  std::uint32_t a[S::q_in_registers ? steps * 4 : 1];

  // q [head_dim_qk / 64][group_rows][128 bytes] of this warp group.
  __device__ void load(const unsigned char* q) {
    if constexpr (S::q_in_registers) {
      const int lane = threadIdx.x % 32, warp = threadIdx.x % S::group_threads / 32, row = warp * 16 + lane % 16;
#pragma unroll
      for (int k = 0; k < steps; ++k) {
        const int chunk = swizzled_chunk(Swizzle::bytes_128, row, k % 4 * 2 + lane / 16);
        std::uint32_t(&step)[4] = reinterpret_cast<std::uint32_t(&)[4]>(a[4 * k]);
        ldmatrix_x4(step, q + k / 4 * panel_bytes + row * 128 + chunk * chunk_bytes);
      }
    }
  }
};

// s [64 rows, keys] = Q K^T, not awaited. q_address: of the warp group's queries. k: address of the tile.
template <class S>
__device__ inline void start_scores(float (&s)[S::keys / 2], const HopperQueries<S>& q, std::uint32_t q_address,
                                    std::uint32_t k) {
  using Product = Wgmma<typename S::Element, S::keys>;
  const std::uint64_t b = wgmma_operand(k, 0, S::atom_bytes * S::k_atoms);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < HopperQueries<S>::steps; ++step) {
    const std::uint64_t of_step = further(b, step / 4 * S::atom_bytes + step % 4 * HopperQueries<S>::step_bytes);
    if constexpr (S::q_in_registers) {
      Product::template multiply<false>(s, q.a + 4 * step, of_step, step > 0);
    } else {
      const std::uint64_t a = further(wgmma_operand(q_address, 0, S::atom_bytes),
                                      step / 4 * HopperQueries<S>::panel_bytes + step % 4 * HopperQueries<S>::step_bytes);
      Product::template multiply<false>(s, a, of_step, step > 0);
    }
  }
  wgmma_commit();
}

// The product with V is committed in groups: a quarter of its steps, a second quarter, the other half. When a group is done,
// its part of P may be overwritten.
inline constexpr int output_groups = 3;

// o [64 rows, head_dim_vo] += P V, or, for an item's first tile, = P V; not awaited. p: P as A operands, 16 keys at a time.
// v: address of the tile.
template <class S>
__device__ inline void start_output(float (&o)[S::head_dim_vo / 2], const std::uint32_t (&p)[S::keys / 4], std::uint32_t v,
                                    bool first) {
  using Product = Wgmma<typename S::Element, S::head_dim_vo>;
  const std::uint64_t b = wgmma_operand(v, S::atom_bytes, S::atom_bytes * S::v_atoms);
  constexpr int steps = S::keys / 16;
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < steps; ++step) {
    if (step == steps / 4 || step == steps / 2) wgmma_commit();
    Product::template multiply<true>(o, p + 4 * step, further(b, step * 2 * S::atom_bytes * S::v_atoms),
                                    step > 0 || !first);
  }
  wgmma_commit();
}

// Unused slots of a page may hold NaN, which a weight of 0 does not take away: values [first, keys) of a tile become zeros.
// All threads of a warp group, which then meet before the product; the other group may write the same zeros meanwhile.
template <class S>
__device__ inline void clear_values(unsigned char* v, int first) {
  constexpr int chunks = S::head_dim_vo / 8;  // of a token
  for (int i = first * chunks + threadIdx.x % S::group_threads; i < S::keys * chunks; i += S::group_threads) {
    const int key = i / chunks, chunk = i % chunks;  // a row of 128 bytes is cleared whole: swizzling does not matter
    unsigned char* row = v + (key / 8 * S::v_atoms + chunk / 8) * S::atom_bytes + key % 8 * 128;
    reinterpret_cast<uint4*>(row)[chunk % 8] = uint4{};
  }
  fence_proxy_async();  // wgmma sees the zeros
}

}  // namespace flashladder::gpu
