// What the chapters have in common beside their frame: small problems with numbers for a pencil, the proof of a rung, and
// vectors as text.
#pragma once

#include <cstdint>
#include <string>

#include "ladder/cases/case.hpp"
#include "reference/c2_split_merge.hpp"
#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

// draw_case(spec), with q, K and V rounded to quarters: dot products of few features are exact. spec.dtype must be f32.
ladder::Case toy_case(const ladder::CaseSpec& spec);

// One query on ten keys, head_dim 4, one head, no mask: what chapters 02 and 03 take apart.
struct ToyRow {
  explicit ToyRow(std::uint64_t seed);
  reference::c2::Partial attend(Range keys) const;  // C1 on these keys alone, finished: what C2 merges

  ladder::Case c;
  reference::QueryTile tile;        // its one row
  reference::Matrix<float> k, v;    // [10, 4]
  Eigen::RowVectorXf x;             // [10]  its logits, log2 units
  double o_rounding, lse_rounding;  // how far a float result may be off: the floor of ladder/oracle.hpp
};

// One head of request 0 as C0 sees it: its inputs, the scores q.k, and the logits (log2 units, -inf where the query does not
// see the key).
struct Head {
  Head(const AttentionProblem& problem, std::int32_t qo_head);

  reference::Matrix<double> q, k, v;         // [qo_len, head_dim_qk], [kv_len, head_dim_qk], [kv_len, head_dim_vo]
  reference::Matrix<double> scores, logits;  // [qo_len, kv_len]
};

// Runs the rung and the one that it must equal on the case and compares o and lse_log2 as the tests do: with each other, and
// with the oracle in double. `on` names the case in the sentence: "on this batch".
void prove_rung(Narrator& narrator, const std::string& rung, const ladder::Case& c, const std::string& on);

// The numbers side by side, each printed with `format` ("%6.2f"); minus infinity, infinity and nan as such.
template <class Numbers>
std::string row_text(const Numbers& numbers, const char* format);

std::string number_text(double value, const char* format);  // one of them, padded to the width that `format` gives to 0

template <class Numbers>
std::string row_text(const Numbers& numbers, const char* format) {
  std::string out;
  for (const auto x : numbers) out += (out.empty() ? "" : " ") + number_text(static_cast<double>(x), format);
  return out;
}

}  // namespace flashladder::walkthroughs
