// How far off a rung may be, row by row: derived from the row's own data, so that no other row can loosen it, and never more
// than what a wrong answer would differ by. Where it would be more, nothing can be proved, and the comparison says so:
// *undecided* (compare.hpp).
//
// Two things bound the error of a row, and both are allowed:
//   twice the error that the *naive* formula makes on the row in the rung's own precision and chains, against double, and
//   a floor for where naive was lucky (one key: P is exactly 1):
//     lse_log2   e + 4 u C        o   e S + k u max|v|        e = k u (1 + L) + 3 u E        k = 4 + 4/3 sqrt(head_dim_qk)
// u is float's unit roundoff, max|v| is taken over the values that the row sees, and L bounds its logits (log2 units) by
// Cauchy-Schwarz: N = sm_scale * |q| * max|k| over those keys, L = N log2 e.
//   k counts roundings of a logit, each at most u L: the scale, log2 e, the subtraction of m and exp2 are four; a dot
// product of n terms added in one chain errs like a random walk of n steps, whose standard deviation is sqrt(n) / 3 when all
// terms have one sign (as logits near 1e5 do), and four deviations are allowed. (Higham and Mary, SIAM J. Sci. Comput.
// 41(5), 2019: rounding errors grow with sqrt(n) in practice.) E: the lse of n keys may exceed L, by log2 n at most, and is
// then rounded at its own size: when a partial is written, when it is merged, and at the end.
//   S: when weights p_j are off by at most e, relatively, o is off by at most e * sum p_j |v_j - o|, which is no more than e
// times the standard deviation of the values under the weights, S^2 = sum p_j v_j^2 - o^2. (Where e is not small, logits off
// by e change weights by 2^e at either end: 4^e - 2^e in its place.) Sum and division round o itself.
//   K and V in fp8 are no error: what is stored, times its scale, is the case, and double computes from that. Both 16-bit
// dtypes and float hold every number of fp8, so converting it rounds nothing. A scale of K is one rounding more of a logit
// (sm_scale and it are multiplied in float), a scale of V one more of o: k is then 5 + 4/3 sqrt(head_dim_qk). N has K's scale
// as a factor, max|v|, S and the spread V's. P is rounded to the dtype of q, whose unit roundoff is the w of below.
//   ALiBi adds y = slope * (distance to the last visible key) to a logit's size, but with scores of at most A = min(N, soft
// cap) a key so far away weighs at most e^(2 A - y), and y e^(2 A - y) never exceeds max(2 A, 1) where that is below 1: so
// L = log2 e * (N + min(y, 2 A + 1)) with the largest y.
//   C is what the final writer adds: the row's constant (three roundings and the sum), and the sink.
//   A rung that rounds P to 16 bits, unit roundoff w, sums independent roundings of p v: standard deviation at most
// w / sqrt(3) * sqrt(sum p^2 v^2), and again four of them are allowed where naive was luckier. Tensor cores, for which it
// does so, cut their sums off instead of rounding them: its floor is twice as high.
//   Where RoPE rotates q and K inside attention, such a rung rounds these too, and naive with it. A logit is then off by
// sm_scale * sum_c q_c k_jc (a_c + b_jc), with independent a and b of standard deviation at most w / sqrt(3). Let R^2 =
// sum_j p_j sum_c q_c^2 k_jc^2. Under the row's weights the a together make of lse (natural units) a deviation of at most
// w / sqrt(3) sm_scale R, because (sum_j p_j k_jc)^2 <= sum_j p_j k_jc^2, and so do the b, because p_j^2 <= p_j. Of o they
// make at most S times that: in sum_j p_j (v_j - o) k_jc by Cauchy-Schwarz, in sum_j p_j^2 (v_j - o)^2 sum_c q_c^2 k_jc^2
// because p_j sum_c q_c^2 k_jc^2 <= R^2. So with r = 4 sqrt(2/3) w sm_scale R, where naive was luckier, log2 e r is allowed of
// lse_log2, and of o r S (where r is not small e^2r - e^r in r's place) beside what rounding P makes: independent too, so
// their squares are added.
//   Chains: added in float behind a sum of 1, a weight below u is lost, and each larger one loses up to u, all to one side
// if they are alike: no random walk. n additions lose at most n u times the sum of the terms' sizes. Few rows come near to
// that, so not all are allowed it: the oracle adds the row's own weights and p v in float, in chains as long as the rung's,
// each chain's sum to those before, and where that errs more than naive did it is what is doubled. The heaviest key begins
// the first chain, those behind it follow, then those before it: wherever a rung's chains begin, they lose no more behind
// their heaviest key. What d and o lose counts apart, for a rung need not add both in the same order.
// For a row whose answer nobody computed (outside of a sample of the heads, sampled_check.hpp) S is at most half of the
// spread of its values, E at most log2 n, and the floor stands in for the naive error too.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/attention_problem.hpp"

namespace flashladder::reference {
struct RowId;  // gather.hpp, which includes Eigen: what compares need not
}

namespace flashladder::ladder {

// What a rung's arithmetic rounds, that decides how far off it may be.
inline constexpr std::int32_t whole_row = std::numeric_limits<std::int32_t>::max();
struct Rounding {
  DType p;             // P, before P V; and q and K that RoPE has rotated, before Q K^T
  std::int32_t chain;  // the most keys whose weights, and p v, it adds in float one after the other; 0: as naive adds them
  constexpr Rounding(DType p_dtype = DType::f32, std::int32_t longest_chain = 0) : p(p_dtype), chain(longest_chain) {}
  auto operator<=>(const Rounding&) const = default;
};

// Of one row of o and lse_log2. NaN, as long as nobody knows better, decides nothing.
struct RowTolerance {
  double o = std::numeric_limits<double>::quiet_NaN(), lse_log2 = o;
  // What a wrong answer differs by. o: the spread of the values that the row sees, since any weights give something in
  // between, or max|v| if they are all alike; and all zeros must not pass, unless o is 0 to a sixty-fourth of that.
  // lse_log2: 1, a factor of 2 in all weights, or |lse_log2|.
  double o_reach = 0, lse_reach = 0;

  bool decides_o() const { return o < o_reach || o == 0; }
  bool decides_lse() const { return lse_log2 < lse_reach || lse_log2 == 0; }
};

// What the rows of one (request, KV head) see, the same for all query heads of the group.
struct Seen {
  double key_norm = 0, value_max = 0;  // max |k| as stored, max |v| times its scale; NaN if the row sees what is not finite
  double spread = 0;                   // the largest max v - min v of a feature
  std::int32_t keys = 0;               // from the first key that it sees to the last; 0: it sees none
};
std::vector<Seen> seen_by_rows(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head,
                               std::int64_t mask_offset);  // [qo_len]

// What is known of the right answer of one row.
struct KnownRow {
  double deviation, lse_log2;  // S; NaN where lse is not known
};

// N: a bound of the row's scores, sm_scale * |q| * max|k|.
double score_bound(const AttentionProblem& problem, std::int32_t request, reference::RowId row, const Seen& seen);

// The floors of one row, and what a wrong answer differs by as far as that is known without the right one.
RowTolerance floor_of_row(const AttentionProblem& problem, std::int32_t request, reference::RowId row, const Seen& seen,
                          KnownRow known, std::int64_t mask_offset);

}  // namespace flashladder::ladder
