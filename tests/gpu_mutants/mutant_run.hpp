// A mutant on one of its cases, and what the comparison says of it.
#pragma once

#include <string>

#include "gpu/check.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/gpu_run.hpp"
#include "tests/gpu_mutants/mutant_rungs.hpp"
#include "tests/uneven_heads.hpp"

namespace flashladder::test {

struct MutantCase {
  ladder::Case c;
  ladder::Oracles oracles;
  ladder::DeviceCase on_device;
  MutantCase(const ladder::CaseSpec& spec, Cases kind)
      : c(kind == Cases::narrow ? uneven_heads(spec) : ladder::draw_case(spec)), oracles(c), on_device(c, spec.op) {}
};

// Twice, so that what only the second run meets (a counter left behind) shows too.
inline ladder::RunResult second_run(const MutantRung& m, const MutantCase& on, const ladder::Settings& settings) {
  ladder::GpuRun run(m.rung, on.c, on.on_device, settings);
  for (int i = 0; i < 2; ++i) {
    run.poison();
    run.enqueue(nullptr);
    gpu::check(cudaStreamSynchronize(nullptr));
  }
  return run.result();
}

inline std::string run_name(const MutantCase& on, const ladder::Settings& settings) {
  return on.c.spec.name + ", policy " + name_of(settings.policy);
}

// "" where the comparison accepts what it computes, or why not.
inline std::string rejection(const MutantRung& m, MutantCase& on, const ladder::Settings& settings) {
  const ladder::Oracle& oracle = on.oracles.of(m.rung);
  const ladder::Comparison comparison = agree(on.c, second_run(m, on, settings), nullptr, oracle);
  return comparison.ok() ? "" : comparison.message();
}

}  // namespace flashladder::test
