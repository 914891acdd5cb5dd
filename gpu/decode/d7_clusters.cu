// D7, clusters: D6 whose queues belong to clusters of 16 CTAs instead of single ones, for sm_90. Must equal D6.
// grid   16 CTAs for each queue of the plan      block  128 threads      cluster  16 CTAs
// shared memory   D6's rings and partials, and two places for what the CTA found
// New: where few requests have few KV heads, D6 cuts each of their tiles among dozens of CTAs, which meet in global memory:
// write, count, read again. The CTAs of a cluster share a tile, 16 tokens for each of their 64 warps in turn, and read each
// other's shared memory instead (cluster_rows.cuh): a tile is cut among few clusters, or not at all. What remains is merged
// by the last to arrive, row by row: a row is one warp's in every cluster, so that nobody else is waited for.
// Leaves out: more tiles than there are clusters. Then the whole machine is busy anyway, and D6 has less to meet about.
#include "gpu/attention/arrival.cuh"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/cluster_rows.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/item_logits.cuh"
#include "gpu/decode/tile_rotation.cuh"
#include "gpu/decode/tile_stream.cuh"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::d7 {
namespace {

template <class Stored, int head_dim>
constexpr int stages = (head_dim == 64 ? 4 : 2) * (2 / static_cast<int>(sizeof(Stored)));  // as a queue of D6 has

// Begins with what a rotation needs, which mostly is nothing.
template <class S, class Rotation>
struct Shared : Rotation::Steps {
  TileRing<S> rings[tile_warps];
  TilePartials<S> partials;
  CtaRows<S> rows[2];
};

template <class S, class Variant>
__global__ void __launch_bounds__(tile_warps * 32, 2)
decode_d7_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ typename Variant::Params params, const __grid_constant__ PackedParams plan) {
  using Lanes = RowLanes<S::head_dim>;
  extern __shared__ __align__(128) unsigned char bytes[];
  using Rotation = RotationOf<S, ClusterWarps, Variant>;
  auto& shared = *reinterpret_cast<Shared<S, Rotation>*>(bytes);
  const PackedQueue queue = plan.view.queues[blockIdx.x / cluster_ctas];
  griddepcontrol_launch_dependents();  // the next kernel may come as soon as there is room: it waits where it must
  if (queue.first.rows.empty()) return griddepcontrol_wait();  // not to end before the previous kernel does
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  TileRing<S>& ring = shared.rings[warp];

  WarpTileStream<S, ClusterWarps> stream(kv, plan.view.items, queue);
  griddepcontrol_wait();  // before this line only the plan and the page ids were read: q, K and V may be a kernel's output
  for (int i = 0; i < S::stages - 1; ++i) stream.copy_next(ring);
  Rotation::make_steps(params, shared);

  const Variant variant{params};
  const OneQueryRows row_place{plan.pack};
  const auto write_final = [&](const auto& tile, int r, const WarpRow<S::head_dim>& row) {
    const RowPlace place = row_place(tile, r);
    const float row_constant = variant.row_constant(variant.query(tile.request, 0), variant.head(place.qo_head));
#pragma unroll
    for (int x = 0; x < Lanes::pieces; ++x) {
      if (Lanes::writes()) write_output(rows, place, Lanes::feature(x), row.state, row.o[x], row_constant);
    }
  };
  PackedItem item = queue.first;
  int stage = 0, place = 0;
  for (std::int32_t next = queue.begin;; ++next) {
    const PackedItem upcoming = next < queue.end ? plan.view.items[next] : PackedItem{};
    QueryTiles<S> q(rows, row_place, item);
    q.prepare(rows, kv, item.kv_head);
    Rotation rotation(params, shared);
    const PackedMerge merge = item.merge >= 0 ? plan.view.merges[item.merge] : PackedMerge{};
    const ItemLogits<S, Variant> logits(variant, item, plan.pack);
    HeadTiles<S> heads;
    const std::uint32_t end = item.keys.end;  // unsigned: a token behind the last of 2^31 - 1 must not wrap
    constexpr std::uint32_t turn = ClusterWarps::count * tile_tokens;
    for (std::uint32_t tile = item.keys.begin + ClusterWarps::rank() * tile_tokens; tile < end; tile += turn) {
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
      heads.absorb(ring.k[stage], ring.v[stage], q, seen, [&](float dot, int n, int j, int half) {
        return variant.logit(dot, logits.query, logits.heads[n * 2 + j], token + 8 * half);
      });
      __syncwarp();  // every lane has read this tile: the next copy may overwrite it
      stage = stage + 1 == S::stages ? 0 : stage + 1;
    }
    CtaRows<S>& mine = shared.rows[place];
    place ^= 1;
    write_rows(heads, shared.partials, item.rows.size(),
               [&](int r, int feature, SoftmaxState<float> state, float4 value) { mine.put(r, feature, state, value); });
    cluster_arrive();
    cluster_wait();  // every CTA's rows are there, and those of the item before have been read
    for (int r = ClusterWarps::first_row(); r < item.rows.size(); r += static_cast<int>(ClusterWarps::count)) {
      const WarpRow<S::head_dim> row = mine.join(r);
      if (item.merge < 0) {
        write_final(item, r, row);
        continue;
      }
#pragma unroll
      for (int x = 0; x < Lanes::pieces; ++x) {
        if (Lanes::writes()) {
          write_partial(plan.partial_o, plan.partial_lse_log2, std::int64_t{item.slot} + r, S::head_dim, Lanes::feature(x),
                        row.state, row.o[x]);
        }
      }
      __syncwarp();  // the warp's part of the row is written; the counter publishes it
      std::uint32_t* const counter = plan.view.arrivals + std::int64_t{item.merge} * plan.counters + r;
      const bool last = lane == 0 && arrive(counter, merge.num_partials);
      if (__shfl_sync(all_lanes, last, 0)) write_final(merge, r, merge_row<S::head_dim>(plan, merge, r));
    }
    if (next >= queue.end) break;
    item = upcoming;
  }
  cluster_arrive();
  cluster_wait();  // nobody reads this CTA's rows any more: its shared memory may go
}

template <class F>
void with_kernel(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  with_d6_instance(call, query_tile, [&]<class Element, class Stored, int head_dim, int head_tiles, class Variant>() {
    using S = TileShape<Element, head_dim, head_tiles, stages<Stored, head_dim>, Stored>;
    f(decode_d7_kernel<S, Variant>, sizeof(Shared<S, RotationOf<S, ClusterWarps, Variant>>), Variant::params(call));
  });
}

// One instance speaks for those of its head_dim: shared memory decides. (The steps of a rotation are too few to matter.)
template <int head_dim>
std::int32_t clusters_of() {
  using S = TileShape<Half, head_dim, 1, stages<Half, head_dim>>;
  const LaunchShape shape{.grid = cluster_ctas, .block = tile_warps * 32, .shared_bytes = sizeof(Shared<S, NoRotation>),
                          .cluster = cluster_ctas};
  return resident_clusters(decode_d7_kernel<S, Scaled>, shape);
}

}  // namespace

std::int32_t clusters(std::int32_t head_dim) {
  return head_dim <= 64 ? clusters_of<64>() : head_dim <= 128 ? clusters_of<128>() : clusters_of<256>();
}

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  require_16_bytes(call);
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  with_kernel(call, capacity.query_tile, [&](auto* kernel, std::size_t bytes, const auto& params) {
    const LaunchShape shape{.grid = std::int64_t{capacity.num_ctas} * cluster_ctas, .block = tile_warps * 32,
                            .shared_bytes = bytes, .cluster = cluster_ctas, .programmatic = call.programmatic};
    launch(kernel, shape, stream, call.rows, call.kv, params, plan);
  });
}

}  // namespace flashladder::gpu::d7
