// P7, warps that only copy and warps that only compute: a producer and two consumers. Must equal P6.
// grid   a CTA a work, in the plan's order      block  384 threads: a warp group of which one warp copies, and two warp
// groups of 64 rows each
// shared memory   128 rows of q, two stages of 128 keys of K and of V: 160 KB
// New: the warp that asks for boxes does nothing else. While it waits for a stage to be released it has nothing to miss, so
// that a copy starts as soon as there is room, whatever the consumers do. Consumers wait for bytes, and a group never for
// the other one.
// All threads are launched with the same number of registers, 168 where there are 384 of them. But a producer needs few, and
// a consumer many: once the roles are clear, setmaxnreg moves them, so that these have 240 and those 24.
// Leaves out: a group computes nothing while its products run (P8); a CTA ends with its work, and the next one on the SM
// begins with nothing there (P9).
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
#include "gpu/ptx/setmaxnreg.cuh"

namespace flashladder::gpu::p7 {
namespace {

using S = LowerHopper;

struct alignas(S::atom_bytes) Shared {
  unsigned char q[S::consumers][S::q_bytes];  // [2 panels of 64 features][64 rows][128 bytes], swizzled; then o
  unsigned char k[S::stages][S::k_bytes], v[S::stages][S::v_bytes];  // [keys / 8][2] atoms
  PackedItem item;
  Mbarrier q_full;
  RingBarriers<S> rings;
};

// A warp: all boxes of the work, as far ahead as the rings hold.
__device__ void produce(Shared& shared, const QueryBoxes& queries, const KvBoxes& kv) {
  const PackedItem& item = shared.item;
  const KeyTiles<S::keys> tiles(item.keys, kv.first_key_mask);
  copy_queries<S>(queries, item, shared.q, shared.q_full);
  std::uint32_t tile = 0;  // of the rings, the next to fill
  for (int n = tiles.count - 1; n >= 0; --n) copy_keys_and_values<S>(shared, kv, item, tiles, n, tile++);
}

// A warp group: 64 rows of the work.
__device__ void consume(Shared& shared, int group, const QueryBoxes& queries, const QueryRows& rows,
                        std::int32_t first_key_mask, const Scaled& variant, const KeyRules& rules,
                        const PackedParams& plan) {
  const PackedItem& item = shared.item;
  const KeyTiles<S::keys> tiles(item.keys, first_key_mask);
  std::uint32_t tile = 0;  // of the rings, the next to come
  if (group * queries.group_rows >= item.rows.size()) return pass_tiles<S>(shared.rings, tiles.count, tile);
  float o[S::head_dim_vo / 2] = {}, s[S::keys / 2];
  std::uint32_t p[S::keys / 4];
  const ItemRows<S, Scaled> mine(variant, rules, item, queries, tiles, group);
  const auto seen = [&] { return mine.seen(rules, item); };
  RunningSoftmax softmax;
  shared.q_full.wait(0);
  for (int n = tiles.count - 1; n >= 0; --n) {
    const RingSlot<S::stages> at(tile++);
    shared.rings.k_full[at.stage].wait(at.parity);
    start_scores<S>(s, {}, shared_address(shared.q[group]), shared_address(shared.k[at.stage]));
    wgmma_wait<0>();
    release(shared.rings.k_empty[at.stage]);
    mask_scores<S>(s, variant, item, mine, first_key_mask, n, seen);
    softmax.weigh(s, variant.p.scale);
    softmax.rescale(o);
    if (n == tiles.count - 1) clear_unused_values<S>(shared, at, tiles.first_key(n), item.request.kv_len, group);
    shared.rings.v_full[at.stage].wait(at.parity);
    softmax.round<S::Element>(s, p);
    start_output<S>(o, p, shared_address(shared.v[at.stage]), false);
    wgmma_wait<0>();
    release(shared.rings.v_empty[at.stage]);
  }
  sync_group(group);  // the group's products have read Q: O may take its place
  finish<S>(o, softmax, variant, mine, item, rows, plan, shared.q[group]);
}

__global__ void __launch_bounds__(S::threads, 1)
prefill_p7_kernel(const __grid_constant__ QueryBoxes queries, const __grid_constant__ KvBoxes kv,
                  const __grid_constant__ QueryRows rows, const __grid_constant__ Scaled::Params params,
                  const __grid_constant__ KeyRules rules, const __grid_constant__ PackedParams plan) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  const std::int32_t work = blockIdx.x;
  if (work >= plan.view.header->num_work) return;  // a captured grid is for the largest plan
  if (threadIdx.x == 0) {
    shared.item = work_of(plan, rows.group_size, work);
    shared.q_full.init(1);
    shared.rings.init();
  }
  __syncthreads();  // the record and the barriers are there
  // By a shuffle, so that the compiler knows it to be the same for the warp.
  const int warp = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    give_registers_back<S::producer_registers>();
    if (warp == 0) produce(shared, queries, kv);
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
  const LaunchShape shape{.grid = capacity.num_work(), .block = S::threads, .shared_bytes = sizeof(Shared)};
  launch(prefill_p7_kernel, shape, stream, query_boxes(call, plan.pack), kv_boxes(call, S::keys), call.rows,
         Scaled::params(call), key_rules(call.params), plan);
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p7
