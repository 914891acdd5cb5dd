// Each mistake of the GPU's planner is noticed: the comparison that tests/gpu_plan_decode.cpp makes can fail.
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
