// The ladder's proof on one case, for the suites that give it cases.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "ladder/agree.hpp"

namespace flashladder::test {

// Every CPU rung against the rung below and the oracle: the worst verdict of all rungs, of which none may fail.
inline ladder::Verdict check_ladder(const ladder::Case& c, const ladder::Settings& settings) {
  using namespace ladder;
  Oracles oracles(c);
  std::map<std::string, RunResult> results;
  Verdict worst = Verdict::ok;
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::cpu) continue;
    REQUIRE(rung.supports(c.spec));
    const RunResult& result = results[rung.name] = run_rung(rung, c, settings);
    const auto below = results.find(rung.must_equal);
    const Comparison comparison = agree(c, result, below == results.end() ? nullptr : &below->second, oracles.of(rung));
    CHECK_MESSAGE(comparison.verdict() != Verdict::fail, rung.name, ": ", comparison.message());
    worst = std::max(worst, comparison.verdict());
  }
  return worst;
}

}  // namespace flashladder::test
