// P12, mixed batches, for sm_90a: P11 whose first CTAs run queues of decode before they claim works. Must equal P11.
// grid   one CTA an SM      block  384 threads      shared memory   P11's; of the first CTAs, before that, two of D6's
// New: the requests of one query are a part of the plan of their own, cut and queued as for D6. About three quarters of the
// SMs keep memory busy by reading, and multiplying keeps the tensor cores of the others busy: so both go on at once, where
// P11 does one after the other. Of a CTA that decodes, two warp groups are what two CTAs of D6 are. When its queues are
// done, it claims works of prefill like everybody else: nobody has to know before how long either part takes.
// Leaves out: head dims but 128, soft caps, masks and ALiBi (a batch of these goes to P11, in one launch as well).
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/decode/queue_run.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/hopper_consumer.cuh"
#include "gpu/prefill/hopper_instances.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::p12 {
namespace {

// What is decoded, and from which plan.
struct DecodePart {
  KvPages kv;
  PackedParams plan;
  std::int32_t ctas = 0;  // of the grid, each with MixedShape::queues_per_cta
};

// The queues of a CTA, a warp group each. The warp groups without one lend their registers meanwhile.
template <class S, class D>
__device__ void run_queues(HopperShared<S>& shared, const QueryRows& rows, const Scaled::Params& params,
                           const DecodePart& part) {
  constexpr int registers = 65536 / S::threads / 8 * 8;  // of a thread, as the CTA was launched
  auto* memory = reinterpret_cast<QueueMemory<D>*>(&shared);
  static_assert(MixedShape::queues_per_cta * sizeof(QueueMemory<D>) <= offsetof(HopperShared<S>, items),
                "the barriers, which are there already, must lie behind what the queues use");
  const int group = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / WarpGroup::threads, 0);
  if (group < MixedShape::queues_per_cta) {
    take_registers<S::consumer_registers>();
    const PackedQueue queue = part.plan.view.queues[blockIdx.x * MixedShape::queues_per_cta + group];
    const OneQueryRows one_query{part.plan.pack};
    if (!queue.first.rows.empty()) {
      run_queue<D, WarpGroup, Scaled>(rows, part.kv, params, part.plan, one_query, queue, memory[group]);
    }
    give_registers_back<registers>();
    fence_proxy_async();  // what this thread did in shared memory comes before the copies of prefill
    __syncthreads();      // the registers are back, and what every thread did is done
  } else {
    give_registers_back<S::producer_registers>();
    // Registers are taken warp by warp: one that took its own again before the others had theirs would leave some of them
    // without, and their neighbours waiting for them.
    __syncthreads();
    take_registers<registers>();
  }
}

template <class S, class D>
__global__ void __launch_bounds__(S::threads, 1)
prefill_p12_kernel(const __grid_constant__ QueryBoxes queries, const __grid_constant__ KvBoxes kv,
                   const __grid_constant__ QueryRows rows, const __grid_constant__ Scaled::Params params,
                   const __grid_constant__ KeyRules rules, const __grid_constant__ PackedParams plan,
                   const __grid_constant__ DecodePart decode) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  HopperShared<S>& shared = *reinterpret_cast<HopperShared<S>*>(bytes);
  if (threadIdx.x == 0) shared.barriers.init();
  if (threadIdx.x < S::consumers) {
    shared.q_address[threadIdx.x] = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared.q[threadIdx.x]));
  }
  __syncthreads();  // the barriers are there
  griddepcontrol_launch_dependents();
  griddepcontrol_wait();  // the plan's counter too: the previous kernel may use the same plan
  if (blockIdx.x < decode.ctas) run_queues<S, D>(shared, rows, params, decode);
  run_works<S>(shared, queries, kv, rows, Scaled{params}, rules, plan);
}

template <class Element>
void launch_p12(const AttentionCall& call, const MixedShape& capacity, const PackedParams& plan, const PackedParams& decode,
                cudaStream_t stream) {
  using S = HopperShape<Element, MixedShape::head_dim, MixedShape::head_dim, 128, true>;
  using D = TileShape<Element, MixedShape::head_dim, 1, queue_stages<Element, MixedShape::head_dim>>;
  const LaunchShape shape{.grid = capacity.prefill.num_ctas, .block = S::threads, .shared_bytes = sizeof(HopperShared<S>),
                          .programmatic = call.programmatic};
  const DecodePart part{call.kv, decode, capacity.decode.num_ctas / MixedShape::queues_per_cta};
  launch(prefill_p12_kernel<S, D>, shape, stream, query_boxes(call, plan.pack), kv_boxes(call, S::keys), call.rows,
         Scaled::params(call), key_rules(call.params), plan, part);
}

}  // namespace

void attend(const AttentionCall& call, const MixedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  if (call.nnz_qo == 0) return;
  require_16_bytes(call);
  require(capacity.decode.query_tile <= MixedShape::decode_rows, "plan.query_tile", capacity.decode.query_tile,
          "is more than the decode part's instance has rows");
  const std::int32_t dim = call.params.head_dim_vo;
  const PackedParams decode = packed_params(capacity.decode, packed, partials, dim);
  const PackedParams plan = packed_params(capacity.prefill, packed + packed_bytes(capacity.decode), partials, dim);
  with_p12_instance(call, [&]<class Element>() { launch_p12<Element>(call, capacity, plan, decode, stream); });
  merge_partials(call, capacity.prefill, plan, stream);
}

}  // namespace flashladder::gpu::p12
