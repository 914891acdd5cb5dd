// append_paged_kv_cache: new keys and values go to the slots that the page table gives them. Must equal
// reference/append.cpp.
// grid   blocks of tokens      block  token x slot x lane, see TokenShape      no shared memory
// A token's heads, K's and then V's, are dealt to slots of lanes; a lane copies a piece of 16 bytes of each of its heads.
// Finding the page is a chain of three loads: batch index and position, indptr, page id. The rows that are copied do not
// depend on it: they are asked for first, many at once, and are there when the address is.
#include "gpu/append/append.hpp"

#include <algorithm>

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "gpu/append/append_params.hpp"
#include "gpu/append/page_table_arguments.hpp"
#include "gpu/arguments.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {
namespace {

constexpr int threads = 256;

// launch_bounds: 48 registers. 65536 tokens of 8 heads take 137.8 us, in 40 registers 144.8. No cache policy: with
// evict-first loads, which rows that are read once seem to ask for, 144.0.
template <class Piece, int heads_at_once>
__global__ void __launch_bounds__(threads, 5)
kernel(const __grid_constant__ AppendParams p, const __grid_constant__ TokenShape shape) {
  const std::int32_t in_block = threadIdx.x / shape.threads_of_token();
  const std::int32_t rest = threadIdx.x - in_block * shape.threads_of_token();
  const std::int32_t slot = rest / shape.lanes, lane = rest - slot * shape.lanes;
  const std::int32_t token = static_cast<std::int32_t>(blockIdx.x) * shape.tokens_in_block + in_block;
  const std::int32_t heads = 2 * p.k.num_heads;  // of K, then of V
  griddepcontrol_wait();  // rows and index arrays may be in the making, and the pages in use, in front of us
  griddepcontrol_launch_dependents();
  if (token >= p.nnz) return;
  const std::int32_t request = p.batch_indices[token], position = p.positions[token];
  for (std::int32_t first = slot; first < heads; first += shape.slots * heads_at_once) {
    for (std::int32_t at = lane; at < max(p.k.dim, p.v.dim); at += shape.lanes) {
      Piece pieces[heads_at_once];
#pragma unroll
      for (int i = 0; i < heads_at_once; ++i) {
        const std::int32_t h = first + i * shape.slots;
        const bool is_v = h >= p.k.num_heads;
        const HeadRows& rows = is_v ? p.v : p.k;
        const std::int32_t head = is_v ? h - p.k.num_heads : h;
        if (h < heads && at < rows.dim) {
          pieces[i] = static_cast<const Piece*>(rows.data)[token * rows.token + head * rows.head + at];
        }
      }
      if (request < 0) return;  // a row of padding: what was loaded is nothing, nor is its position
      const KvSlot to = p.table.locate(request, position);
      const std::int64_t to_k = p.k_strides.offset(to, 0), to_v = p.v_strides.offset(to, 0);
#pragma unroll
      for (int i = 0; i < heads_at_once; ++i) {
        const std::int32_t h = first + i * shape.slots;
        const bool is_v = h >= p.k.num_heads;
        const std::int32_t head = is_v ? h - p.k.num_heads : h;
        const std::int64_t offset = is_v ? to_v + head * p.v_strides.head : to_k + head * p.k_strides.head;
        if (h < heads && at < (is_v ? p.v.dim : p.k.dim)) {
          static_cast<Piece*>(is_v ? p.v_pool : p.k_pool)[offset + at] = pieces[i];
        }
      }
    }
  }
}

bool divides(std::int64_t bytes, const HeadRows& rows, const KvStrides& pool, std::int64_t element) {
  const std::int64_t all[] = {rows.token, rows.head, rows.dim, pool.page, pool.entry, pool.head};
  return std::all_of(std::begin(all), std::end(all), [&](std::int64_t n) { return n * element % bytes == 0; });
}

HeadRows in_pieces(HeadRows rows, std::int64_t elements) {
  return {rows.data, rows.token / elements, rows.head / elements, rows.num_heads,
          static_cast<std::int32_t>(rows.dim / elements)};
}
KvStrides in_pieces(KvStrides s, std::int64_t elements) {
  return {s.page / elements, s.entry / elements, s.head / elements};
}

template <class Piece>
void launch_append(AppendParams p, std::int64_t element_bytes, cudaStream_t stream, bool enable_pdl) {
  const std::int64_t elements = static_cast<std::int64_t>(sizeof(Piece)) / element_bytes;
  p.k = in_pieces(p.k, elements);
  p.v = in_pieces(p.v, elements);
  p.k_strides = in_pieces(p.k_strides, elements);
  p.v_strides = in_pieces(p.v_strides, elements);
  const std::int32_t lanes = std::min(std::max(p.k.dim, p.v.dim), 64);
  const std::int32_t heads = 2 * p.k.num_heads;
  // Few tokens: the time is a chain of loads and one store, and a thread for each piece makes it shortest (6.0 us against
  // 6.4 for 64 tokens of 8 heads).
  const bool few = std::int64_t{p.nnz} * heads * lanes <= std::int64_t{multiprocessors()} * 1024;
  const TokenShape shape = token_shape(heads, lanes, few ? 1 : 4, threads);
  launch(few ? kernel<Piece, 1> : kernel<Piece, 4>,
         {.grid = shape.blocks(p.nnz), .block = shape.threads(), .programmatic = enable_pdl}, stream, p, shape);
}

}  // namespace

void append_paged_kv_cache(const Tensor& append_key, const Tensor& append_value, std::span<const std::int32_t> batch_indices,
                           std::span<const std::int32_t> positions, const PagedKvCache& paged_kv_cache,
                           const PagedKvTable& table, cudaStream_t stream, bool enable_pdl) {
  const PagedKvCache& cache = paged_kv_cache;
  check_append(append_key, append_value, batch_indices, positions, cache);
  require_int32_shape("append_key", append_key);
  check_table(table);
  const AppendParams p{.k = head_rows(append_key), .v = head_rows(append_value), .k_pool = cache.k, .v_pool = cache.v,
                       .k_strides = cache.k_strides, .v_strides = cache.v_strides,
                       .table = page_table(table, cache.page_size),
                       .batch_indices = batch_indices.data(), .positions = positions.data(),
                       .nnz = static_cast<std::int32_t>(batch_indices.size())};
  const auto element = static_cast<std::int64_t>(size_of(cache.dtype));
  const bool aligned = divides(16, p.k, p.k_strides, element) && divides(16, p.v, p.v_strides, element) &&
                       is_aligned(p.k.data) && is_aligned(p.v.data) && is_aligned(p.k_pool) && is_aligned(p.v_pool);
  if (aligned) return launch_append<uint4>(p, element, stream, enable_pdl);
  if (element == 2) return launch_append<std::uint16_t>(p, element, stream, enable_pdl);
  launch_append<std::uint32_t>(p, element, stream, enable_pdl);
}

}  // namespace flashladder::gpu
