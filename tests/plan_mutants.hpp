// Broken copies of the GPU's planners, run on the host (plan_mutants.py).
#pragma once

#include <span>

#include "gpu/attention/sections.hpp"
#include "tests/device_plans.hpp"
#include "tests/prefill_plans.hpp"
#include "tests/serial_block.hpp"

namespace flashladder::test {

struct PlanMutant {
  const char* name;
  const char* mistake;
  void (*run)(SerialBlock&, const gpu::DecodePlanParams&, std::byte* const& shared, std::byte* const& scratch);
};
struct PrefillMutant {
  const char* name;
  const char* mistake;
  void (*run)(SerialBlock&, const gpu::PrefillPlanParams&, std::byte* const& shared, std::byte* const& scratch);
};
std::span<const PlanMutant> plan_mutants();  // the first is without a mistake
std::span<const PrefillMutant> prefill_mutants();

}  // namespace flashladder::test
