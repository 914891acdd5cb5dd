// P11, the top prefill rung, for sm_90a: pages by the copy engine, wgmma, a stale reference instead of a running maximum,
// queries in registers. Must equal P10.
// grid   one CTA an SM, which claims work      block  384 threads, or 512 with head_dim 64: a warp group that copies, and
// two or three that compute 64 rows each
// shared memory   Q, two stages of K and of V or four, O (hopper_shape.cuh)
// The parts have files of their own: boxes.hpp how pages become boxes, hopper_producer.cuh who asks for them,
// hopper_products.cuh the products, hopper_rows.cuh the masks, stale_softmax.cuh the softmax, row_output.cuh the end of a
// row.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/hopper_consumer.cuh"
#include "gpu/prefill/hopper_instances.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::p11 {
namespace {

template <class S, class Variant>
__global__ void __launch_bounds__(S::threads, 1)
prefill_p11_kernel(const __grid_constant__ QueryBoxes queries, const __grid_constant__ KvBoxes kv,
                   const __grid_constant__ QueryRows rows, const __grid_constant__ typename Variant::Params params,
                   const __grid_constant__ KeyRules rules, const __grid_constant__ PackedParams plan) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  HopperShared<S>& shared = *reinterpret_cast<HopperShared<S>*>(bytes);
  if (threadIdx.x == 0) shared.barriers.init();
  if (threadIdx.x < S::consumers) {
    shared.q_address[threadIdx.x] = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared.q[threadIdx.x]));
  }
  __syncthreads();  // the barriers are there
  griddepcontrol_launch_dependents();
  griddepcontrol_wait();  // the plan's counter too: the previous kernel may use the same plan
  run_works<S>(shared, queries, kv, rows, Variant{params}, rules, plan);
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  if (call.nnz_qo == 0) return;
  require_16_bytes(call);
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  const QueryBoxes queries = query_boxes(call, plan.pack);
  with_p11_instance(call, [&]<class S, class Variant>() {
    const LaunchShape shape{.grid = capacity.num_ctas, .block = S::threads, .shared_bytes = sizeof(HopperShared<S>),
                            .programmatic = call.programmatic || call.plan_is_new};
    launch(prefill_p11_kernel<S, Variant>, shape, stream, queries, kv_boxes(call, S::keys), call.rows, Variant::params(call),
           key_rules(call.params), plan);
  });
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p11
