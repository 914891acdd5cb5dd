// D6, balanced: as many CTAs as the GPU holds at once, each runs its queue of a plan, the last to arrive merges. Equals D5.
// grid   CTAs of the plan (132 SMs x 2)    block  128 threads    shared memory  D5's rings, and beside them the partials
// New: a warp's pipeline never ends between items: it copies the tiles of the next item while it computes those of this one,
// so that filling and draining is paid once a launch (stream-K, arXiv:2301.03598). A tile cut among CTAs is merged by the
// one that counts itself as the last, in chunk order whoever that is: no second launch, the same bits. Programmatic
// dependent launch: queue and page ids are read while the kernel before is still at work.
// Leaves out: splits of one short request could meet in a cluster's shared memory instead of global memory.
#include "gpu/attention/arrival.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/attention/instances.cuh"
#include "gpu/decode/tile_stream.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::d6 {
namespace {

constexpr int threads = tile_warps * 32;

// Two are enough: 64 KB of an SM are under way while as much is computed. More would only make everything else wait for
// longer, page ids, queries, counters (timed: two are 0.5 to 1 us better than three).
template <int head_dim>
constexpr int stages = head_dim == 64 ? 4 : 2;

template <class S>
struct Shared {
  Ring<S> rings[tile_warps];
  TilePartials<S> partials;
  bool last;
};

// Where a merge's partials go on their way.
template <class S, class Memory>
__device__ auto merge_through(Memory& memory) {
  constexpr int pieces = sizeof memory / sizeof(float4) / threads;
  return PartialMerge<S::head_dim, threads, pieces>{reinterpret_cast<float4*>(&memory)};
}

template <class S, class Score>
__global__ void __launch_bounds__(threads, blocks_per_sm(S::head_dim))
kernel(const __grid_constant__ DecodeParams p, const __grid_constant__ PackedParams plan) {
  using Element = typename S::Element;
  extern __shared__ __align__(128) unsigned char bytes[];
  Shared<S>& shared = *reinterpret_cast<Shared<S>*>(bytes);
  const PackedQueue queue = plan.view.queues[blockIdx.x];
  griddepcontrol_launch_dependents();  // the next kernel may come as soon as there is room: it waits where it must
  if (queue.first.rows == 0) return griddepcontrol_wait();  // not to end before the kernel ahead does
  const CtaClock clock(plan.cta_times);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Ring<S>& ring = shared.rings[warp];

  TileStream<S> stream(p, plan.view.items, queue);
  griddepcontrol_wait();  // before this line only the plan and the page ids were read: q, K and V may be a kernel's output
  for (int i = 0; i < S::stages - 1; ++i) stream.copy_next(ring);

  const Score score(p);
  PackedItem item = queue.first;
  Arrival<S::head_dim, threads> arrival(shared.last);
  int stage = 0;
  const auto query_of = [&](const PackedItem& of) {
    return QueryTiles<S>(static_cast<const Element*>(p.q) + std::int64_t{of.row} * S::head_dim, of.rows);
  };
  QueryTiles<S> q = query_of(item);
  for (std::int32_t next = queue.begin;; ++next) {
    const PackedItem upcoming = next < queue.end ? plan.view.items[next] : PackedItem{};
    const QueryTiles<S> upcoming_q = query_of(upcoming);  // under way while this item is computed
    const PackedMerge merge = item.merge >= 0 ? plan.view.merges[item.merge] : PackedMerge{};
    HeadTiles<S> heads;
    for (std::int32_t tile = item.begin + warp * tile_tokens; tile < item.end; tile += tile_warps * tile_tokens) {
      stream.copy_next(ring);
      cp_async_wait<S::stages - 1>();
      __syncwarp();  // this tile's bytes have arrived, those that other lanes copied too
      const bool seen[2] = {tile + lane / 4 < item.end, tile + lane / 4 + 8 < item.end};
      heads.absorb(ring.k[stage], ring.v[stage], q, seen, score);
      __syncwarp();  // every lane has read this tile: the next copy may overwrite it
      stage = stage + 1 == S::stages ? 0 : stage + 1;
    }
    write_rows(heads, shared.partials, item.rows, [&](int r, int feature, SoftmaxState<float> state, float4 value) {
      const std::int64_t row = std::int64_t{item.merge < 0 ? item.row : item.slot} + r;
      if (item.merge < 0) {
        write_output(p, row, S::head_dim, feature, state, value);
      } else {
        write_partial(plan.partial_o, plan.partial_lse_log2, row, S::head_dim, feature, state, value);
      }
    });
    // Of an item before: the counter has had an item's time to answer. Goes where this one's partials have just been.
    arrival.settle(p, plan, merge_through<S>(shared.partials));
    if (item.merge >= 0) arrival.announce(plan, item, merge);
    if (next >= queue.end) break;
    item = upcoming;
    q = S::head_tiles == 1 ? upcoming_q : query_of(item);  // registers do not hold two of 16 heads
  }
  arrival.settle(p, plan, merge_through<S>(shared.rings));  // they have nothing else to hold any more
  clock.stop();
}

template <class S, class Score>
void launch_queues(const DecodeCall& call, const PackedShape& capacity, const PackedParams& plan, cudaStream_t stream) {
  const auto run = kernel<S, Score>;
  const LaunchShape shape{.grid = capacity.num_ctas, .block = threads, .shared_bytes = sizeof(Shared<S>),
                          .programmatic = call.programmatic};
  launch(run, shape, stream, call.params, plan);
}

}  // namespace

void attend(const DecodeCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream,
            std::uint64_t* cta_times) {
  auto* partial_o = static_cast<float*>(partials);
  float* partial_lse_log2 = partial_o + capacity.partial_rows * call.head_dim;
  const PackedParams plan{view_of(capacity, packed), partial_o, partial_lse_log2, partial_lse_log2 + capacity.partial_rows,
                          cta_times};
  with_instance(call, [&]<class Element, int head_dim, class Score>() {
    if constexpr (most_rows(head_dim) > heads_in_tile) {
      if (capacity.query_tile > heads_in_tile) {
        return launch_queues<TileShape<Element, head_dim, 2, stages<head_dim>>, Score>(call, capacity, plan, stream);
      }
    }
    return launch_queues<TileShape<Element, head_dim, 1, stages<head_dim>>, Score>(call, capacity, plan, stream);
  });
}

}  // namespace flashladder::gpu::d6
