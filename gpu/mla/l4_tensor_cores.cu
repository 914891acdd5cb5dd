// L4, MLA on tensor cores of sm_80 and newer. Must equal the CPU's planned rung.
// grid   one CTA an SM, which claims work or runs its queue      block  256 threads
// shared memory   64 rows of q (72 KB), two tiles of 32 latent rows (36 KB each), P of a tile: 152 KB
// A latent row is copied once and read twice, as key and as value. 64 rows of o, 512 features each, fill the registers of
// eight warps, so that the products are divided among them in two ways:
//
//   S = Q K^T      a warp has 32 rows and 8 of the tile's keys: what it needs of a key are all 576 features
//   O += P V       a warp has all 64 rows and 64 features of o: what it needs of P are all 32 keys
//
// Between them P changes hands by way of shared memory, and so do the maxima of the rows. Row tiles of 16 that an item does
// not have are left out: with 16 heads a query takes a quarter of the work. Latent rows may be E4M3 (l4_copies.cuh).
// Leaves out: copies of more than one tile ahead, products while exponents are computed, wgmma (L5).
#include <utility>

#include "core/error.hpp"
#include "core/swizzle.hpp"
#include "gpu/check.hpp"
#include "gpu/device.hpp"
#include "gpu/element.cuh"
#include "gpu/launch.hpp"
#include "gpu/mla/elements.cuh"
#include "gpu/mla/l4_copies.cuh"
#include "gpu/mla/mla.hpp"
#include "gpu/mla/work_stream.cuh"
#include "gpu/prefill/item_rows.cuh"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/prefill/swizzled_row.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/ptx/ex2.cuh"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu::l4 {
namespace {

// What a warp has of S, two tiles of 16 rows x 8 keys: C fragments. Of one a lane holds two neighbours of row lane / 4, then
// two of row lane / 4 + 8 (core/fragment_map.hpp).
struct Scores {
  int first_row, eight;     // of the tile's rows, of its keys
  float s[2][4], sum[2][2] = {};  // sum: of this lane's weights in all tiles so far
  std::uint32_t end[2][2];  // behind the last key of the item that each of the lane's rows sees

  __device__ Scores(const KeyRules& rules, const PackedItem& item, PackedRows place)
      : first_row(threadIdx.x / 32 / eights * 32), eight(threadIdx.x / 32 % eights) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = min(row_of(i / 2, i % 2), item.rows.size() - 1);
      end[i / 2][i % 2] = max(row_keys(rules, item, place(item, row).query - item.query).end, 0);
    }
  }
  __device__ int row_of(int m, int h) const { return first_row + 16 * m + threadIdx.x % 32 / 4 + 8 * h; }

  // nope_factor: the scale of ckv by that of kpe.
  template <class Element>
  __device__ void multiply(const Shared& shared, const Tile& latent, int rows, float nope_factor) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (auto& of_tile : s) of_tile[0] = of_tile[1] = of_tile[2] = of_tile[3] = 0;
    if (first_row >= rows) return;
    const SwizzledRow q(shared.q, first_row + lane % 16, lane / 16);
    const SwizzledRow k(latent, 8 * eight + lane % 8, lane / 8);  // four chunks a step, so every other step of its own
    meet<Element, 0, ckv_chunks / 2>(q, k);
#pragma unroll
    for (auto& of_tile : s) {
#pragma unroll
      for (float& x : of_tile) x *= nope_factor;
    }
    meet<Element, ckv_chunks / 2, chunks / 2>(q, k);
  }
  // Steps of 16 features.
  template <class Element, int first, int end>
  __device__ void meet(const SwizzledRow<chunks>& q, const SwizzledRow<chunks>& k) {
#pragma unroll 4
    for (int step = first; step < end; step += 2) {
      std::uint32_t a[4], b[4];
      ldmatrix_x4(b, k.at(step));
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        ldmatrix_x4(a, q.at(step, 16 * m));
        mma_16x8x16<Element>(s[m], a, {b[0], b[1]});
        ldmatrix_x4(a, q.at(step + 1, 16 * m));
        mma_16x8x16<Element>(s[m], a, {b[2], b[3]});
      }
    }
  }

  // Keys that a row does not see weigh nothing; the maxima of the rest, in units of log2, go to the others.
  __device__ void mask(Shared& shared, std::uint32_t first_key, float scale) {
    const std::uint32_t key = first_key + 8 * eight + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = i / 2, h = i % 2;
      float most = SoftmaxState<float>::nothing;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& x = s[m][2 * h + j];
        x = key + j < end[m][h] ? x * scale : SoftmaxState<float>::nothing;
        most = fmaxf(most, x);
      }
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));  // lanes 4 n .. 4 n + 3 share a row
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
      if (threadIdx.x % 4 == 0) shared.of_eights[eight][row_of(m, h)] = most;
    }
  }

  __device__ void share_sums(Shared& shared) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float d = sum[i / 2][i % 2];
      d += __shfl_xor_sync(all_lanes, d, 1);
      d += __shfl_xor_sync(all_lanes, d, 2);
      if (threadIdx.x % 4 == 0) shared.of_eights[eight][row_of(i / 2, i % 2)] = d;
    }
  }
};

// What a warp has of O: all rows, 64 features; and of all rows the maximum so far.
struct Output {
  float m[4][2], o[4][features / 8][4] = {};

  __device__ Output() {
#pragma unroll
    for (auto& of_tile : m) of_tile[0] = of_tile[1] = SoftmaxState<float>::nothing;
  }
  static __device__ int row_of(int t, int h) { return 16 * t + threadIdx.x % 32 / 4 + 8 * h; }
  static __device__ float base(float most) {  // of a row that has seen nothing yet: -inf - -inf would be NaN
    return most == SoftmaxState<float>::nothing ? 0 : most;
  }

  // o and the sums to the new maxima; then the warp's scores become P, not normalised.
  template <class Element>
  __device__ void softmax(Shared& shared, Scores& scores) {
#pragma unroll
    for (int t = 0; t < 4; ++t) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = row_of(t, h);
        float most = m[t][h];
#pragma unroll
        for (const auto& of_eight : shared.of_eights) most = fmaxf(most, of_eight[row]);
        const float factor = exp2_approx(m[t][h] - base(most));
        m[t][h] = most;
#pragma unroll
        for (auto& of_features : o[t]) of_features[2 * h] *= factor, of_features[2 * h + 1] *= factor;
        if (scores.first_row != t / 2 * 32) continue;  // of these rows the scores are another warp's
        const float* s = &scores.s[t % 2][2 * h];
        const float left = exp2_approx(s[0] - base(most)), right = exp2_approx(s[1] - base(most));
        scores.sum[t % 2][h] = scores.sum[t % 2][h] * factor + left + right;
        uint4& chunk = shared.p[row][swizzled_chunk(Swizzle::bytes_64, row, scores.eight)];
        reinterpret_cast<std::uint32_t*>(&chunk)[threadIdx.x % 4] = pack<Element>(left, right);
      }
    }
  }

  template <class Element>
  __device__ void add(const Shared& shared, const Tile& latent, int rows) {
    const int lane = threadIdx.x % 32;
    const SwizzledRow v(latent, lane % 16, lane / 16);
#pragma unroll
    for (int i = 0; i < keys / 16; ++i) {
      std::uint32_t b[features / 16][4];
#pragma unroll
      for (int n = 0; n < features / 16; ++n) ldmatrix_x4_trans(b[n], v.at(threadIdx.x / 32 * 4 + n, i * 16));
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        if (16 * t >= rows) continue;
        std::uint32_t a[4];
        const int row = 16 * t + lane % 16;
        ldmatrix_x4(a, &shared.p[row][swizzled_chunk(Swizzle::bytes_64, row, 2 * i + lane / 16)]);
#pragma unroll
        for (int n = 0; n < features / 16; ++n) mma_16x16x16<Element>(o[t][2 * n], o[t][2 * n + 1], a, b[n]);
      }
    }
  }

  // The sums of all keys are in of_eights.
  __device__ void store(const Shared& shared, const QueryRows& rows, const PackedParams& plan, PackedRows place) const {
    [&]<int... i>(std::integer_sequence<int, i...>) {  // unrolled, since o must not be indexed at run time
      (store_row_of<i / 2, i % 2>(shared, rows, plan, place), ...);
    }(std::make_integer_sequence<int, 8>{});
  }

 private:
  template <int t, int h>
  __device__ void store_row_of(const Shared& shared, const QueryRows& rows, const PackedParams& plan,
                               PackedRows place) const {
    const int row = row_of(t, h), first = threadIdx.x / 32 * features + threadIdx.x % 4 * 2;
    if (row >= shared.item.rows.size()) return;
    SoftmaxState<float> state{m[t][h], 0};
    for (const auto& of_eight : shared.of_eights) state.d += of_eight[row];
    const RowPlace at = place(shared.item, row);
    const float scale = finish_item_row(rows, plan, shared.item, at, row, first, state);
#pragma unroll
    for (int n = 0; n < features / 8; ++n) {
      const float2 value{o[t][n][2 * h] * scale, o[t][n][2 * h + 1] * scale};
      store_item_row(rows, plan, shared.item, at, row, mla_ckv, first + 8 * n, value);
    }
  }
};

// narrow: latent rows are E4M3.
template <class Element, bool narrow>
__global__ void __launch_bounds__(threads, 1)
mla_l4_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ PeQueries rotated,
              const __grid_constant__ LatentPages kv, const __grid_constant__ KeyRules rules,
              const __grid_constant__ PackedParams plan, float scale, float nope_factor, bool claimed) {
  extern __shared__ __align__(128) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  const PackedRows place{plan.pack};
  const auto arriving = [&](std::int32_t tile) -> auto& {
    if constexpr (narrow) return shared.of_bytes.arriving[tile % 2];
    else return shared.latent[tile % 2];
  };
  griddepcontrol_wait();  // the plan's counter too: the previous kernel may use the same plan
  griddepcontrol_launch_dependents();  // behind the wait: whoever starts now finds the plan (merge_mla.cu)
  WorkStream works(plan, claimed);  // of the first warp
  if (threadIdx.x < 32) works.begin();
  while (true) {
    __syncthreads();  // nobody needs the last item any more, nor its rows and tiles
    if (threadIdx.x < 32) works.take(shared.item);
    __syncthreads();  // the item is in shared memory
    const PackedItem& item = shared.item;
    if (item.rows.empty()) return;
    const std::int32_t tiles = div_up(item.keys.size(), keys);
    copy_query<Element>(rows, rotated, place, shared);
    if (tiles > 0) copy_tile<Element>(kv, LatentRow(kv, item, 0), arriving(0));
    cp_async_commit();
    LatentRow next(kv, item, 1);  // under way while a tile is computed
    Scores scores(rules, item, place);
    Output output;
    for (std::int32_t tile = 0; tile < tiles; ++tile) {
      const Tile& latent = narrow ? shared.of_bytes.widened : shared.latent[tile % 2];
      cp_async_wait<0>();
      __syncthreads();  // q and this tile have arrived; all warps are done with the tile before, with P and the maxima
      if constexpr (narrow) {
        widen_tile<Element>(arriving(tile), shared.of_bytes.widened);
        __syncthreads();  // all of the tile is there in 16 bits
      }
      if (tile + 1 < tiles) copy_tile<Element>(kv, next, arriving(tile + 1));
      cp_async_commit();
      next = LatentRow(kv, item, tile + 2);
      scores.multiply<Element>(shared, latent, item.rows.size(), nope_factor);
      scores.mask(shared, item.keys.begin + static_cast<std::uint32_t>(tile) * keys, scale);
      __syncthreads();  // the maxima of all keys are there
      output.softmax<Element>(shared, scores);
      __syncthreads();  // so is P
      output.add<Element>(shared, latent, item.rows.size());
    }
    cp_async_wait<0>();
    __syncthreads();  // of an item without keys, q has come before its place is used again; all have read the last maxima
    scores.share_sums(shared);
    __syncthreads();  // the sums of all keys are there
    output.store(shared, rows, plan, place);
  }
}

}  // namespace

const std::string& why_no_device() {
  static const std::string reason = [] {
    if (!gpu::why_no_device().empty()) return gpu::why_no_device();
    int device = 0, bytes = 0;
    check(cudaGetDevice(&device));
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    if (static_cast<std::size_t>(bytes) >= sizeof(Shared)) return std::string();
    return "the kernel needs " + std::to_string(sizeof(Shared)) + " bytes of shared memory; this GPU's blocks get " +
           std::to_string(bytes);
  }();
  return reason;
}

void attend(const MlaCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  if (call.nnz_qo == 0) return;
  require_mla_of_rows(call, capacity, tile_rows);
  const PackedParams plan = packed_params(capacity, packed, partials, mla_ckv);
  const float scale = call.params.sm_scale * static_cast<float>(log2_e);
  const LaunchShape shape{.grid = capacity.num_ctas, .block = threads, .shared_bytes = sizeof(Shared),
                          .programmatic = call.programmatic};
  with_mla_formats(call, [&]<class Element, bool narrow>() {
    launch(mla_l4_kernel<Element, narrow>, shape, stream, call.rows, call.rotated, call.kv, key_rules(call.params), plan,
           scale, call.nope_factor, capacity.claimed);
  });
  merge_mla(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::l4
