// P11, the top prefill rung, for sm_90a: pages by the copy engine, wgmma, a stale reference instead of a running maximum,
// queries in registers. Must equal P5.
// grid   one CTA an SM, which claims work      block  384 threads: a warp group that copies, two that compute
// shared memory   Q, two stages of K and of V, O (hopper_shape.cuh)
// The parts have files of their own: boxes.hpp how pages become boxes, box_copies.cuh who asks for them,
// hopper_products.cuh the products, stale_softmax.cuh the softmax, row_output.cuh the end of a row.
//
// One step of a warp group, tile n. P belongs to tile n + 1, which comes before it:
//   S = Q K[n]^T  and  O += P V[n + 1]  are started together; while the tensor cores compute the second, S is masked; then P
//   is made of S. With two warp groups one computes exponents while the other's products run.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/variants.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/box_copies.cuh"
#include "gpu/prefill/hopper_products.cuh"
#include "gpu/prefill/instances.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/prefill/row_output.cuh"
#include "gpu/prefill/stale_softmax.cuh"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/ptx/setmaxnreg.cuh"

namespace flashladder::gpu::p11 {
namespace {

// One warp: claims work, and keeps queries and keys coming, up to what the ring holds ahead of the consumers.
template <class S>
__device__ void produce_keys(HopperShared<S>& shared, const QueryBoxes& queries, const KvBoxes& kv, const QueryRows& rows,
                             const PackedParams& plan) {
  HopperBarriers<S>& barriers = shared.barriers;
  const int lane = threadIdx.x % 32;
  const PackedHeader& header = *plan.view.header;
  const auto claim_by_one = [&] { return lane == 0 ? claim(plan) : 0; };
  const auto record = [&](std::uint32_t turn) -> PackedItem& { return shared.items[turn % S::records]; };
  const auto start = [&](std::int32_t work, std::uint32_t turn) {
    const std::int32_t copy = work < header.num_work ? start_work(plan, header, work, record(turn)).copy : 0;
    cp_async_commit();
    return copy;
  };
  std::uint32_t filled = 0;  // tiles of keys so far
  // Two works ahead: while one's keys are copied, the record of the next is under way, and the claim of the one after.
  std::int32_t work = __shfl_sync(all_lanes, claim_by_one(), 0), next = work;
  std::int32_t copy = start(work, 0);
  for (std::uint32_t turn = 0;; ++turn, work = next) {
    PackedItem& item = record(turn);
    const bool none = work >= header.num_work;
    const std::int32_t claimed = none ? 0 : claim_by_one();
    if (!none) settle_work(plan, rows.group_size, copy, item);
    barriers.q_empty.wait(turn % 2 ^ 1);  // the queries before are taken
    if (none) {
      if (lane == 0) item.rows = {}, barriers.q_full.arrive();
      return;
    }
    constexpr int panels = S::head_dim_qk / 64;  // a lane a panel
    if (lane == 0) barriers.q_full.arrive_expecting(S::consumers * panels * queries.group_rows * 128);
    __syncwarp();
    for (int group = 0; group < S::consumers && lane < panels; ++group) {
      const std::int32_t row = item.rows.begin + group * queries.group_rows;
      copy_box(queries.q, shared.q[group] + lane * S::group_rows * 128, barriers.q_full, L2Policy::evict_first,
               {0, item.head * queries.pack(), item.query + queries.by_pack.quotient(row), lane});
    }
    const KeyTiles<S::keys> tiles(item.keys, kv.tile_align());
    const auto locate = [&](int n) { return locate_boxes<S::keys>(kv, item.first_page, tiles.first_key(n), item.keys.end); };
    TileBoxes now = locate(tiles.count - 1);
    next = __shfl_sync(all_lanes, claimed, 0);
    copy = start(next, turn + 1);  // nobody reads that record any more: it was of the work three before
    for (int n = tiles.count - 1; n >= 0; --n) {
      const TileBoxes upcoming = n > 0 ? locate(n - 1) : TileBoxes{};  // page ids come while the ring is full
      const RingSlot<S::stages> at(filled++);
      barriers.k_empty[at.stage].wait(at.parity ^ 1);
      if (lane == 0) barriers.k_full[at.stage].arrive_expecting(S::k_bytes);
      __syncwarp();
      copy_tile<S::head_dim_qk>(kv.k, kv.k_end, now, item.kv_head * kv.k_head, kv.box_rows, shared.k[at.stage],
                                barriers.k_full[at.stage]);
      now = upcoming;
    }
  }
}

// Another: the values of the same works. It learns of them as the consumers do.
template <class S>
__device__ void produce_values(HopperShared<S>& shared, const KvBoxes& kv) {
  HopperBarriers<S>& barriers = shared.barriers;
  const int lane = threadIdx.x % 32;
  std::uint32_t filled = 0;
  for (std::uint32_t turn = 0;; ++turn) {
    barriers.q_full.wait(turn % 2);
    const PackedItem& item = shared.items[turn % S::records];
    if (item.rows.empty()) return;
    const KeyTiles<S::keys> tiles(item.keys, kv.tile_align());
    const auto locate = [&](int n) { return locate_boxes<S::keys>(kv, item.first_page, tiles.first_key(n), item.keys.end); };
    TileBoxes now = locate(tiles.count - 1);
    for (int n = tiles.count - 1; n >= 0; --n) {
      const TileBoxes upcoming = n > 0 ? locate(n - 1) : TileBoxes{};
      const RingSlot<S::stages> at(filled++);
      barriers.v_empty[at.stage].wait(at.parity ^ 1);
      if (lane == 0) barriers.v_full[at.stage].arrive_expecting(S::v_bytes);
      __syncwarp();
      copy_tile<S::head_dim_vo>(kv.v, kv.v_end, now, item.kv_head * kv.v_head, kv.box_rows, shared.v[at.stage],
                                barriers.v_full[at.stage]);
      now = upcoming;
    }
    __syncwarp();  // every lane has read the record
    if (lane == 0) barriers.q_empty.arrive();
  }
}

// threadIdx.x, asked for again: what is computed from it is computed where it is needed, seldom, and does not stay in a
// register through every step.
__device__ inline unsigned thread_again() {
  unsigned t;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
  return t;
}

// A thread's two rows of an item, i = 0 and 1: what the variant and the masks ask of them. Only what every step needs is
// kept. Rows that are not there count as the item's last, so that whatever is asked of them exists.
template <class S, class Variant>
struct ItemRows {
  const QueryBoxes& queries;
  std::int32_t first;   // the warp group's first of the item's rows
  Range inner;          // tiles of which all rows of the warp group see every key
  typename Variant::Query variant_query[2];
  typename Variant::Head head[2];

  __device__ ItemRows(const Variant& variant, const KeyRules& rules, const PackedItem& item, const QueryBoxes& queries_,
                      const KeyTiles<S::keys>& tiles, int group)
      : queries(queries_), first(group * queries.group_rows),
        variant_query{variant.query(item.request, query(item, 0)), variant.query(item.request, query(item, 1))},
        head{variant.head(place(item, row(0)).qo_head), variant.head(place(item, row(1)).qo_head)} {
    const Range all = keys_of_all(rules, item, place(item, first).query - item.query,
                                  place(item, first + queries.group_rows - 1).query - item.query);
    inner = {div_up(all.begin - tiles.begin, S::keys), (all.end - tiles.begin) / S::keys};
  }
  __device__ std::int32_t row(int i) const {
    const unsigned t = thread_again();
    return first + (t % S::group_threads / 32 * 16 + t % 32 / 4 + 8 * static_cast<unsigned>(i));
  }
  // PackedRows, without a division.
  __device__ RowPlace place(const PackedItem& item, std::int32_t row) const {
    const std::int32_t packed = item.rows.begin + min(row, item.rows.size() - 1);
    const std::int32_t query = queries.by_pack.quotient(packed);
    return {item.query + query, item.head * queries.pack() + packed - query * queries.pack()};
  }
  __device__ std::int32_t query(const PackedItem& item, int i) const { return place(item, row(i)).query - item.query; }
};

// Scores become logits where the variant does more than scale; keys that a row does not see become -inf.
template <class S, class Variant>
__device__ void mask_scores(float (&s)[S::keys / 2], const Variant& variant, const KeyRules& rules, const PackedItem& item,
                            const ItemRows<S, Variant>& rows, std::int32_t align, int n) {
  const auto mine = [&] {  // the first of this thread's keys
    return static_cast<std::int32_t>(KeyTiles<S::keys>(item.keys, align).first_key(n) + thread_again() % 4 * 2);
  };
  if constexpr (!Variant::only_scales) {
    const std::int32_t first = mine();
#pragma unroll
    for (int x = 0; x < S::keys / 2; ++x) {
      const int i = x / 2 % 2;
      s[x] = variant.logit(s[x], rows.variant_query[i], rows.head[i], first + x / 4 * 8 + x % 2);
    }
  }
  if (rows.inner.contains(n) && !variant.every_tile_is_edge()) [[likely]] return;
  const std::int32_t first = mine();
  const Range seen[2] = {row_keys(rules, item, rows.query(item, 0)), row_keys(rules, item, rows.query(item, 1))};
#pragma unroll
  for (int x = 0; x < S::keys / 2; ++x) {
    const int i = x / 2 % 2;
    const std::int32_t key = first + x / 4 * 8 + x % 2;
    bool sees = seen[i].contains(key);
    if constexpr (!Variant::only_scales) {
      if (variant.every_tile_is_edge()) sees = sees && variant.sees(rows.variant_query[i], key);
    }
    if (!sees) s[x] = SoftmaxState<float>::nothing;
  }
}

// The end of an item: its rows to o or to the partials. The four threads that share two rows share the work: every other
// one finishes the first, the others the second.
template <class S, class Variant>
__device__ void finish(const float (&o)[S::head_dim_vo / 2], const StaleSoftmax& softmax, const Variant& variant,
                       const ItemRows<S, Variant>& mine, const PackedItem& item, const QueryRows& rows,
                       const PackedParams& plan, unsigned char* stage) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % S::group_threads / 32, i = lane % 2;
  const SoftmaxState<float> states[2] = {softmax.state(0), softmax.state(1)}, state = i == 0 ? states[0] : states[1];
  const std::int32_t end = min(mine.first + mine.queries.group_rows, item.rows.size()), row = mine.row(i);
  const bool there = row < end, split = item.merge >= 0;
  const RowPlace place = mine.place(item, row);
  const std::int64_t slot = std::int64_t{item.slot} + row;
  float scale_of_row = state.inverse_d();
  if (split && there && lane % 4 < 2) plan.partial_lse_log2[slot] = state.lse_log2();
  if (!split && there) {
    const float constant = i == 0 ? variant.row_constant(mine.variant_query[0], mine.head[0])
                                  : variant.row_constant(mine.variant_query[1], mine.head[1]);
    scale_of_row = finish_row(rows, place, lane % 4 / 2, state, constant);
  }
  const int quad = lane / 4 * 4;
  const float scale[2] = {__shfl_sync(all_lanes, scale_of_row, quad), __shfl_sync(all_lanes, scale_of_row, quad + 1)};
  if (split || rows.o_dtype == DType::f32) {
    const std::int64_t offset = split ? slot * S::head_dim_vo : rows.o_offset(place);
    store_floats<S>(o, scale, split ? plan.partial_o : static_cast<float*>(rows.o), offset, there);
  } else {
    const std::int32_t first = mine.first + warp * 16;
    const std::int64_t offset = rows.o_offset(mine.place(item, first + lane % 16));
    unsigned char* of_warp = stage + warp * 16 * S::head_dim_vo * 2;
    if (rows.o_dtype == DType::f16) {
      store_rows<S>(o, scale, of_warp, static_cast<Half*>(rows.o), offset, end - first);
    } else {
      store_rows<S>(o, scale, of_warp, static_cast<BFloat16*>(rows.o), offset, end - first);
    }
  }
}

// The threads of a warp group meet, each group at a barrier of its own.
__device__ inline void sync_group(int group) { asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory"); }

// A warp group: 64 rows of every work that its CTA claims.
template <class S, class Variant>
__device__ void consume(HopperShared<S>& shared, int group, const QueryBoxes& queries, const QueryRows& rows,
                        std::int32_t align, const Variant& variant, const KeyRules& rules, const PackedParams& plan) {
  using Element = typename S::Element;
  HopperBarriers<S>& barriers = shared.barriers;
  const auto address = [](const unsigned char* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); };
  const auto q_address = [&] { return *static_cast<volatile std::uint32_t*>(&shared.q_address[group]); };
  const auto release = [](Mbarrier& empty) {
    if (threadIdx.x % 32 == 0) empty.arrive();
  };
  float scale = 1;
  if constexpr (Variant::only_scales) scale = variant.p.scale;
  std::uint32_t tile = 0;  // of keys, the next to come
  for (std::uint32_t turn = 0;; ++turn) {
    tile = __shfl_sync(all_lanes, tile, 0), turn = __shfl_sync(all_lanes, turn, 0);  // the same anyway: for uniform registers
    barriers.q_full.wait(turn % 2);
    const PackedItem& item = shared.items[turn % S::records];
    if (item.rows.empty()) return;
    const KeyTiles<S::keys> tiles(item.keys, align);
    if (group * queries.group_rows >= item.rows.size()) {  // this group has no rows: it lets the tiles pass
      release(barriers.q_empty);
      for (int n = 0; n < tiles.count; ++n) {
        const RingSlot<S::stages> at(tile++);
        barriers.k_full[at.stage].wait(at.parity);
        release(barriers.k_empty[at.stage]);
        barriers.v_full[at.stage].wait(at.parity);
        release(barriers.v_empty[at.stage]);
      }
      continue;
    }
    HopperQueries<S> q;
    q.load(shared.q[group]);
    if constexpr (S::q_in_registers) {
      __syncwarp();  // every lane has its queries
      release(barriers.q_empty);
    }
    float o[S::head_dim_vo / 2], s[S::keys / 2];
    std::uint32_t p[S::keys / 4];
    const RingSlot<S::stages> first(tile++);
    barriers.k_full[first.stage].wait(first.parity);
    start_scores<S>(s, q, q_address(), address(shared.k[first.stage]));
    const ItemRows<S, Variant> mine(variant, rules, item, queries, tiles, group);  // while the product is under way
    StaleSoftmax softmax;
    wgmma_wait<0>();
    release(barriers.k_empty[first.stage]);
    mask_scores<S>(s, variant, rules, item, mine, align, tiles.count - 1);
    softmax.template begin<Element, S::keys>(s, scale, p);
    const std::uint32_t first_key = tiles.first_key(tiles.count - 1), kv_len = item.request.kv_len;
    if (first_key + S::keys > kv_len) {
      barriers.v_full[first.stage].wait(first.parity);
      clear_values<S>(shared.v[first.stage], static_cast<int>(kv_len - first_key));
      sync_group(group);
    }
    for (int n = tiles.count - 2; n >= 0; --n) {
      const RingSlot<S::stages> before(tile - 1), at(tile++);
      barriers.k_full[at.stage].wait(at.parity);
      start_scores<S>(s, q, q_address(), address(shared.k[at.stage]));
      barriers.v_full[before.stage].wait(before.parity);
      start_output<S>(o, p, address(shared.v[before.stage]), n + 2 == tiles.count);
      wgmma_wait<1>();
      release(barriers.k_empty[at.stage]);
      mask_scores<S>(s, variant, rules, item, mine, align, n);
      wgmma_wait<0>();
      release(barriers.v_empty[before.stage]);
      softmax.template absorb<Element, S::keys>(s, scale, p, o);
    }
    const RingSlot<S::stages> last(tile - 1);
    barriers.v_full[last.stage].wait(last.parity);
    start_output<S>(o, p, address(shared.v[last.stage]), tiles.count == 1);
    wgmma_wait<0>();
    release(barriers.v_empty[last.stage]);
    if constexpr (!S::q_in_registers) sync_group(group);  // the group's products have read Q: O may take its place
    finish<S>(o, softmax, variant, mine, item, rows, plan, S::q_in_registers ? shared.o[group] : shared.q[group]);
    if constexpr (!S::q_in_registers) {
      fence_proxy_async();  // what this thread did there comes before the copy of the next queries
      __syncwarp();
      release(barriers.q_empty);
    }
  }
}

template <class S, class Variant>
__global__ void __launch_bounds__(S::threads, 1)
kernel(const __grid_constant__ QueryBoxes queries, const __grid_constant__ KvBoxes kv, const __grid_constant__ QueryRows rows,
       const __grid_constant__ typename Variant::Params params, const __grid_constant__ KeyRules rules,
       const __grid_constant__ PackedParams plan) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  HopperShared<S>& shared = *reinterpret_cast<HopperShared<S>*>(bytes);
  if (threadIdx.x == 0) shared.barriers.init();
  if (threadIdx.x < S::consumers) {
    shared.q_address[threadIdx.x] = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared.q[threadIdx.x]));
  }
  __syncthreads();  // the barriers are there
  griddepcontrol_launch_dependents();
  griddepcontrol_wait();  // the plan's counter too: the previous kernel may use the same plan
  // By a shuffle, so that the compiler knows it to be the same for the warp: what depends on it alone is then computed once a
  // warp, in uniform registers, as wgmma's descriptions are wanted.
  const int group = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / S::group_threads, 0);
  if (group == 0) {
    give_registers_back<S::producer_registers>();
    const int warp = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0) produce_keys<S>(shared, queries, kv, rows, plan);
    if (warp == 1) produce_values<S>(shared, kv);
  } else {
    take_registers<S::consumer_registers>();
    const Variant variant{params};
    consume<S>(shared, group - 1, queries, rows, kv.tile_align(), variant, rules, plan);
  }
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  if (call.nnz_qo == 0) return;
  require_16_bytes(call);
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  const QueryBoxes queries = query_boxes(call, plan.pack);
  with_p11_instance(call, [&]<class S, class Variant>() {
    const LaunchShape shape{.grid = capacity.num_ctas, .block = S::threads, .shared_bytes = sizeof(HopperShared<S>),
                            .programmatic = call.programmatic};
    launch(kernel<S, Variant>, shape, stream, queries, kv_boxes(call, S::keys), call.rows, Variant::params(call),
           key_rules(call.params), plan);
  });
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p11
