#include "api/page_use.hpp"

#include <algorithm>

namespace flashladder::api {
namespace {

// On an H200; only their ratios matter. FLOP/s: docs/measurements/h200-prefill.md, B2 S8192 causal. A copy's bytes a second,
// those that it reads and those that it writes: an estimate.
constexpr double p11_flops = 639e12, p5_flops = 307e12, copy_bytes = 3.5e12;
constexpr double element_bytes = 2;  // of f16 and bf16; P11 takes no others

// The sum of x = first, first + 1 ... last, of those that are positive.
double sum_up(double first, double last) {
  const double from = std::max(first, 0.0);
  return last <= 0 ? 0 : (last - from + 1) * (from + last) / 2;
}

// core/visibility.hpp for all queries of a request, in numbers that need not be whole.
SeenKeys of_request(const AttentionParams& p, double qo_len, double kv_len) {
  if (qo_len <= 0 || kv_len <= 0) return {};
  SeenKeys seen{kv_len, qo_len * kv_len};
  if (p.mask == MaskMode::causal) seen.pairs = sum_up(kv_len - qo_len + 1, kv_len);
  if (p.window_left >= 0) {
    seen.keys = std::min(kv_len, qo_len + p.window_left);
    seen.pairs -= sum_up(kv_len - qo_len - p.window_left, kv_len - 1 - p.window_left);
  }
  return seen;
}

}  // namespace

std::string why_in_place(PageUse use) {
  switch (use) {
    case PageUse::in_place:
    case PageUse::copied: break;
    case PageUse::by_batch: return "plan() decides for each batch whether to copy K and V together first, for fa3";
    case PageUse::too_few_queries: return "the queries are too few for copying K and V together first to pay";
    case PageUse::too_many_tokens: return "2^31 tokens or more can't be copied together first";
    case PageUse::invariant_bits:
      return "with policies fixed and none K and V are not copied together first, or a request's bits would depend on its "
             "neighbours: ask for backend fa3";
    case PageUse::too_little_memory:
      return "workspace.device has no room for K and V copied together: workspace_bytes().device has";
  }
  return "";
}

SeenKeys seen_keys(const AttentionParams& params, std::span<const std::int32_t> qo_lens,
                   std::span<const std::int32_t> kv_lens) {
  SeenKeys all;
  for (std::size_t b = 0; b < kv_lens.size(); ++b) {
    const SeenKeys seen = of_request(params, qo_lens[b], kv_lens[b]);
    all.keys += seen.keys, all.pairs += seen.pairs;
  }
  return all;
}

SeenKeys seen_keys(const AttentionParams& params, const AttentionLimits& limits, std::int32_t page_size) {
  const double requests = limits.max_batch, most_queries = requests * static_cast<double>(most_qo_len(limits));
  if (requests == 0) return {};
  const double queries = std::min(static_cast<double>(limits.max_nnz_qo.value_or(0)), most_queries);
  const SeenKeys one = of_request(params, queries / requests, static_cast<double>(limits.max_pages) * page_size / requests);
  return {requests * one.keys, requests * one.pairs};
}

bool worth_copying(const AttentionParams& p, const SeenKeys& seen) {
  const double dims = p.head_dim_qk + p.head_dim_vo;
  const double copying = 2 * seen.keys * p.num_kv_heads * dims * element_bytes / copy_bytes;
  const double gained = 2 * seen.pairs * p.num_qo_heads * dims * (1 / p5_flops - 1 / p11_flops);
  return gained > copying;
}

bool may_be_worth_copying(const AttentionParams& params, std::int64_t most_qo_len) {
  return worth_copying(params, {1, static_cast<double>(most_qo_len)});  // no key is seen by more
}

}  // namespace flashladder::api
