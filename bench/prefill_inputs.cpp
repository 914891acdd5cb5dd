#include "bench/prefill_inputs.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/half.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::bench {

double value_of(DType dtype, std::uint16_t bits) {
  if (dtype == DType::bf16) return std::bit_cast<float>(std::uint32_t{bits} << 16);
  Half half;
  half.bits = bits;
  return static_cast<float>(half);
}

std::vector<std::uint16_t> draw_elements(DType dtype, std::int64_t count, std::uint64_t seed) {
  ladder::Random random(seed);
  std::vector<std::uint16_t> elements(static_cast<std::size_t>(std::min(count, drawn_elements)));
  for (std::uint16_t& x : elements) {
    const auto drawn = static_cast<float>(random.normal());
    x = dtype == DType::f16 ? Half(drawn).bits : BFloat16(drawn).bits;
  }
  return elements;
}

std::vector<float> draw_sinks(std::int32_t heads) {
  ladder::Random random(sinks_seed);
  std::vector<float> sinks(static_cast<std::size_t>(heads));
  for (float& x : sinks) x = static_cast<float>(random.normal());
  return sinks;
}

std::vector<std::int32_t> shuffled_pages(std::int32_t pages) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(pages));
  for (std::int32_t i = 0; i < pages; ++i) ids[static_cast<std::size_t>(i)] = i;
  ladder::Random random(7);
  for (auto i = static_cast<std::uint32_t>(pages); i > 1; --i) std::swap(ids[i - 1], ids[random.below(i)]);
  return ids;
}

SampledRow sampled_row(const ladder::CaseSpec& spec, std::int32_t n) {
  ladder::Random random(11, static_cast<std::uint64_t>(n));
  const auto below = [&](std::int32_t most) {
    return static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(most)));
  };
  const std::int32_t b = below(spec.batch()), queries = spec.qo_lens[static_cast<std::size_t>(b)];
  const std::int32_t query = n % 8 == 0 ? 0 : n % 8 == 1 ? queries - 1 : below(queries);
  return {b, query, below(spec.params.num_qo_heads)};
}

}  // namespace flashladder::bench
