// Deliberately broken decode kernels, to prove that the GPU's proof can fail: mutants.py lists them, generate.py writes
// them.
#pragma once

#include <span>

#include "gpu/decode/decode.hpp"

namespace flashladder::test {

// Who must notice: nobody (the control), the comparison, or compute-sanitizer's racecheck: such a race may well stay
// without consequence in a run.
enum class Notice { nobody, agree, racecheck };

template <class Attend>
struct GpuMutant {
  const char* name;
  const char* mistake;
  Notice noticed_by;
  Attend* attend;
};

using D5Attend = decltype(gpu::d5::attend);
std::span<const GpuMutant<D5Attend>> d5_mutants();
using D6Attend = decltype(gpu::d6::attend);
std::span<const GpuMutant<D6Attend>> d6_mutants();

}  // namespace flashladder::test
