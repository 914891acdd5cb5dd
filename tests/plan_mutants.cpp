// Each mistake of the GPU's planners is noticed: the comparisons of tests/gpu_plan_decode.cpp and tests/gpu_plan_prefill.cpp
// can fail.
#include "tests/plan_mutants.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace flashladder;
using namespace flashladder::test;

TEST_CASE("every mutant of the GPU's planner makes another plan than the host") {
  constexpr std::uint64_t batches = 300;
  for (const PlanMutant& mutant : plan_mutants()) {
    INFO("mutant ", std::string(mutant.name), ": ", std::string(mutant.mistake));
    std::uint64_t seed = 0;
    while (seed < batches && difference(random_lengths(seed), mutant.run) == "") ++seed;
    CHECK((seed < batches) == (&mutant != plan_mutants().data()));
  }
}

TEST_CASE("every mutant of the GPU's planner of a prefill makes another plan than the host") {
  constexpr std::uint64_t batches = 300;
  for (const PrefillMutant& mutant : prefill_mutants()) {
    INFO("mutant ", std::string(mutant.name), ": ", std::string(mutant.mistake));
    const auto differs = [&](std::uint64_t seed) {
      const PlannedPrefill batch = random_prefill(seed);
      return difference(batch, batch, mutant.run) != "";
    };
    std::uint64_t seed = 0;
    while (seed < batches && !differs(seed)) ++seed;
    CHECK((seed < batches) == (&mutant != prefill_mutants().data()));
  }
}
