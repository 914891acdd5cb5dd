// Compaction before P11 (compact_pages.hpp): a copy, bound by the memory's rate.
// grid   as many blocks as are resident at once, for K and for V      block  256 threads      no shared memory
// A token's row, all its KV heads, is copied by a warp, or by fewer lanes where it is short, 16 bytes a lane and up to four
// such pieces under way. Finding it takes three loads, one after the other (the list of requests, which is searched, page
// id, row); the other warps of the SM copy meanwhile. Of a cache of 8-bit elements each piece becomes two of q's 16-bit ones.
#include <algorithm>
#include <bit>

#include "core/divisor.hpp"
#include "gpu/element.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/compact_pages.hpp"
#include "gpu/prefill/copied_request.cuh"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu::p11 {
namespace {

constexpr int threads = 256, blocks_of_sm = 6, warp = 32;

// K or V. Strides and sizes count pieces of 16 bytes, as they are stored in the cache.
struct Rows {
  const uint4* from = nullptr;
  uint4* to = nullptr;         // [tokens, pieces * Written::pieces]
  KvStrides strides;           // of from
  Divisor of_head;             // pieces of a head
  std::int32_t pieces = 0;     // of a token, all heads
  std::uint32_t lanes = warp;  // that share a token: a power of two
};

struct Params {
  Rows k, v;
  PageList pages;
  const CompactedRequest* requests = nullptr;  // [num_requests + 1]
  std::int32_t num_requests = 0;
};

// What becomes of a piece: itself,
struct AsItIs {
  static constexpr int pieces = 1;
  static __device__ void write(uint4* to, uint4 piece) { *to = piece; }
};
// or its 16 E4M3 elements as 16-bit ones, which is exact in both formats.
template <class Element>
struct Widened {
  static constexpr int pieces = 2;
  static __device__ void write(uint4* to, uint4 piece) {
    const uint2 x = four(piece.x), y = four(piece.y), z = four(piece.z), w = four(piece.w);
    to[0] = {x.x, x.y, y.x, y.y};
    to[1] = {z.x, z.y, w.x, w.y};
  }
  static __device__ uint2 four(std::uint32_t bytes) {
    const uint2 as_f16 = e4m3_to_f16(bytes);
    if constexpr (std::is_same_v<Element, Half>) return as_f16;
    const float2 lower = to_floats<Half>(as_f16.x), upper = to_floats<Half>(as_f16.y);
    return {pack<Element>(lower.x, lower.y), pack<Element>(upper.x, upper.y)};
  }
};

template <class Written>
__device__ void copy_row(const Rows& rows, const uint4* from, uint4* to, std::int32_t lane) {
  constexpr int at_once = 4 / Written::pieces;  // as many as registers hold of what is written
  const auto lanes = static_cast<std::int32_t>(rows.lanes);
  for (std::int32_t first = lane; first < rows.pieces; first += at_once * lanes) {
    uint4 pieces[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const std::int32_t at = first + i * lanes, head = rows.of_head.quotient(at);
      if (at < rows.pieces) pieces[i] = from[head * rows.strides.head + (at - head * rows.of_head.number)];
    }
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const std::int32_t at = first + i * lanes;
      if (at < rows.pieces) Written::write(to + at * Written::pieces, pieces[i]);
    }
  }
}

template <class Written>
__global__ void __launch_bounds__(threads, blocks_of_sm) prefill_compact_pages_kernel(const __grid_constant__ Params p) {
  const Rows& rows = blockIdx.y == 0 ? p.k : p.v;
  const std::uint32_t thread = blockIdx.x * threads + threadIdx.x, step = gridDim.x * threads / rows.lanes;
  griddepcontrol_wait();  // the kernel before may still write pages and page ids, and one before it read the copy
  griddepcontrol_launch_dependents();
  const auto copies = static_cast<std::uint32_t>(p.requests[p.num_requests].first_copy);
  for (std::uint32_t at = thread / rows.lanes; at < copies; at += step) {
    const auto copy = static_cast<std::int32_t>(at);
    const CompactedRequest request = request_of(p.requests, p.num_requests, copy);
    const std::int32_t token = request.begin + copy - request.first_copy;
    const uint4* from = rows.from + rows.strides.offset(p.pages.locate_from(request.first_page, token), 0);
    uint4* to = rows.to + std::int64_t{request.first_row + token} * (rows.pieces * Written::pieces);
    copy_row<Written>(rows, from, to, static_cast<std::int32_t>(thread % rows.lanes));
  }
}

Rows rows_of(const void* from, std::byte* to, const KvStrides& strides, std::int32_t heads, std::int32_t head_dim,
             std::int32_t element) {
  const std::int32_t elements = 16 / element, of_head = head_dim / elements, pieces = heads * of_head;
  return {.from = static_cast<const uint4*>(from), .to = reinterpret_cast<uint4*>(to),
          .strides = {strides.page / elements, strides.entry / elements, strides.head / elements},
          .of_head = Divisor(of_head), .pieces = pieces,
          .lanes = std::min(std::bit_ceil(static_cast<std::uint32_t>(pieces)), std::uint32_t{warp})};
}

template <class Written>
void launch_copy(const AttentionCall& call, const Compaction& to, const Params& params, cudaStream_t stream) {
  const LaunchShape shape{.grid = to.capacity.tokens == 0 ? 0 : std::int64_t{to.num_sms} * (blocks_of_sm / 2), .grid_y = 2,
                          .block = threads, .programmatic = call.programmatic};
  launch(prefill_compact_pages_kernel<Written>, shape, stream, params);
}

}  // namespace

AttentionCall compact_pages(const AttentionCall& call, const Compaction& to, cudaStream_t stream) {
  require_16_bytes(call);
  const AttentionParams& p = call.params;
  const auto element = static_cast<std::int32_t>(size_of(call.kv_dtype));
  const std::int64_t k_row = std::int64_t{p.num_kv_heads} * p.head_dim_qk;
  const std::int64_t v_row = std::int64_t{p.num_kv_heads} * p.head_dim_vo;
  const CopyLayout at = copy_layout(to.capacity, p, call.dtype);
  std::byte* const k = to.copy + at.k;
  std::byte* const v = to.copy + at.v;
  const Params params{.k = rows_of(call.kv.k, k, call.kv.k_strides, p.num_kv_heads, p.head_dim_qk, element),
                      .v = rows_of(call.kv.v, v, call.kv.v_strides, p.num_kv_heads, p.head_dim_vo, element),
                      .pages = call.kv.pages, .requests = reinterpret_cast<const CompactedRequest*>(to.list),
                      .num_requests = to.capacity.requests};
  const bool widens = call.kv_dtype == DType::f8_e4m3;
  require(widens || call.kv_dtype == call.dtype, "kv dtype", name_of(call.kv_dtype),
          "is not widened into a copy: f8_e4m3 is");
  require(!widens || call.dtype != DType::f32, "dtype", name_of(call.dtype), "is none that a copy is widened to: f16 and bf16");
  if (!widens) launch_copy<AsItIs>(call, to, params, stream);
  else if (call.dtype == DType::f16) launch_copy<Widened<Half>>(call, to, params, stream);
  else launch_copy<Widened<BFloat16>>(call, to, params, stream);
  AttentionCall compacted = call;
  compacted.kv_dtype = call.dtype;
  compacted.kv = {k, v, {k_row, 0, p.head_dim_qk}, {v_row, 0, p.head_dim_vo},
                  {nullptr, 1, static_cast<std::int32_t>(to.capacity.tokens)}};
  compacted.programmatic = true;
  return compacted;
}

}  // namespace flashladder::gpu::p11
