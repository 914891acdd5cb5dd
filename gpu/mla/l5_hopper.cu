// L5, the top MLA rung, for sm_90a: latent rows by the copy engine, read twice from shared memory, as keys and as values.
// Must equal L4.
// grid   one CTA an SM, which claims work or runs its queue
// block  384 threads: a warp group that copies, two that compute
// shared memory   64 rows of q (72 KB), two tiles of 64 latent rows (144 KB), P (8 KB)
// 64 rows of o take 128 KB of registers: more than a warp group has. So two of them share o, each half of its features, and
// the one that computes the scores hands P to the other (FlashMLA's and FlashInfer's MLA kernels divide o likewise).
// The parts have files of their own: l5_shape.cuh what lies where, l5_producer.cuh who copies, l5_consumer.cuh who computes,
// l5_output.cuh the end of a row.
#include <algorithm>
#include <bit>

#include "core/error.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/mla/elements.cuh"
#include "gpu/mla/l5_consumer.cuh"
#include "gpu/mla/mla.hpp"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/ptx/setmaxnreg.cuh"
#include "gpu/tensor_map.hpp"

namespace flashladder::gpu::l5 {
namespace {

template <class Element>
__global__ void __launch_bounds__(threads, 1)
mla_l5_kernel(const __grid_constant__ Queries queries, const __grid_constant__ Latent kv,
              const __grid_constant__ KeyRules rules, const __grid_constant__ PackedParams plan, float scale, bool claimed) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  if (threadIdx.x == 0) shared.barriers.init(kv.boxes() ? 1 : group_threads);
  if (threadIdx.x == 32 && kv.boxes()) prefetch_map(kv.rows), prefetch_map(kv.halves), prefetch_map(kv.kpe);
  __syncthreads();  // the barriers are there
  griddepcontrol_wait();  // the plan's counter too: the previous kernel may use the same plan
  griddepcontrol_launch_dependents();  // behind the wait: whoever starts now finds the plan (merge_mla.cu)
  // By a shuffle, so that the compiler knows it to be the same for the warp.
  const int group = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / group_threads, 0);
  if (group == 0) {
    give_registers_back<producer_registers>();
    produce<Element>(shared, queries, kv, plan, claimed);
  } else if (group == 1) {
    take_registers<consumer_registers>();
    compute_left<Element>(shared, queries, kv, rules, scale, plan);
  } else {
    take_registers<consumer_registers>();
    compute_right<Element>(shared, queries, kv, plan);
  }
}

constexpr std::int32_t box_group = 8;  // tokens of an atom
constexpr std::uint64_t element_bytes = 2, row_bytes = 128;

// One of the two tensors of latent rows: {64 features, 8 tokens, features / 64, page_size / 8, pages}.
CUtensorMap pages_map(const void* data, const MlaStrides& of, const PageList& pages, std::int32_t features,
                      std::int32_t box_features, std::int32_t box_rows) {
  const auto bytes = [](std::int64_t elements, std::int64_t entries) {  // of one entry any stride will do
    return entries > 1 ? static_cast<std::uint64_t>(elements) * element_bytes : row_bytes;
  };
  const auto panels = static_cast<std::uint64_t>(features / 64);
  const auto groups = static_cast<std::uint64_t>(pages.page_size / box_group);
  return tensor_map(BoxedTensor<5>{
      .data = data,
      .dims = {64, box_group, panels, groups, static_cast<std::uint64_t>(pages.num_pages)},
      .strides = {bytes(of.entry, pages.page_size), row_bytes, bytes(box_group * of.entry, pages.page_size),
                  bytes(of.page, pages.num_pages)},
      .box = {64, box_group, static_cast<std::uint32_t>(box_features / 64), static_cast<std::uint32_t>(box_rows / box_group),
              1}});
}

// The largest power of two that divides a page and a tile.
std::int32_t rows_of_box(std::int32_t page_size) {
  return 1 << std::min(std::countr_zero(static_cast<std::uint32_t>(page_size)), std::countr_zero(std::uint32_t{keys}));
}

// The copy engine takes pages of whole atoms whose tokens and pages follow each other upwards.
bool in_boxes(const LatentPages& kv) {
  const auto upwards = [&](const MlaStrides& of) { return of.entry > 0 && (of.page > 0 || kv.pages.num_pages == 1); };
  return kv.pages.num_pages > 0 && kv.pages.page_size % box_group == 0 && upwards(kv.ckv_strides) && upwards(kv.kpe_strides);
}

Latent latent(const LatentPages& kv) {
  Latent latent{.cache = kv, .by_page_size = Divisor(kv.pages.page_size)};
  if (!in_boxes(kv)) return latent;
  latent.box_rows = rows_of_box(kv.pages.page_size);
  latent.first_key_mask = -latent.box_rows;
  latent.rows = pages_map(kv.ckv, kv.ckv_strides, kv.pages, mla_ckv, mla_ckv, latent.box_rows);
  latent.halves = pages_map(kv.ckv, kv.ckv_strides, kv.pages, mla_ckv, half_features, box_group);
  latent.kpe = pages_map(kv.kpe, kv.kpe_strides, kv.pages, mla_kpe, mla_kpe, latent.box_rows);
  return latent;
}

}  // namespace

void attend(const MlaCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  if (call.nnz_qo == 0) return;
  require_mla(call, capacity, rows);
  const PackedParams plan = packed_params(capacity, packed, partials, mla_ckv);
  const Queries queries{.rows = call.rows, .rotated = call.rotated, .by_heads = Divisor(call.params.num_qo_heads)};
  const float scale = call.params.sm_scale * static_cast<float>(log2_e);
  const LaunchShape shape{.grid = capacity.num_ctas, .block = threads, .shared_bytes = sizeof(Shared),
                          .programmatic = call.programmatic};
  with_mla_element(call, [&]<class Element>() {
    launch(mla_l5_kernel<Element>, shape, stream, queries, latent(call.kv), key_rules(call.params), plan, scale,
           capacity.claimed);
  });
  merge_mla(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::l5
