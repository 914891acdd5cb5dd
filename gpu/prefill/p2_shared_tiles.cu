// P2, tiles in shared memory: FlashAttention's loop (arXiv:2205.14135) with ordinary instructions. Must equal P1.
// grid   the GPU's CTAs, which claim work, then rows of merges      block  256 threads
// shared memory   tiles of 64 rows of q, of K and of V, 17 KB each, and 64 x 64 scores: 68 KB
// New: a key is read once for all rows of a tile. Keys come in tiles of 64; their scores with all rows lie in shared memory,
// where the softmax of each row reads them and writes weights, and goes on from tile to tile by rescaling o. A thread
// computes 4 x 4 scores, then 4 rows x 8 features of o, so that what it reads of shared memory serves four times. Rows see
// a range of keys (row_keys.cuh); key tiles that no row sees are not in the item.
// Leaves out: tensor cores. Every multiply-add is an instruction of its own, scores go through shared memory twice, and
// while tiles arrive nothing is computed. Takes one dtype, one head_dim, no General (gpu/prefill/instances.cuh).
// Here and above, a value of V that is not finite reaches all rows of the tiles in which some row sees it: 0 * NaN is NaN.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/token_slots.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/instances.cuh"
#include "gpu/prefill/item_rows.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu::p2 {
namespace {

constexpr int tile_rows = lower_prefill_grid.query_tile, tile_keys = 64, head_dim = 128, chunks = head_dim / 8;
constexpr int threads = 256;
constexpr int block_rows = 4, block_keys = 4;  // a thread's block of scores: rows side by side, every 16th key
static_assert(tile_rows / block_rows * (tile_keys / block_keys) == threads, "each thread has one block of scores");
static_assert(tile_rows / block_rows * chunks == threads, "and one of o: as many rows, eight features");

struct Shared {
  // A padding chunk after each row, so that eight lanes that read eight rows meet different banks.
  uint4 q[tile_rows][chunks + 1], k[tile_keys][chunks + 1], v[tile_keys][chunks + 1];
  float p[tile_rows][tile_keys + 1];  // dot products, then weights
  float scale[tile_rows];             // of each row of o: to a new maximum, and to its end
};

// The item's rows of q, those behind the last as zeros.
template <class Element>
__device__ void load_query(Shared& shared, const QueryRows& rows, const PackedItem& item, PackedRows place) {
  for (int row = threadIdx.x / 8; row < tile_rows; row += threads / 8) {
    const bool exists = row < item.rows.size();
    const auto* from = static_cast<const Element*>(rows.q) + rows.q_offset(place(item, exists ? row : 0));
    for (int c = threadIdx.x % 8; c < chunks; c += 8) {
      shared.q[row][c] = exists ? reinterpret_cast<const uint4*>(from)[c] : uint4{};
    }
  }
}

// The tile of keys that begins with first_key, those behind the item's last as zeros: an unused slot may hold NaN. Eight
// threads share a row. Unsigned: a token behind the last of 2^31 - 1 must not wrap.
template <class Element>
__device__ void load_tile(Shared& shared, const KvPages& kv, const PackedItem& item, std::uint32_t first_key) {
  for (int row = threadIdx.x / 8; row < tile_keys; row += threads / 8) {
    const TokenSlots at(kv, item.first_page, item.kv_head, first_key + row, item.keys.end);
    const auto* k = reinterpret_cast<const uint4*>(static_cast<const Element*>(kv.k) + at.k);
    const auto* v = reinterpret_cast<const uint4*>(static_cast<const Element*>(kv.v) + at.v);
    for (int c = threadIdx.x % 8; c < chunks; c += 8) {
      shared.k[row][c] = at.seen ? k[c] : uint4{};
      shared.v[row][c] = at.seen ? v[c] : uint4{};
    }
  }
}

// p = q k, a block a thread. Eight products are added before they join the sum: one long chain rounds more.
template <class Element>
__device__ void scores(Shared& shared) {
  const int row = threadIdx.x / 16 * block_rows, key = threadIdx.x % 16;
  float sum[block_rows][block_keys] = {};
  for (int c = 0; c < chunks; ++c) {
    Float8 k[block_keys];
#pragma unroll
    for (int j = 0; j < block_keys; ++j) k[j] = to_floats<Element>(shared.k[key + j * 16][c]);
#pragma unroll
    for (int i = 0; i < block_rows; ++i) {
      const Float8 q = to_floats<Element>(shared.q[row + i][c]);
#pragma unroll
      for (int j = 0; j < block_keys; ++j) {
        float piece = 0;
#pragma unroll
        for (int d = 0; d < 8; ++d) piece += q.at[d] * k[j].at[d];
        sum[i][j] += piece;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < block_rows; ++i) {
#pragma unroll
    for (int j = 0; j < block_keys; ++j) shared.p[row + i][key + j * 16] = sum[i][j];
  }
}

// Dot products become weights. Four neighbouring threads share a row, and each keeps all of its state.
__device__ void softmax(Shared& shared, SoftmaxState<float>& state, Range seen, std::int32_t first_key, float scale) {
  float* row = shared.p[threadIdx.x / 4];
  float most = state.m;
  for (int j = threadIdx.x % 4; j < tile_keys; j += 4) {
    row[j] = seen.contains(first_key + j) ? row[j] * scale : SoftmaxState<float>::nothing;
    most = fmaxf(most, row[j]);
  }
  for (const int lanes : {1, 2}) most = fmaxf(most, __shfl_xor_sync(all_lanes, most, lanes));
  float sum = 0;
  for (int j = threadIdx.x % 4; j < tile_keys; j += 4) sum += row[j] = SoftmaxState<float>::weight(row[j], most);
  for (const int lanes : {1, 2}) sum += __shfl_xor_sync(all_lanes, sum, lanes);
  const float rescale = SoftmaxState<float>::weight(state.m, most);
  state = {most, state.d * rescale + sum};
  shared.scale[threadIdx.x / 4] = rescale;
}

// o += p v, for the thread's rows and features, in chains of 32 keys: a longer one loses what follows a weight of 1.
template <class Element>
__device__ void weigh_values(const Shared& shared, float (&o)[block_rows][8]) {
  const int row = threadIdx.x / 16 * block_rows, chunk = threadIdx.x % 16;
  for (int first = 0; first < tile_keys; first += 32) {
    float sum[block_rows][8] = {};
    for (int j = first; j < first + 32; ++j) {
      const Float8 v = to_floats<Element>(shared.v[j][chunk]);
#pragma unroll
      for (int i = 0; i < block_rows; ++i) {
#pragma unroll
        for (int d = 0; d < 8; ++d) sum[i][d] += shared.p[row + i][j] * v.at[d];
      }
    }
#pragma unroll
    for (int i = 0; i < block_rows; ++i) {
#pragma unroll
      for (int d = 0; d < 8; ++d) o[i][d] = o[i][d] * (first == 0 ? shared.scale[row + i] : 1) + sum[i][d];
    }
  }
}

__device__ void write_rows(Shared& shared, const float (&o)[block_rows][8], SoftmaxState<float> state, const QueryRows& rows,
                           const PackedParams& plan, const PackedItem& item, PackedRows place) {
  __syncthreads();  // the last tile's scales have been read
  if (const int r = threadIdx.x / 4; r < item.rows.size()) {
    shared.scale[r] = finish_item_row(rows, plan, item, place(item, r), r, threadIdx.x % 4, state);
  }
  __syncthreads();  // the rows' scales are there
  for (int i = 0; i < block_rows; ++i) {
    const int r = threadIdx.x / 16 * block_rows + i;
    if (r >= item.rows.size()) return;
    Float8 value;
    for (int d = 0; d < 8; ++d) value.at[d] = o[i][d] * shared.scale[r];
    store_item_row(rows, plan, item, place(item, r), r, head_dim, threadIdx.x % 16 * 8, value);
  }
}

template <class Element>
__global__ void __launch_bounds__(threads, lower_prefill_grid.ctas_per_sm)
prefill_p2_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                  const __grid_constant__ Scaled::Params params, const __grid_constant__ KeyRules rules,
                  const __grid_constant__ PackedParams plan) {
  const PackedRows place{plan.pack};
  extern __shared__ __align__(128) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  __shared__ std::int32_t claimed;
  while (true) {
    if (threadIdx.x == 0) claimed = claim(plan);
    __syncthreads();  // the claim is in shared memory; nobody needs the last item's q any more
    const std::int32_t work = claimed;
    __syncthreads();  // every thread has read it: the next claim may overwrite it
    if (work >= plan.view.header->num_work) return;
    const PackedItem item = work_of(plan, rows.group_size, work);
    load_query<Element>(shared, rows, item, place);
    const int softmax_row = min(static_cast<int>(threadIdx.x) / 4, item.rows.size() - 1);
    const Range seen = row_keys(rules, item, place(item, softmax_row).query - item.query);
    SoftmaxState<float> state;
    float o[block_rows][8] = {};
    for (std::uint32_t key = item.keys.begin; key < static_cast<std::uint32_t>(item.keys.end); key += tile_keys) {
      __syncthreads();  // all threads are done with the last tile
      load_tile<Element>(shared, kv, item, key);
      __syncthreads();  // the tile is there, and q
      scores<Element>(shared);
      __syncthreads();  // all scores are there
      softmax(shared, state, seen, key, params.scale);
      __syncthreads();  // all weights are there
      weigh_values<Element>(shared, o);
    }
    write_rows(shared, o, state, rows, plan, item, place);
  }
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  require_16_bytes(call);
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  with_lower_prefill_instance(call, capacity.query_tile, [&]<class Element>() {
    const LaunchShape shape{.grid = capacity.num_ctas, .block = threads, .shared_bytes = sizeof(Shared)};
    launch(prefill_p2_kernel<Element>, shape, stream, call.rows, call.kv, Scaled::params(call), key_rules(call.params),
           plan);
  });
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p2
