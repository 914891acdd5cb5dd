#include "gpu/prefill/compact_pages.hpp"

#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "core/page_table.hpp"
#include "core/visibility.hpp"

namespace flashladder::gpu {

std::size_t compaction_list_bytes(const CompactedShape& shape) {
  return (static_cast<std::size_t>(shape.requests) + 1) * sizeof(CompactedRequest);
}

std::size_t compacted_bytes(const CompactedShape& shape, const AttentionParams& p, DType dtype) {
  const auto dims = static_cast<std::size_t>(p.head_dim_qk) + static_cast<std::size_t>(p.head_dim_vo);
  return static_cast<std::size_t>(shape.tokens) * static_cast<std::size_t>(p.num_kv_heads) * dims * size_of(dtype);
}

void pack_compaction(const Plan& plan, const AttentionParams& params, const PageRows& pages, const CompactedShape& capacity,
                     std::span<std::byte> out) {
  constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();
  require(capacity.tokens <= int32_max, "tokens", capacity.tokens, "of a copy of K and V are more than 2^31 - 1");
  require(plan.batch <= capacity.requests, "batch", plan.batch, "has more requests than the list of what is copied");
  require(out.size() >= compaction_list_bytes(capacity), "compaction list bytes", out.size(),
          "are fewer than compaction_list_bytes(capacity)");
  const std::span requests(reinterpret_cast<CompactedRequest*>(out.data()), static_cast<std::size_t>(capacity.requests) + 1);
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
}

}  // namespace flashladder::gpu
