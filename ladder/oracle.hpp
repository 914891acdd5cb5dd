// What a case should give, in double, and how far off each row of a rung may be (tolerance.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ladder/cases/case.hpp"
#include "ladder/compare.hpp"
#include "ladder/tolerance.hpp"

namespace flashladder::ladder {

struct Oracle {
  std::vector<double> o;                // [nnz_qo, num_qo_heads, head_dim_vo]
  std::vector<double> lse_log2;         // [nnz_qo, num_qo_heads]
  std::vector<RowTolerance> tolerance;  // [nnz_qo, num_qo_heads]
};

// Which heads to compute where all of them would take too long. The others stay NaN; their rows have a tolerance all the
// same, three times the floor, so that they can be compared with something else.
using HeadFilter = std::function<bool(std::int32_t request, std::int32_t qo_head)>;

// rounding: of the rung whose tolerances these are. Without a filter: all heads. Uses all cores where the case is large.
Oracle make_oracle(const Case& c, Rounding rounding = {}, const HeadFilter& wanted = {});

inline Comparison compare(const Case& c, std::span<const float> got_o, std::span<const float> got_lse,
                          const Oracle& oracle) {
  return compare(c, got_o, got_lse, oracle.o, oracle.lse_log2, oracle.tolerance);
}

}  // namespace flashladder::ladder
