// Compaction: keys and values of a batch, copied out of their pages into rows that lie one after the other, request after
// request. For P11, where pages are no multiple of 8 tokens: the copy is a ragged cache, of which it takes boxes from any
// row on (boxes.hpp).
//
//   pages of 3 tokens    page 7  a0 a1 a2    page 2  a3 a4  .    page 5  b0  .  .
//   rows of the copy     a0 a1 a2 a3 a4 b0   [tokens, num_kv_heads, head_dim] of K, then of V
//
// Every token of the batch has its row, so that a token's row follows from the lengths alone. What is copied are the tokens
// that some query sees: with a window the first ones are left out, and nobody looks at their rows.
//
// Of a cache of 8-bit elements P5 and P11 take the same copy in q's 16-bit dtype, whatever the pages are: numbers of 8 bits
// are numbers of 16 bits, scales stay where they are. RoPE inside attention takes it too, with K rotated on the way and a copy of q
// beside it: rotated_copy.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/plan.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"

namespace flashladder::gpu {

// Of a request the tokens from `begin` on are copied, as the batch's first_copy-th and following.
struct alignas(16) CompactedRequest {
  std::int32_t first_copy = 0, begin = 0;
  std::int32_t first_row = 0;   // of token 0 in the copy
  std::int32_t first_page = 0;  // in the table's list of pages
};
// With RoPE also: of q the rows from first_query on are the request's, and the first of them stands at `position`.
struct alignas(8) RotatedQueries {
  std::int32_t first_query = 0, position = 0;
};

// A batch, or the most of any batch that a graph is captured for.
struct CompactedShape {
  std::int32_t requests = 0;
  std::int64_t tokens = 0;  // of all requests, at most 2^31 - 1: rows of the copy
  std::optional<std::int64_t> queries{};  // of all requests, which are rotated; none: no RoPE
  bool values = true;  // false: V stays where it is, since in a ragged cache it lies in just these rows

  std::int64_t records() const { return std::int64_t{requests} + 1; }
};
std::size_t compaction_list_bytes(const CompactedShape& shape);  // a multiple of 16

// Where K [tokens, num_kv_heads, head_dim_qk], V and q begin in the memory of the copy, in bytes. dtype: of q.
struct CopyLayout {
  std::size_t k = 0, v = 0, q = 0, end = 0;
};
CopyLayout copy_layout(const CompactedShape& shape, const AttentionParams& params, DType dtype);
inline std::size_t compacted_bytes(const CompactedShape& shape, const AttentionParams& params, DType dtype) {
  return copy_layout(shape, params, dtype).end;
}

// Which tokens go where: a CompactedRequest for each request, one more that ends them, and copies of that up to the
// capacity; behind them with RoPE as many RotatedQueries. The plan's own pages must be packed as PageRows{.page_size = 1},
// since it runs on the copy. InputError if the batch is larger than capacity.
void pack_compaction(const Plan& plan, const AttentionParams& params, const PageRows& pages, const CompactedShape& capacity,
                     std::span<std::byte> out);

// Memory on the device, aligned to 16 bytes.
struct Compaction {
  CompactedShape capacity;
  const std::byte* list = nullptr;  // what pack_compaction wrote
  std::byte* copy = nullptr;        // compacted_bytes()
  std::int32_t num_sms = 1;         // to be used
};

namespace p11 {
// Enqueues the copying. Returns the call that P11 is to compute behind it: the same on the copy, and allowed to start while
// the last rows are being copied, since P11 waits before it reads anything. InputError as from require_16_bytes.
AttentionCall compact_pages(const AttentionCall& call, const Compaction& to, cudaStream_t stream);
}
using CompactPages = AttentionCall (*)(const AttentionCall&, const Compaction&, cudaStream_t);

}  // namespace flashladder::gpu
