// P9, CTAs that stay: they claim work, and the copies for the next work start while this one is computed. Must equal P8.
// grid   one CTA an SM, which claims works      block  384 threads: a warp group of which one warp copies, and two warp
// groups of 64 rows each
// shared memory   twice 128 rows of q, two stages of 128 keys of K and of V: 192 KB
// New: between two works nothing stops. Barriers, rings and turns live as long as the CTA; phases are counted on, over all
// its works. The producer is ahead: records and queries have two places (work % 2), so that the queries, keys and values of
// the next work arrive while the consumers are at the last tiles of this one, write its rows or divide. Where the next work
// comes from: work_ahead.cuh. In which order: the planner's, longest first, but heads in sections, whose keys and values the
// L2 cache holds together (packed_plan.hpp). A record without rows ends the kernel.
// Leaves out: every tile looks for its maximum and rescales O, though it hardly changes after the first ones (P10).
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/variants.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/box_requests.cuh"
#include "gpu/prefill/hopper_rows.cuh"
#include "gpu/prefill/lower_hopper.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/row_output.cuh"
#include "gpu/prefill/running_softmax.cuh"
#include "gpu/prefill/turns.cuh"
#include "gpu/prefill/work_ahead.cuh"
#include "gpu/ptx/setmaxnreg.cuh"

namespace flashladder::gpu::p9 {
namespace {

using S = LowerHopper;

struct alignas(S::atom_bytes) Shared {
  unsigned char q[2][S::consumers][S::q_bytes];  // [2 panels of 64 features][64 rows][128 bytes], swizzled; then o
  unsigned char k[S::stages][S::k_bytes], v[S::stages][S::v_bytes];  // [keys / 8][2] atoms
  PackedItem items[2];   // of this work and of the next, as q; no rows: there is none
  PackedItem coming;     // of the one after: the producer's
  Mbarrier q_full[2], q_empty[2];  // the record has come with q, and both are read
  RingBarriers<S> rings;
};

// A warp: claims work, and keeps boxes coming, as far ahead as there is room.
__device__ void produce(Shared& shared, const QueryBoxes& queries, const KvBoxes& kv, const QueryRows& rows,
                        const PackedParams& plan) {
  WorkAhead ahead(plan, rows.group_size, shared.coming);
  std::uint32_t tile = 0;  // of the rings, the next to fill
  for (std::uint32_t work = 0;; ++work) {
    const RingSlot<2> place(work);
    PackedItem& item = shared.items[place.stage];
    shared.q_empty[place.stage].wait(place.parity ^ 1);  // the work before the last is done: its rows are written
    if (!ahead.take(item)) {
      if (threadIdx.x % 32 == 0) item.rows = {}, shared.q_full[place.stage].arrive();
      return;
    }
    copy_queries<S>(queries, item, shared.q[place.stage], shared.q_full[place.stage]);
    ahead.start_next();
    const KeyTiles<S::keys> tiles(item.keys, kv.first_key_mask);
    for (int n = tiles.count - 1; n >= 0; --n) copy_keys_and_values<S>(shared, kv, item, tiles, n, tile++);
  }
}

// A warp group: 64 rows of every work.
__device__ void consume(Shared& shared, int group, const QueryBoxes& queries, const QueryRows& rows,
                        std::int32_t first_key_mask, const Scaled& variant, const KeyRules& rules,
                        const PackedParams& plan) {
  const Turns turns(group);
  std::uint32_t tile = 0;  // of the rings, the next to come
  for (std::uint32_t work = 0;; ++work) {
    // By a shuffle, so that the compiler knows them to be the same for the warp.
    tile = __shfl_sync(all_lanes, tile, 0), work = __shfl_sync(all_lanes, work, 0);
    const RingSlot<2> place(work);
    shared.q_full[place.stage].wait(place.parity);
    const PackedItem& item = shared.items[place.stage];
    if (item.rows.empty()) return;
    const KeyTiles<S::keys> tiles(item.keys, first_key_mask);
    if (group * queries.group_rows >= item.rows.size()) {
      shared.q_empty[place.stage].arrive();  // this thread has read the record
      pass_tiles<S>(shared.rings, tiles.count, tile);
      continue;
    }
    const bool taking_turns = item.rows.size() > queries.group_rows;  // a group alone has nobody to take turns with
    float o[S::head_dim_vo / 2], s[S::keys / 2];
    std::uint32_t p[S::keys / 4];
    const ItemRows<S, Scaled> mine(variant, rules, item, queries, tiles, group);
    const auto seen = [&] { return mine.seen(rules, item); };
    RunningSoftmax softmax;
    const RingSlot<S::stages> first(tile++);
    shared.rings.k_full[first.stage].wait(first.parity);
    start_scores<S>(s, {}, shared_address(shared.q[place.stage][group]), shared_address(shared.k[first.stage]));
    wgmma_wait<0>();
    release(shared.rings.k_empty[first.stage]);
    mask_scores<S>(s, variant, item, mine, first_key_mask, tiles.count - 1, seen);
    softmax.weigh(s, variant.p.scale);
    softmax.round<S::Element>(s, p);
    clear_unused_values<S>(shared, first, tiles.first_key(tiles.count - 1), item.request.kv_len, group);
    for (int n = tiles.count - 2; n >= 0; --n) {
      const RingSlot<S::stages> before(tile - 1), at(tile++);
      shared.rings.k_full[at.stage].wait(at.parity);
      if (taking_turns) turns.take();
      start_scores<S>(s, {}, shared_address(shared.q[place.stage][group]), shared_address(shared.k[at.stage]));
      shared.rings.v_full[before.stage].wait(before.parity);
      start_output<S>(o, p, shared_address(shared.v[before.stage]), n + 2 == tiles.count);
      if (taking_turns) turns.give();
      wgmma_wait<output_groups>();  // S is there
      release(shared.rings.k_empty[at.stage]);
      mask_scores<S>(s, variant, item, mine, first_key_mask, n, seen);
      softmax.weigh(s, variant.p.scale);
      sleep_if_infinite(softmax.sum[0] + softmax.sum[1]);  // the exponents before the wait
      wgmma_wait<0>();  // O is complete, and P has been read
      release(shared.rings.v_empty[before.stage]);
      softmax.rescale(o);
      softmax.round<S::Element>(s, p);
    }
    const RingSlot<S::stages> last(tile - 1);
    shared.rings.v_full[last.stage].wait(last.parity);
    start_output<S>(o, p, shared_address(shared.v[last.stage]), tiles.count == 1);
    wgmma_wait<0>();
    release(shared.rings.v_empty[last.stage]);
    sync_group(group);  // the group's products have read Q: O may take its place
    finish<S>(o, softmax, variant, mine, item, rows, plan, shared.q[place.stage][group]);
    fence_proxy_async();  // what this thread did there comes before the copy of the next queries
    shared.q_empty[place.stage].arrive();
  }
}

__global__ void __launch_bounds__(S::threads, 1)
prefill_p9_kernel(const __grid_constant__ QueryBoxes queries, const __grid_constant__ KvBoxes kv,
                  const __grid_constant__ QueryRows rows, const __grid_constant__ Scaled::Params params,
                  const __grid_constant__ KeyRules rules, const __grid_constant__ PackedParams plan) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) shared.q_full[i].init(1), shared.q_empty[i].init(S::consumers * S::group_threads);
    shared.rings.init();
  }
  __syncthreads();  // the barriers are there
  // By a shuffle, so that the compiler knows it to be the same for the warp.
  const int warp = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    give_registers_back<S::producer_registers>();
    if (warp == 0) produce(shared, queries, kv, rows, plan);
  } else {
    take_registers<S::consumer_registers>();
    consume(shared, warp / 4 - 1, queries, rows, kv.first_key_mask, Scaled{params}, rules, plan);
  }
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  if (call.nnz_qo == 0) return;
  require_16_bytes(call);
  require_lower_hopper(call, capacity.query_tile);
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  const LaunchShape shape{.grid = capacity.num_ctas, .block = S::threads, .shared_bytes = sizeof(Shared)};
  launch(prefill_p9_kernel, shape, stream, query_boxes(call, plan.pack), kv_boxes(call, S::keys), call.rows,
         Scaled::params(call), key_rules(call.params), plan);
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p9
