#include "gpu/attention/mask_bits.hpp"

#include <algorithm>
#include <limits>

#include "core/error.hpp"

namespace flashladder::gpu {

std::size_t mask_list_bytes(const MaskShape& shape) {
  return static_cast<std::size_t>(shape.records()) * sizeof(MaskedRequest);
}

std::size_t mask_words_bytes(const MaskShape& shape) {
  return static_cast<std::size_t>((shape.words + words_behind + 3) / 4 * 4) * sizeof(std::uint32_t);
}

void pack_mask_list(const Plan& plan, const MaskShape& capacity, std::span<std::byte> out) {
  require(plan.batch <= capacity.requests, "batch", plan.batch, "has more requests than the list of masked requests");
  require(out.size() >= mask_list_bytes(capacity), "mask list bytes", out.size(), "are fewer than mask_list_bytes(capacity)");
  const std::span requests(reinterpret_cast<MaskedRequest*>(out.data()), static_cast<std::size_t>(capacity.records()));
  MaskedRequest at;
  std::int64_t query = 0;
  std::int32_t most_kv_len = 0;
  for (std::int32_t b = 0; b < plan.batch; ++b) {
    const std::int32_t qo_len = plan.qo_lens[b], kv_len = plan.kv_lens[b];
    at.kv_len = kv_len;
    requests[b] = at;
    const std::int64_t pairs = std::int64_t{qo_len} * kv_len;
    at.byte += pairs;
    at.packed_byte += (pairs + 7) / 8;
    query += qo_len;
    most_kv_len = std::max(most_kv_len, kv_len);
    require(query <= std::numeric_limits<std::int32_t>::max(), "queries", query, "are more than 2^31 - 1");
    at.first_query = static_cast<std::int32_t>(query);
  }
  require(at.word() <= capacity.words, "mask words", at.word(), "are more than the workspace has room for");
  at.kv_len = most_kv_len;
  std::fill(requests.begin() + plan.batch, requests.end(), at);
}

}  // namespace flashladder::gpu
