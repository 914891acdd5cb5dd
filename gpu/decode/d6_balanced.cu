// D6, balanced: as many CTAs as the GPU holds at once, each runs its queue of a plan, the last to arrive merges. Equals D5.
// grid   CTAs of the plan (132 SMs x 2)    block  128 threads    shared memory  D5's rings, and beside them the partials
// New: a warp's pipeline never ends between items: it copies the tiles of the next item while it computes those of this one,
// so that filling and draining is paid once a launch (stream-K, arXiv:2301.03598). A tile cut among CTAs is merged by the
// one that counts itself as the last, in chunk order whoever that is: no second launch, the same bits. Programmatic
// dependent launch: the queue and page ids are read while the previous kernel on the stream still runs. A variant computes
// the logits, and may ask of each key whether it is seen; one of them has q and the keys rotated first, where they are.
// Leaves out: splits of one short request could meet in a cluster's shared memory instead of global memory (D7).
#include <algorithm>
#include <cstddef>

#include "gpu/attention/arrival.cuh"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/item_logits.cuh"
#include "gpu/decode/tile_rotation.cuh"
#include "gpu/decode/tile_stream.cuh"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::d6 {
namespace {

using Threads = ThreadGroup<tile_warps * 32>;

// Two are enough: 64 KB of an SM are under way while as much is computed. More would only make everything else wait for
// longer: page ids, queries, counters.
template <int head_dim>
constexpr int stages = head_dim == 64 ? 4 : 2;

// Begins with what a rotation needs, which mostly is nothing.
template <class S, class Rotation>
struct Shared : Rotation::Steps {
  TileRing<S> rings[tile_warps];
  TilePartials<S> partials;
  bool last;
};

// Where a merge's partials go on their way.
template <class S, class Memory>
__device__ auto merge_through(Memory& memory) {
  constexpr int pieces = sizeof memory / sizeof(float4) / Threads::threads;
  return PartialMerge<S::head_dim, Threads, pieces>{reinterpret_cast<float4*>(&memory)};
}

// Little work, of which waiting for the first keys is a large part. Of much work a prefetch only disturbs the kernel before.
__device__ inline bool is_short(const PackedQueue& queue) {
  return queue.begin == queue.end && queue.first.keys.size() <= 2048;
}

template <class S, class Variant>
__global__ void __launch_bounds__(Threads::threads, grid(S::head_dim, false).ctas_per_sm)
decode_d6_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ typename Variant::Params params, const __grid_constant__ PackedParams plan) {
  using Element = typename S::Element;
  extern __shared__ __align__(128) unsigned char bytes[];
  using Rotation = RotationOf<S, CtaWarps, Variant>;
  auto& shared = *reinterpret_cast<Shared<S, Rotation>*>(bytes);
  const PackedQueue queue = plan.view.queues[blockIdx.x];
  griddepcontrol_launch_dependents();  // the next kernel may come as soon as there is room: it waits where it must
  if (queue.first.rows.empty()) return griddepcontrol_wait();  // not to end before the previous kernel does
  const CtaClock clock(plan.cta_times);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  TileRing<S>& ring = shared.rings[warp];

  WarpTileStream<S> stream(kv, plan.view.items, queue);
  if (plan.programmatic && is_short(queue)) stream.prefetch();
  griddepcontrol_wait();  // before this line only the plan and page ids were read: q, K and V may be a kernel's output
  for (int i = 0; i < S::stages - 1; ++i) stream.copy_next(ring);
  Rotation::make_steps(params, shared);

  const Variant variant{params};
  const OneQueryRows row_place{plan.pack};
  PackedItem item = queue.first;
  Arrival<S::head_dim, Threads> arrival(shared.last);
  const auto write_final = [&](const auto& tile, int r, int feature, SoftmaxState<float> state, float4 value) {
    const RowPlace place = row_place(tile, r);
    const float row_constant = variant.row_constant(variant.query(tile.request, 0), variant.head(place.qo_head));
    write_output(rows, place, feature, state, value, row_constant);
  };
  // Registers do not hold two queries of 16 heads, nor two of 256 features beside their rotations.
  constexpr bool holds_two = S::head_tiles == 1 && !(Variant::rotates && S::head_dim == 256);
  int stage = 0;
  const auto query_of = [&](const PackedItem& of) {
    return QueryTiles<S>(static_cast<const Element*>(rows.q) + rows.q_offset(row_place(of, 0)), rows.q_head, of.rows.size());
  };
  QueryTiles<S> q = query_of(item);
  for (std::int32_t next = queue.begin;; ++next) {
    const PackedItem upcoming = next < queue.end ? plan.view.items[next] : PackedItem{};
    const QueryTiles<S> upcoming_q = query_of(upcoming);  // under way while this item is computed
    const PackedMerge merge = item.merge >= 0 ? plan.view.merges[item.merge] : PackedMerge{};
    const ItemLogits<S, Variant> logits(variant, item, plan.pack);
    Rotation rotation(params, shared);
    HeadTiles<S> heads;
    const std::uint32_t end = item.keys.end;  // unsigned: a token behind the last of 2^31 - 1 must not wrap
    for (std::uint32_t tile = item.keys.begin + warp * tile_tokens; tile < end; tile += tile_warps * tile_tokens) {
      stream.copy_next(ring);
      const std::uint32_t token = tile + lane / 4;
      bool seen[2] = {token < end, token + 8 < end};
      if (variant.every_tile_is_edge()) {
        for (int half = 0; half < 2; ++half) seen[half] = seen[half] && variant.sees(logits.query, token + 8 * half);
      }
      if (rotation.turn_to(tile)) rotation.rotate_query(item.request.diagonal, q);
      cp_async_wait<S::stages - 1>();
      __syncwarp();  // this tile's bytes have arrived, those that other lanes copied too
      rotation.rotate_keys(ring.k[stage]);
      heads.absorb(ring.k[stage], ring.v[stage], q, seen, [&](float dot, int n, int j, int half) {
        return variant.logit(dot, logits.query, logits.heads[n * 2 + j], token + 8 * half);
      });
      __syncwarp();  // every lane has read this tile: the next copy may overwrite it
      stage = stage + 1 == S::stages ? 0 : stage + 1;
    }
    write_rows(heads, shared.partials, item.rows.size(), [&](int r, int feature, SoftmaxState<float> state, float4 value) {
      if (item.merge < 0) {
        write_final(item, r, feature, state, value);
      } else {
        const std::int64_t slot = std::int64_t{item.slot} + r;
        write_partial(plan.partial_o, plan.partial_lse_log2, slot, S::head_dim, feature, state, value);
      }
    });
    // Of an item before: the counter has had an item's time to answer. Goes where this one's partials have just been.
    arrival.settle(plan, merge_through<S>(shared.partials), write_final);
    if (item.merge >= 0) arrival.announce(plan, item, merge);
    if (next >= queue.end) break;
    item = upcoming;
    q = holds_two ? upcoming_q : query_of(item);
  }
  arrival.settle(plan, merge_through<S>(shared.rings), write_final);  // they have nothing else to hold any more
  clock.stop();
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream,
            std::uint64_t* cta_times) {
  require_16_bytes(call);
  PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo, cta_times);
  plan.programmatic = call.programmatic;
  with_d6_instance(call, capacity.query_tile, [&]<class Element, int head_dim, int head_tiles, class Variant>() {
    using S = TileShape<Element, head_dim, head_tiles, stages<head_dim>>;
    // What an SM must not hold more of than the plan counts with, where registers and shared memory would allow it: when
    // kernels follow each other, some SMs would have three CTAs and others one.
    constexpr std::size_t of_sm = 228 * 1024, least = of_sm / (grid(head_dim, false).ctas_per_sm + 1);
    constexpr std::size_t bytes = sizeof(Shared<S, RotationOf<S, CtaWarps, Variant>>);
    const LaunchShape shape{.grid = capacity.num_ctas, .block = Threads::threads,
                            .shared_bytes = std::max(bytes, least), .programmatic = call.programmatic};
    launch(decode_d6_kernel<S, Variant>, shape, stream, call.rows, call.kv, Variant::params(call), plan);
  });
}

}  // namespace flashladder::gpu::d6
