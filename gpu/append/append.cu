// append_paged_kv_cache: new keys and values go to the slots that the page table gives them, copied, or quantised for an fp8
// cache. Must equal reference/append.cpp.
// grid   tokens x heads x pieces      block  lane x head x row, a warp for each row      no shared memory
// A row is a token's K, or its V: all its heads, in pieces of 16 bytes. A power of two of lanes shares a head, so that a
// warp works on several heads side by side, and each lane on heads_at_once such heads. Rows with more heads or features than
// that are spread over blocks along y and z. Finding the page takes three loads, one after the other: batch index and
// position, indptr, page id. The pieces that are copied do not depend on them: their loads start first and are complete when
// the address is known.
#include "gpu/append/append.hpp"

#include <algorithm>
#include <bit>

#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/mla_append.hpp"
#include "core/op_checks.hpp"
#include "core/range.hpp"
#include "gpu/append/append_moves.cuh"
#include "gpu/append/append_params.hpp"
#include "gpu/append/page_table_arguments.hpp"
#include "gpu/arguments.hpp"
#include "gpu/device.hpp"
#include "gpu/index_entry.cuh"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/slot_halves.hpp"

namespace flashladder::gpu {
namespace {

constexpr int warp = 32, tokens_in_block = 2, heads_at_once = 4;

// Small blocks, and loads and stores without a cache policy: larger blocks, loads that are not allocated in L1 and streaming
// stores were all slower (docs/measurements/h200-ops.md).
template <class Move>
__global__ void __launch_bounds__(2 * tokens_in_block * warp)
append_kernel(const __grid_constant__ AppendParams p, const __grid_constant__ Move move) {
  using From = typename Move::From;
  using To = typename Move::To;
  const auto token = static_cast<std::int32_t>(blockIdx.x * tokens_in_block + threadIdx.z / 2);  // at most nnz + 1
  const bool is_v = threadIdx.z % 2 == 1;
  const auto at = static_cast<std::int32_t>(blockIdx.z * blockDim.x + threadIdx.x);  // this lane's piece of each head
  const auto step = static_cast<std::int32_t>(blockDim.y);
  const auto first = static_cast<std::int32_t>(blockIdx.y * blockDim.y * heads_at_once + threadIdx.y);
  // The previous kernel on the stream may still write rows, index arrays and scales, or read the pages.
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  if (token >= p.nnz) return;
  const std::int32_t request = index_entry(p.batch_indices, p.index_bytes, token);
  const std::int32_t position = index_entry(p.positions, p.index_bytes, token);
  const HeadRows& rows = is_v ? p.v : p.k;
  const std::int32_t heads = at < rows.dim ? rows.num_heads : 0;  // that this lane has a piece of
  const From* from = static_cast<const From*>(rows.data) + token * rows.token + first * rows.head + at;
  const std::int64_t from_step = step * rows.head;
  typename Move::Loaded pieces[heads_at_once];
#pragma unroll
  for (int i = 0; i < heads_at_once; ++i, from += from_step) {
    if (first + i * step < heads) pieces[i] = move.load(from, is_v, first + i * step);
  }
  __syncwarp();  // closes no hazard: without it ptxas moves the loads below the exit, where they wait for the batch index
  if (request < 0) return;  // a row of padding: its position and what was loaded of it mean nothing
  const KvStrides& strides = is_v ? p.kv.v_strides : p.kv.k_strides;
  const KvSlot slot = p.kv.pages.locate_from(p.indptr ? p.indptr[request] : 0, position);
  To* to = static_cast<To*>(is_v ? p.kv.v : p.kv.k) + strides.offset(slot, first) + at;
  const std::int64_t to_step = step * strides.head;
#pragma unroll
  for (int i = 0; i < heads_at_once; ++i, to += to_step) {
    if (first + i * step < heads) move.store(to, pieces[i]);
  }
}

// Do rows and the pool's slots consist of pieces of so many elements?
bool consists_of(std::int64_t elements, const HeadRows& rows, const KvStrides& pool) {
  const std::int64_t all[] = {rows.token, rows.head, rows.dim, pool.page, pool.entry, pool.head};
  return std::all_of(std::begin(all), std::end(all), [&](std::int64_t n) { return n % elements == 0; });
}

HeadRows in_pieces(HeadRows rows, std::int64_t elements) {
  return {rows.data, rows.token / elements, rows.head / elements, rows.num_heads,
          static_cast<std::int32_t>(rows.dim / elements)};
}
KvStrides in_pieces(KvStrides s, std::int64_t elements) {
  return {s.page / elements, s.entry / elements, s.head / elements};
}

// elements: of a piece.
template <class Move>
void launch_append(AppendParams p, const Move& move, std::int64_t elements, cudaStream_t stream, bool enable_pdl) {
  p.k = in_pieces(p.k, elements);
  p.v = in_pieces(p.v, elements);
  p.kv.k_strides = in_pieces(p.kv.k_strides, elements);
  p.kv.v_strides = in_pieces(p.kv.v_strides, elements);
  const auto dim = static_cast<unsigned>(std::max(p.k.dim, p.v.dim)), heads = static_cast<unsigned>(p.k.num_heads);
  const unsigned lanes = std::bit_ceil(std::clamp(dim, 1u, unsigned{warp})), heads_in_block = warp / lanes * heads_at_once;
  const unsigned grid_y = div_up(heads, heads_in_block), grid_z = div_up(dim, lanes);
  require(grid_y <= most_blocks_yz && grid_z <= most_blocks_yz, "append_key", heads,
          "heads, or head_dim, are too many for one launch");
  launch(append_kernel<Move>,
         {.grid = heads == 0 ? 0 : div_up(p.nnz, tokens_in_block), .grid_y = grid_y, .grid_z = grid_z,
          .block = dim3(lanes, warp / lanes, 2 * tokens_in_block), .programmatic = enable_pdl},
         stream, p, move);
}

// Can rows be loaded in pieces of 16 bytes, of so many elements, and the pools take such a piece as to_bytes?
bool aligned(const AppendParams& p, std::int64_t elements, int to_bytes) {
  return consists_of(elements, p.k, p.kv.k_strides) && consists_of(elements, p.v, p.kv.v_strides) && is_aligned(p.k.data) &&
         is_aligned(p.v.data) && is_aligned(p.kv.k, to_bytes) && is_aligned(p.kv.v, to_bytes);
}

void launch_copies(const AppendParams& p, DType dtype, cudaStream_t stream, bool enable_pdl) {
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  if (aligned(p, 16 / element, 16)) return launch_append(p, Copy<uint4>{}, 16 / element, stream, enable_pdl);
  if (element == 1) return launch_append(p, Copy<std::uint8_t>{}, 1, stream, enable_pdl);
  if (element == 2) return launch_append(p, Copy<std::uint16_t>{}, 1, stream, enable_pdl);
  launch_append(p, Copy<std::uint32_t>{}, 1, stream, enable_pdl);
}

template <class Element>
void launch_quantised(const AppendParams& p, const KvQuantiser& kv, cudaStream_t stream, bool enable_pdl) {
  constexpr int elements = Quantise<Element, true>::elements;
  if (aligned(p, elements, elements)) {
    return launch_append(p, Quantise<Element, true>{kv}, elements, stream, enable_pdl);
  }
  launch_append(p, Quantise<Element, false>{kv}, 1, stream, enable_pdl);
}

void launch_append(const AppendParams& p, DType rows, DType cache, const KvScales& scales, cudaStream_t stream,
                   bool enable_pdl) {
  if (rows == cache) return launch_copies(p, cache, stream, enable_pdl);
  const KvQuantiser kv(scales, cache);
  if (rows == DType::f32) return launch_quantised<float>(p, kv, stream, enable_pdl);
  if (rows == DType::f16) return launch_quantised<Half>(p, kv, stream, enable_pdl);
  launch_quantised<BFloat16>(p, kv, stream, enable_pdl);
}

// The arguments have been checked, but for the table.
void append_by_table(const ConstTensor& append_key, const ConstTensor& append_value,
                     std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                     const PagedKvCache& cache, const PagedKvTable& table, cudaStream_t stream, bool enable_pdl,
                     const KvScales& scales) {
  check_table(table);
  const AppendParams p{.k = head_rows(append_key), .v = head_rows(append_value),
                       .kv = kv_pages(cache, table.paged_kv_indices.data()), .indptr = table.paged_kv_indptr.data(),
                       .batch_indices = batch_indices.data(), .positions = positions.data(),
                       .nnz = static_cast<std::int32_t>(batch_indices.size())};
  launch_append(p, append_key.dtype, cache.dtype, scales, stream, enable_pdl);
}

}  // namespace

void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                           const PagedKvCache& paged_kv_cache, const PagedKvTable& table, cudaStream_t stream,
                           bool enable_pdl, const KvScales& scales) {
  check_append(append_key, append_value, batch_indices, positions, paged_kv_cache, table, &scales);
  require_int32_shape("append_key", append_key);
  append_by_table(append_key, append_value, batch_indices, positions, paged_kv_cache, table, stream, enable_pdl, scales);
}

void append_paged_mla_kv_cache(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                               std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                               const PagedMlaCache& paged_mla_cache, const PagedKvTable& table, cudaStream_t stream,
                               bool enable_pdl, const MlaScales& scales) {
  check_append_mla(append_ckv, append_kpe, batch_indices, positions, paged_mla_cache, table, scales);
  require_int32_shape("append_ckv", append_ckv);
  append_by_table(with_heads(append_ckv), with_heads(append_kpe), batch_indices, positions, as_kv_cache(paged_mla_cache),
                  table, stream, enable_pdl, {.k = scales.k, .v = scales.kpe});
}

void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int64_t> slot_mapping, const PagedKvCache& paged_kv_cache,
                           cudaStream_t stream, bool enable_pdl, const KvScales& scales) {
  const PagedKvCache& cache = paged_kv_cache;
  const SlotHalves slots = slot_halves(slot_mapping, cache);
  check_append(append_key, append_value, slot_mapping, cache, &scales);
  require_int32_shape("append_key", append_key);
  const AppendParams p{.k = head_rows(append_key), .v = head_rows(append_value), .kv = kv_pages(cache, nullptr),
                       .batch_indices = slots.requests, .positions = slots.positions, .index_bytes = slots.index_bytes,
                       .nnz = static_cast<std::int32_t>(slot_mapping.size())};
  launch_append(p, append_key.dtype, cache.dtype, scales, stream, enable_pdl);
}

}  // namespace flashladder::gpu
