#include "bench/sampled_check.hpp"

#include <algorithm>
#include <cmath>

namespace flashladder::bench {
namespace {

// Multiply-adds for all heads of one (twice: double and float), and elements gathered (three times), which cost as much.
double operations_of(const ladder::CaseSpec& spec) {
  const double dims = spec.params.head_dim_qk + spec.params.head_dim_vo;
  return (2.0 * static_cast<double>(spec.mask_bytes()) + 3.0 * static_cast<double>(spec.total_kv())) * dims *
         spec.params.num_qo_heads;
}

}  // namespace

std::string SampledOracle::text() const {
  return heads == all ? "all heads" : std::to_string(heads) + " of " + std::to_string(all) + " heads";
}

SampledOracle sampled_oracle(const ladder::Case& c, ladder::Rounding rounding, double operations) {
  const std::int64_t heads = c.spec.params.num_qo_heads, all = heads * c.spec.batch();
  const double share = std::min(1.0, operations / std::max(1.0, operations_of(c.spec)));
  const std::int64_t wanted = std::clamp<std::int64_t>(std::llround(share * static_cast<double>(all)), 1, all);
  // Of `all` pairs in a row, those at which k * wanted / all reaches the next whole number. Rotating each request's heads by
  // one keeps a stride of heads from choosing the same head every time.
  const ladder::HeadFilter in_sample = [=](std::int32_t request, std::int32_t head) {
    const std::int64_t k = request * heads + (head + request) % heads;
    return (k + 1) * wanted / all > k * wanted / all;
  };
  return {ladder::make_oracle(c, rounding, in_sample), in_sample, wanted, all};
}

ladder::Comparison agree(const ladder::Case& c, const ladder::RunResult& rung, const ladder::RunResult* below,
                         const SampledOracle& sample) {
  ladder::Oracle filled = sample.oracle;  // outside of the sample the rung is compared with itself, where only a NaN fails
  const std::int64_t heads = c.spec.params.num_qo_heads, dim = c.spec.params.head_dim_vo;
  for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
    for (std::int32_t h = 0; h < heads; ++h) {
      if (sample.in_sample(b, h)) continue;
      for (std::int64_t i = c.qo_indptr[b]; i < c.qo_indptr[b + 1]; ++i) {
        const std::int64_t row = i * heads + h;
        filled.lse_log2[row] = rung.lse_log2[row];
        std::copy_n(rung.o.begin() + row * dim, dim, filled.o.begin() + row * dim);
      }
    }
  }
  return ladder::agree(c, rung, below, filled);
}

}  // namespace flashladder::bench
