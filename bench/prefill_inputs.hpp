// What a prefill that is timed computes with: numbers, page ids, and the rows that are compared with double, all from seeds.
// bench/peers/prefill_error.py makes the same, so that other programs' errors are those on the same data.
#pragma once

#include <cstdint>
#include <vector>

#include "ladder/cases/case_spec.hpp"

namespace flashladder::bench {

inline constexpr std::uint64_t q_seed = 1, k_seed = 2, v_seed = 3, sinks_seed = 4;
inline constexpr std::int64_t drawn_elements = std::int64_t{3} << 20;  // from here on a tensor repeats itself

// The bits of min(count, drawn_elements) numbers of a tensor, f16 or bf16, nearly N(0, 1).
std::vector<std::uint16_t> draw_elements(DType dtype, std::int64_t count, std::uint64_t seed);
double value_of(DType dtype, std::uint16_t bits);
std::vector<float> draw_sinks(std::int32_t heads);

// The physical page of every page in the order of requests and tokens: all of a pool, shuffled.
std::vector<std::int32_t> shuffled_pages(std::int32_t pages);

// Rows and heads that are compared: the first and the last query of a request more often than others.
inline constexpr std::int32_t compared_rows = 160;
struct SampledRow {
  std::int32_t request, query, head;
};
SampledRow sampled_row(const ladder::CaseSpec& spec, std::int32_t n);

}  // namespace flashladder::bench
