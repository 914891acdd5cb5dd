// The mutants of mutants.py as rungs, and the cases that each of them takes: for the tests that run them in their own
// process, and for the library that offers them as plug-ins.
#pragma once

#include <string>
#include <vector>

#include "ladder/cases/case_spec.hpp"
#include "ladder/rung.hpp"
#include "tests/gpu_mutants/gpu_mutants.hpp"

namespace flashladder::test {

// What a mutant's one instance computes.
enum class Cases {
  plain, general, rotated, narrow,  // of decode
  few_queries,  // of a request, decode
  prefill, plain_prefill, general_prefill, prefill_in_boxes, prefill_on_a_copy, rotated_prefill, masked_prefill,
  latent, narrow_latent
};

struct MutantRung {
  std::string name, mistake;
  Notice noticed_by;
  Cases cases;
  ladder::Rung rung;
};
const std::vector<MutantRung>& mutant_rungs();

// The case as near to what it was as a mutant's one instance takes it; and whether it takes a case as it is.
ladder::CaseSpec for_one_instance(ladder::CaseSpec spec, Cases cases);
bool fits_one_instance(const ladder::CaseSpec& spec, Cases cases);

// One made for the plan-driven kernels, 24 random ones and the case table's.
std::vector<ladder::CaseSpec> specs_for(Cases cases);

// For a GPU so small that a CTA's queue has several items.
inline const ladder::Settings small_plans[] = {
    {.policy = planner::SplitPolicy::balanced, .num_sms = 2},
    {.policy = planner::SplitPolicy::fixed, .chunk_size = 64, .num_sms = 3}};

// They are compiled for one architecture only, unlike the kernels: "", or why they can't run here. Initialises CUDA.
std::string why_no_mutants();

}  // namespace flashladder::test
