#include "gpu/prefill/compact_pages.hpp"

#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "core/page_table.hpp"
#include "core/visibility.hpp"

namespace flashladder::gpu {

std::size_t compaction_list_bytes(const CompactedShape& shape) {
  const std::size_t record = sizeof(CompactedRequest) + (shape.queries ? sizeof(RotatedQueries) : 0);
  return (static_cast<std::size_t>(shape.records()) * record + 15) / 16 * 16;
}

CopyLayout copy_layout(const CompactedShape& shape, const AttentionParams& p, DType dtype) {
  const auto bytes = [&](std::int64_t rows, std::int32_t heads, std::int32_t head_dim) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(heads) * static_cast<std::size_t>(head_dim) *
           size_of(dtype);
  };
  CopyLayout at;
  at.v = at.k + bytes(shape.tokens, p.num_kv_heads, p.head_dim_qk);
  at.q = at.v + bytes(shape.values ? shape.tokens : 0, p.num_kv_heads, p.head_dim_vo);
  at.end = at.q + bytes(shape.queries.value_or(0), p.num_qo_heads, p.head_dim_qk);
  return at;
}

namespace {

void pack_queries(const Plan& plan, const CompactedShape& capacity, std::span<RotatedQueries> out) {
  std::int64_t query = 0;
  for (std::int32_t b = 0; b < plan.batch; ++b) {
    require(query + plan.qo_lens[b] <= *capacity.queries, "queries", query + plan.qo_lens[b],
            "are more than the copy has rows");
    out[b] = {static_cast<std::int32_t>(query), plan.kv_lens[b] - plan.qo_lens[b]};
    query += plan.qo_lens[b];
  }
  std::fill(out.begin() + plan.batch, out.end(), RotatedQueries{static_cast<std::int32_t>(query), 0});
}

}  // namespace

void pack_compaction(const Plan& plan, const AttentionParams& params, const PageRows& pages, const CompactedShape& capacity,
                     std::span<std::byte> out) {
  constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();
  require(capacity.tokens <= int32_max, "tokens", capacity.tokens, "of a copy of K and V are more than 2^31 - 1");
  require(plan.batch <= capacity.requests, "batch", plan.batch, "has more requests than the list of what is copied");
  require(out.size() >= compaction_list_bytes(capacity), "compaction list bytes", out.size(),
          "are fewer than compaction_list_bytes(capacity)");
  const auto records = static_cast<std::size_t>(capacity.records());
  const std::span requests(reinterpret_cast<CompactedRequest*>(out.data()), records);
  std::int64_t copy = 0, row = 0, page = 0;
  for (std::int32_t b = 0; b < plan.batch; ++b) {
    const std::int32_t qo_len = plan.qo_lens[b], kv_len = plan.kv_lens[b];
    const Range seen = visible_keys(params, qo_len, kv_len, Range{0, qo_len});
    if (pages.row > 0) page = std::int64_t{b} * pages.row;
    require(row + kv_len <= capacity.tokens, "tokens", row + kv_len, "are more than the copy has rows");
    requests[b] = {.first_copy = static_cast<std::int32_t>(copy), .begin = seen.begin,
                   .first_row = static_cast<std::int32_t>(row), .first_page = static_cast<std::int32_t>(page)};
    copy += seen.size();
    row += kv_len;
    page += pages_for(kv_len, pages.page_size);
  }
  std::fill(requests.begin() + plan.batch, requests.end(),
            CompactedRequest{.first_copy = static_cast<std::int32_t>(copy)});
  if (!capacity.queries) return;
  pack_queries(plan, capacity, {reinterpret_cast<RotatedQueries*>(out.data() + requests.size_bytes()), records});
}

}  // namespace flashladder::gpu
