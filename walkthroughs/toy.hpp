// What the chapters have in common beside their frame: small problems with numbers for a pencil, the proof of a rung, and
// vectors as text. What needs Eigen is in toy_row.hpp, which takes long to compile.
#pragma once

#include <cstdint>
#include <string>

#include "ladder/cases/case.hpp"
#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

// draw_case(spec), with q, K and V rounded to quarters: dot products of few features are exact. spec.dtype must be f32.
ladder::Case toy_case(const ladder::CaseSpec& spec);

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
