// What P6 to P10 have in common: what they are built for, one instance each, and what their warp groups do with the stages
// of the rings. f16, head_dim 128, tiles of 128 keys, queries in shared memory; causal and window: why_not_lower_prefill()
// in prefill.hpp.
#pragma once

#include <cstdint>

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/prefill/hopper_group.cuh"
#include "gpu/prefill/hopper_products.cuh"
#include "gpu/prefill/hopper_shape.cuh"

namespace flashladder::gpu {

using LowerHopper = HopperShape<Half, 128, 128, 128, false>;

inline void require_lower_hopper(const AttentionCall& call, std::int32_t query_tile) {
  const std::int32_t most = LowerHopper::consumers * LowerHopper::group_rows;
  require(query_tile <= most, "plan.query_tile", query_tile, "is more rows than a tile has");
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "is not f16");
  const AttentionParams& p = call.params;
  require(p.head_dim_qk == 128 && p.head_dim_vo == 128, "head_dim", p.head_dim_qk, "is not 128");
}

// Full: the copy engine has brought it. Empty: every warp that computes has read it, and it may be overwritten.
template <class S>
struct RingBarriers {
  static constexpr int readers = S::consumers * S::group_threads / 32;
  Mbarrier k_full[S::stages], k_empty[S::stages];
  Mbarrier v_full[S::stages], v_empty[S::stages];

  // By one thread, after the other barriers: the fence is for all.
  __device__ void init() {
    for (int i = 0; i < S::stages; ++i) {
      k_full[i].init(1), k_empty[i].init(readers), v_full[i].init(1), v_empty[i].init(readers);
    }
    fence_mbarrier_init();
  }
};

// Of an item's first tile, which is its last in the cache: values behind the last key become zeros, when they have come.
template <class S, class Shared>
__device__ inline void clear_unused_values(Shared& shared, const RingSlot<S::stages>& at, std::uint32_t first_key,
                                           std::int32_t kv_len, int group) {
  if (first_key + S::keys <= static_cast<std::uint32_t>(kv_len)) return;
  shared.rings.v_full[at.stage].wait(at.parity);
  clear_values<S>(shared.v[at.stage], static_cast<int>(kv_len - first_key));
  sync_group(group);  // the zeros of all threads are there before the group's product reads them
}

}  // namespace flashladder::gpu
