// Which named cases notice that a rung is broken: what the tests of mutants have in common.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"

namespace flashladder::test {

struct CheckedCase {
  ladder::Case c;
  ladder::Oracle oracle;
};

inline std::vector<CheckedCase> with_oracles(std::span<const ladder::CaseSpec> table) {
  std::vector<CheckedCase> list;
  for (const ladder::CaseSpec& spec : table) {
    ladder::Case c = ladder::draw_case(spec);
    ladder::Oracle oracle = ladder::make_oracle(c);
    list.push_back({std::move(c), std::move(oracle)});
  }
  return list;
}

// The names of the cases that reject it, and why, up to `enough`.
inline std::vector<std::string> rejecting_cases(const ladder::Rung& broken, const std::vector<CheckedCase>& cases,
                                                std::size_t enough) {
  std::vector<std::string> names;
  for (const CheckedCase& checked : cases) {
    const ladder::Comparison comparison = agree(checked.c, run_rung(broken, checked.c), nullptr, checked.oracle);
    if (!comparison.ok()) names.push_back(checked.c.spec.name + ": " + comparison.message());
    if (names.size() == enough) break;
  }
  return names;
}

}  // namespace flashladder::test
