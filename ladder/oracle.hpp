// What a case should give, in double, and how far off a rung may be: the tolerance is derived from the case, not picked.
//
// The yardstick is the error that the *naive* formula makes on the same case in the rung's own precision, against double.
// A rung may make twice that. Where naive happens to be lucky (one key: P is exactly 1) a floor takes over:
//   lse_log2   k u (1 + L)        o   2 k u (1 + L) max|v|        k = 4 + 4/3 sqrt(head_dim_qk)
// u is float's unit roundoff and L bounds every |logit| (log2 units) by Cauchy-Schwarz: sm_scale * max|q| * max|k| * log2 e,
// plus what ALiBi adds. k counts roundings of a logit, each at most u L: the scale, log2 e, the subtraction of m and exp2
// are four; a dot product of n terms added in one chain errs like a random walk of n steps, whose standard deviation is
// sqrt(n) / 3 when all terms have one sign (as logits near 1e5 do), and four deviations are allowed. (Higham and Mary, SIAM
// J. Sci. Comput. 41(5), 2019: rounding errors grow with sqrt(n) in practice.) o is a quotient of two such sums: twice that.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

struct Tolerance {
  double o = 0, lse_log2 = 0;
};

struct Oracle {
  std::vector<double> o;         // [nnz_qo, num_qo_heads, head_dim_vo]
  std::vector<double> lse_log2;  // [nnz_qo, num_qo_heads]
  Tolerance tolerance;
};

// Which heads to compute where all of them would take too long; the others stay NaN, and have no say in the tolerance.
using HeadFilter = std::function<bool(std::int32_t request, std::int32_t qo_head)>;

// p_dtype: what the rung rounds P to before P V. Without a filter: all heads.
Oracle make_oracle(const Case& c, DType p_dtype = DType::f32, const HeadFilter& wanted = {});

}  // namespace flashladder::ladder
