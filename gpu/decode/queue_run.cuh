// A queue of a balanced plan, run by four warps: what a CTA of D6 does, and of P12 what its decode half does.
//
// A warp's pipeline never ends between items: it copies the tiles of the next item while it computes those of this one, so
// that filling and draining is paid once a queue. A tile cut among groups is merged by the one that counts itself as the
// last, in chunk order whoever that is.
#pragma once

#include <cstddef>

#include "gpu/attention/arrival.cuh"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/few_queries.cuh"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/decode/item_logits.cuh"
#include "gpu/decode/tile_rotation.cuh"
#include "gpu/decode/tile_stream.cuh"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {

// Two tiles of 128 16-bit features are enough: 64 KB of an SM are under way while as much is computed. More would only make
// everything else wait for longer: page ids, queries, counters. A tile of 8-bit elements is half of one, so that there are
// twice as many.
template <class Stored, int head_dim>
constexpr int queue_stages = (head_dim == 64 ? 4 : 2) * (2 / static_cast<int>(sizeof(Stored)));

// Begins with what a rotation needs, which mostly is nothing.
template <class S, class Rotation = NoRotation>
struct QueueMemory : Rotation::Steps {
  TileRing<S> rings[tile_warps];
  TilePartials<S> partials;
  bool last;
};

// Where a merge's partials go on their way.
template <class S, class Group, class Memory>
__device__ auto merge_through(Memory& memory) {
  constexpr int pieces = sizeof memory / sizeof(float4) / Group::threads;
  return PartialMerge<S::head_dim, Group, pieces>{reinterpret_cast<float4*>(&memory)};
}

// Little work, of which waiting for the first keys is a large part. Of much work a prefetch only disturbs the kernel before.
__device__ inline bool is_short(const PackedQueue& queue) {
  return queue.begin == queue.end && queue.first.keys.size() <= 2048;
}

// Group: the four warps. row_place: OneQueryRows or FewQueriesRows. queue: not empty.
template <class S, class Group, class Variant, class Place>
__device__ void run_queue(const QueryRows& rows, const KvPages& kv, const typename Variant::Params& params,
                          const PackedParams& plan, const Place& row_place, const PackedQueue& queue,
                          QueueMemory<S, RotationOf<S, GroupWarps<Group>, Variant>>& shared) {
  using Warps = GroupWarps<Group>;
  using Rotation = RotationOf<S, Warps, Variant>;
  const int lane = threadIdx.x % 32;
  TileRing<S>& ring = shared.rings[Warps::rank()];

  WarpTileStream<S, Warps> stream(kv, plan.view.items, queue);
  if (plan.programmatic && is_short(queue)) stream.prefetch();
  griddepcontrol_wait();  // before this line only the plan and page ids were read: q, K and V may be a kernel's output
  for (int i = 0; i < S::stages - 1; ++i) stream.copy_next(ring);
  Rotation::make_steps(params, shared);

  const Variant variant{params};
  PackedItem item = queue.first;
  Arrival<S::head_dim, Group> arrival(shared.last);
  const auto write_final = [&](const auto& tile, int r, int feature, SoftmaxState<float> state, float4 value) {
    const RowPlace place = row_place(tile, r);
    const float row_constant = variant.row_constant(variant.query(tile.request, 0), variant.head(place.qo_head));
    write_output(rows, place, feature, state, value, row_constant);
  };
  // Registers do not hold two queries of 16 heads, nor two of 256 features beside their rotations.
  constexpr bool holds_two = S::head_tiles == 1 && !(Variant::rotates && S::head_dim == 256);
  int stage = 0;
  const auto query_of = [&](const PackedItem& of) { return QueryTiles<S>(rows, row_place, of); };
  QueryTiles<S> q = query_of(item);
  for (std::int32_t next = queue.begin;; ++next) {
    const PackedItem upcoming = next < queue.end ? plan.view.items[next] : PackedItem{};
    const QueryTiles<S> upcoming_q = query_of(upcoming);  // under way while this item is computed
    const PackedMerge merge = item.merge >= 0 ? plan.view.merges[item.merge] : PackedMerge{};
    const ItemLogits<S, Variant> logits(variant, item, plan.pack);
    const KeysOfColumns<S, Place> keys(row_place, item);
    q.prepare(rows, kv, item.kv_head);
    Rotation rotation(params, shared);
    HeadTiles<S> heads;
    const std::uint32_t end = item.keys.end;  // unsigned: a token behind the last of 2^31 - 1 must not wrap
    constexpr std::uint32_t turn = Warps::count * tile_tokens;
    for (std::uint32_t tile = item.keys.begin + Warps::rank() * tile_tokens; tile < end; tile += turn) {
      stream.copy_next(ring);
      const std::uint32_t token = tile + lane / 4;
      bool seen[2] = {token < end, token + 8 < end};
      if (variant.has_mask()) {
        for (int half = 0; half < 2; ++half) seen[half] = seen[half] && variant.sees(logits.query, token + 8 * half);
      }
      if (rotation.turn_to(tile)) rotation.rotate_query(item.request.diagonal, q);
      cp_async_wait<S::stages - 1>();
      __syncwarp();  // this tile's bytes have arrived, those that other lanes copied too
      rotation.rotate_keys(ring.k[stage]);
      const auto logit = [&](float dot, int n, int j, int half) {
        return variant.logit(dot, logits.query, logits.heads[n * 2 + j], token + 8 * half);
      };
      if constexpr (Place::one_query) heads.absorb(ring.k[stage], ring.v[stage], q, seen, logit);
      else heads.absorb(ring.k[stage], ring.v[stage], q, keys.hidden(tile, token), logit);
      __syncwarp();  // every lane has read this tile: the next copy may overwrite it
      stage = stage + 1 == S::stages ? 0 : stage + 1;
    }
    const auto write = [&](int r, int feature, SoftmaxState<float> state, float4 value) {
      if (item.merge < 0) {
        write_final(item, r, feature, state, value);
      } else {
        const std::int64_t slot = std::int64_t{item.slot} + r;
        write_partial(plan.partial_o, plan.partial_lse_log2, slot, S::head_dim, feature, state, value);
      }
    };
    write_rows<Group>(heads, shared.partials, item.rows.size(), write);
    // Of an item before: the counter has had an item's time to answer. Goes where this one's partials have just been.
    arrival.settle(plan, merge_through<S, Group>(shared.partials), write_final);
    if (item.merge >= 0) arrival.announce(plan, item, merge);
    if (next >= queue.end) break;
    item = upcoming;
    q = holds_two ? upcoming_q : query_of(item);
  }
  arrival.settle(plan, merge_through<S, Group>(shared.rings), write_final);  // they have nothing else to hold any more
}

}  // namespace flashladder::gpu
