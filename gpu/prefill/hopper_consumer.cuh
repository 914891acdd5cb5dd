// The consumers of P11 and P12, and the parts that the warp groups of a CTA take.
//
// One step of a warp group, tile n. P belongs to tile n + 1, which comes before it:
//   S = Q K[n]^T  and  O += P V[n + 1]  are started together; while the tensor cores compute the second, S is masked; then P
//   is made of S. With two warp groups one computes exponents while the other's products run: nobody has to say whose turn
//   it is.
#pragma once

#include <cstdint>

#include "gpu/attention/variants.cuh"
#include "gpu/prefill/hopper_group.cuh"
#include "gpu/prefill/hopper_producer.cuh"
#include "gpu/prefill/hopper_products.cuh"
#include "gpu/prefill/hopper_rows.cuh"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/prefill/row_output.cuh"
#include "gpu/prefill/stale_softmax.cuh"
#include "gpu/ptx/setmaxnreg.cuh"

namespace flashladder::gpu {

// A warp group: 64 rows of every work that its CTA claims. The first product of a work is started before the one before has
// left its registers: the tensor cores compute it meanwhile.
template <class S, class Variant>
__device__ void consume(HopperShared<S>& shared, int group, const QueryBoxes& queries, const QueryRows& rows,
                        std::int32_t first_key_mask, const Variant& variant, const KeyRules& rules,
                        const PackedParams& plan) {
  using Element = typename S::Element;
  HopperBarriers<S>& barriers = shared.barriers;
  const auto address = [](const unsigned char* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); };
  const auto q_address = [&] { return *static_cast<volatile std::uint32_t*>(&shared.q_address[group]); };
  const auto has_rows = [&](const PackedItem& item) { return group * queries.group_rows < item.rows.size(); };
  constexpr bool overlaps = Variant::only_scales || Variant::has_small_form;  // registers for exponents during products
  float scale = 1;
  if constexpr (Variant::only_scales) scale = variant.p.scale;
  HopperQueries<S> q;
  float o[S::head_dim_vo / 2], s[S::keys / 2];
  std::uint32_t p[S::keys / 4];
  std::uint32_t tile = 0;   // of keys, the next to come
  bool started = false;     // the work's first product is there, in s
  for (std::uint32_t turn = 0;; ++turn) {
    tile = __shfl_sync(all_lanes, tile, 0), turn = __shfl_sync(all_lanes, turn, 0);  // as below, for uniform registers
    const PackedItem& item = shared.items[turn % 2];
    if (!started) {
      barriers.q_full.wait(turn % 2);
      if (item.rows.empty()) break;
    }
    const KeyTiles<S::keys> tiles(item.keys, first_key_mask);
    if (!started && !has_rows(item)) {
      barriers.q_empty.arrive();
      pass_tiles<S>(barriers, tiles.count, tile);
      continue;
    }
    const RingSlot<S::stages> first(tile++);
    if (!started) {
      q.load(shared.q[group]);
      barriers.k_full[first.stage].wait(first.parity);
      start_scores<S>(s, q, q_address(), address(shared.k[first.stage]));
      wgmma_wait<0>();
    }
    if constexpr (S::q_in_registers) {
      barriers.q_empty.arrive();  // this thread has its queries, and has read the record of the work before
    }
    release(barriers.k_empty[first.stage]);
    const ItemRows<S, Variant> mine(variant, rules, item, queries, tiles, group);
    const auto seen = [&] { return mine.seen(rules, item); };
    const auto mask_of = [&](int n) { return TileMask<S, Variant>(variant, item, mine, first_key_mask, n); };
    mask_scores<S>(s, variant, item, mine, first_key_mask, tiles.count - 1, seen, mask_of(tiles.count - 1));
    StaleSoftmax softmax;
    softmax.template begin<Element, S::keys>(s, scale, p);
    const std::uint32_t first_key = tiles.first_key(tiles.count - 1), kv_len = item.request.kv_len;
    if (first_key + S::keys > kv_len) {
      barriers.v_full[first.stage].wait(first.parity);
      clear_values<S>(shared.v[first.stage], static_cast<int>(kv_len - first_key));
      sync_group(group);
    }
    for (int n = tiles.count - 2; n >= 0; --n) {
      const RingSlot<S::stages> before(tile - 1), at(tile++);
      const auto mask = mask_of(n);
      barriers.k_full[at.stage].wait(at.parity);
      start_scores<S>(s, q, q_address(), address(shared.k[at.stage]));
      barriers.v_full[before.stage].wait(before.parity);
      start_output<S>(o, p, address(shared.v[before.stage]), n + 2 == tiles.count);
      wgmma_wait<output_groups>();  // S is there
      release(barriers.k_empty[at.stage]);
      mask_scores<S>(s, variant, item, mine, first_key_mask, n, seen, mask);
      wgmma_wait<output_groups - 1>();  // the first quarter of P has been read
      const auto half = [&](float so_far) {
        if constexpr (overlaps) sleep_if_infinite(so_far);
        wgmma_wait<output_groups - 2>();
      };
      softmax.template absorb<Element, S::keys>(s, scale, p, o, half, [&](float so_far) {
        if constexpr (overlaps) sleep_if_infinite(so_far);
        wgmma_wait<0>();
        release(barriers.v_empty[before.stage]);
      });
    }
    const RingSlot<S::stages> last(tile - 1);
    barriers.v_full[last.stage].wait(last.parity);
    start_output<S>(o, p, address(shared.v[last.stage]), tiles.count == 1);
    const RowEnds ends = finish_softmax<S>(softmax, variant, mine, item, rows, plan);  // while it is under way
    if constexpr (S::q_in_registers) {
      barriers.q_full.wait((turn + 1) % 2);
      started = has_rows(shared.items[(turn + 1) % 2]);
      const RingSlot<S::stages> next(tile);
      if (started) q.load(shared.q[group]), barriers.k_full[next.stage].wait(next.parity);
      start_scores<S>(s, q, q_address(), address(shared.k[next.stage]));  // if not started, of anything: nobody reads it
      wgmma_wait<1>();
      release(barriers.v_empty[last.stage]);
      store_output<S>(o, ends.scale, mine, item, rows, plan, shared.o[group]);
      ends.store_lse();
      wgmma_wait<0>();
    } else {
      wgmma_wait<0>();
      release(barriers.v_empty[last.stage]);
      sync_group(group);  // the group's products have read Q: O may take its place
      store_output<S>(o, ends.scale, mine, item, rows, plan, shared.q[group]);
      ends.store_lse();
      wait_for_reads_of_stores();
      fence_proxy_async();  // what this thread did there comes before the copy of the next queries
      barriers.q_empty.arrive();
    }
  }
  wait_for_reads_of_stores();  // shared memory stays until the last rows have left it
}

// Warp group 0 copies, the others compute, until no work is left to be claimed.
template <class S, class Variant>
__device__ void run_works(HopperShared<S>& shared, const QueryBoxes& queries, const KvBoxes& kv, const QueryRows& rows,
                          const Variant& variant, const KeyRules& rules, const PackedParams& plan) {
  // By a shuffle, so that the compiler knows it to be the same for the warp: what depends on it alone is then computed once
  // a warp, in uniform registers, as wgmma's descriptions are wanted.
  const int group = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / S::group_threads, 0);
  if (group == 0) {
    give_registers_back<S::producer_registers>();
    const int warp = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0) {
      produce_keys<S>(shared, queries, kv, rows, plan);
    } else if (warp == 1) {
      produce_values<S>(shared, kv);
    }
  } else {
    take_registers<S::consumer_registers>();
    consume<S>(shared, group - 1, queries, rows, kv.first_key_mask, variant, rules, plan);
  }
}

}  // namespace flashladder::gpu
