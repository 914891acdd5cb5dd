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

#include "gpu/decode/decode.hpp"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/queue_run.cuh"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::d6 {
namespace {

using Threads = ThreadGroup<tile_warps * 32>;
template <class S, class Variant>
using Memory = QueueMemory<S, RotationOf<S, GroupWarps<Threads>, Variant>>;

template <class S, class Variant, class Place>
__global__ void __launch_bounds__(Threads::threads, grid(S::head_dim, false).ctas_per_sm)
decode_d6_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ typename Variant::Params params, const __grid_constant__ PackedParams plan,
                 const __grid_constant__ Place row_place) {
  extern __shared__ __align__(128) unsigned char bytes[];
  auto& shared = *reinterpret_cast<Memory<S, Variant>*>(bytes);
  if (plan.is_new) griddepcontrol_wait();
  const PackedQueue queue = plan.view.queues[blockIdx.x];
  griddepcontrol_launch_dependents();  // the next kernel may come as soon as there is room: it waits where it must
  if (queue.first.rows.empty()) return griddepcontrol_wait();  // not to end before the previous kernel does
  const CtaClock clock(plan.cta_times);
  run_queue<S, Threads, Variant>(rows, kv, params, plan, row_place, queue, shared);
  clock.stop();
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream,
            std::uint64_t* cta_times) {
  require_16_bytes(call);
  const bool few_queries = capacity.query_tile > call.params.group_size();
  require(!few_queries || most_queries(call.params) > 1, "plan.query_tile", capacity.query_tile,
          "has several queries of a request, which this variant does not take");
  PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo, cta_times);
  plan.programmatic = call.programmatic, plan.is_new = call.plan_is_new;
  with_d6_instance(call, capacity.query_tile, [&]<class Element, class Stored, int head_dim, int head_tiles, class Variant>() {
    using S = TileShape<Element, head_dim, head_tiles, queue_stages<Stored, head_dim>, Stored>;
    // What an SM must not hold more of than the plan counts with, where registers and shared memory would allow it: when
    // kernels follow each other, some SMs would have three CTAs and others one.
    constexpr std::size_t of_sm = 228 * 1024, least = of_sm / (grid(head_dim, false).ctas_per_sm + 1);
    const LaunchShape shape{.grid = capacity.num_ctas, .block = Threads::threads,
                            .shared_bytes = std::max(sizeof(Memory<S, Variant>), least),
                            .programmatic = call.programmatic || call.plan_is_new};
    const auto run = [&]<class Place>(const Place& place) {
      launch(decode_d6_kernel<S, Variant, Place>, shape, stream, call.rows, call.kv, Variant::params(call), plan, place);
    };
    if constexpr (may_have_few_queries<Variant>) {
      if (few_queries) return run(FewQueriesRows{{plan.pack}, key_rules(call.params)});
    }
    run(OneQueryRows{plan.pack});
  });
}

}  // namespace flashladder::gpu::d6
