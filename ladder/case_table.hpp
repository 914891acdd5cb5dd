// The one table of cases that every rung is proved on and that benchmarks draw from: what is timed has been checked.
#pragma once

#include <cstdint>
#include <vector>

#include "ladder/cases/case_spec.hpp"

namespace flashladder::ladder {

// The named cases: edges of lengths, pages, groups, dims, dtypes, masks and logits features; extreme and equal logits.
// Each is small enough for the double oracle.
std::vector<CaseSpec> case_table();

// The same for latent attention (op mla), which mla_rungs() compute.
std::vector<CaseSpec> mla_case_table();
CaseSpec random_mla_spec(std::uint64_t seed);
std::vector<CaseSpec> all_cases();  // of both tables

// A random case: anything that the ladder claims to take, in any combination. The same seed is the same case.
CaseSpec random_spec(std::uint64_t seed);

}  // namespace flashladder::ladder
