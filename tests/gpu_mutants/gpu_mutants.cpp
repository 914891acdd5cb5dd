// The proof that the GPU's proof can fail: each broken kernel must be rejected by agree() on some decode case, the unbroken
// control by none. A run is done twice, so that what only the second one meets (a counter left behind) shows too.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>

#include "tests/gpu_mutants/mutant_run.hpp"
#include "tests/listener.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using test::Cases, test::MutantCase, test::MutantRung, test::Notice;

namespace {

struct SkipOnOtherGpus : test::Listener {
  using Listener::Listener;
  void test_run_start() override {
    const std::string reason = test::why_no_mutants();
    if (reason.empty()) return;
    std::puts(reason.c_str());
    std::exit(77);
  }
};
REGISTER_LISTENER("skip on other GPUs", 2, SkipOnOtherGpus);

// The mutants that must be noticed so and that this GPU runs: not all have the shared memory that L4 takes.
std::vector<const MutantRung*> mutants_for(Notice notice) {
  std::vector<const MutantRung*> list;
  for (const MutantRung& m : test::mutant_rungs()) {
    if (m.noticed_by != notice) continue;
    if (m.cases < Cases::latent || m.rung.supports(test::specs_for(m.cases).front())) list.push_back(&m);
  }
  return list;
}

// All, or the first --cases of them.
std::deque<MutantCase>& cases_of(Cases kind) {
  static std::map<Cases, std::deque<MutantCase>> lists;
  std::deque<MutantCase>& list = lists[kind];
  if (!list.empty()) return list;
  std::vector<CaseSpec> specs = test::specs_for(kind);
  if (test::options().cases > 0) specs.resize(std::min(specs.size(), static_cast<std::size_t>(test::options().cases)));
  for (const CaseSpec& spec : specs) list.emplace_back(spec, kind);
  return list;
}

// The cases that reject it, up to `enough`.
std::vector<std::string> rejecting_cases(const MutantRung& m, std::size_t enough) {
  std::vector<std::string> names;
  for (MutantCase& on : cases_of(m.cases)) {
    for (const Settings& settings : test::small_plans) {
      const std::string rejected = test::rejection(m, on, settings);
      if (rejected.empty()) continue;
      names.push_back(test::run_name(on, settings) + ": " + rejected);
      if (names.size() == enough) return names;
    }
  }
  return names;
}

}  // namespace

TEST_CASE("the controls without a mistake pass every case") {
  for (const MutantRung* mutant : mutants_for(Notice::nobody)) {
    const MutantRung& m = *mutant;
    for (const std::string& rejected : rejecting_cases(m, 3)) FAIL_CHECK(m.name, ": ", rejected);
  }
}

TEST_CASE("agree rejects every mutant") {
  for (const MutantRung* mutant : mutants_for(Notice::agree)) {
    const MutantRung& m = *mutant;
    const auto rejected = rejecting_cases(m, 1);
    CHECK_MESSAGE(!rejected.empty(), "no case notices ", m.name, ": ", m.mistake);
    if (!rejected.empty()) MESSAGE(m.name, " (", m.mistake, "): ", rejected.front());
  }
}

// What they compute is no matter: tools/sanitize_gpu.py runs this case under racecheck, and wants each name reported.
TEST_CASE("mutants without a barrier run for racecheck") {
  for (const MutantRung* mutant : mutants_for(Notice::racecheck)) {
    const MutantRung& m = *mutant;
    const MutantCase on(test::specs_for(m.cases).front(), m.cases);  // cut often
    std::printf("racecheck must report mutant_%s\n", m.name.c_str());
    std::fflush(stdout);
    for (const Settings& settings : test::small_plans) test::second_run(m, on, settings);
  }
}
