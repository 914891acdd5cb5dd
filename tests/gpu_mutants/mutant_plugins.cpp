// The broken GPU kernels as plug-ins: each is rejected by verify, and is named by nobody's name but its own. They fail in
// ways that belong to their kernels (a stage of a pipeline, a swizzle), so that most of them have no name among the known
// mistakes: then "not recognised" is the right answer. --cases N: the first N mutants of each kernel.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "ladder/plugin/examine.hpp"
#include "ladder/plugin/load.hpp"
#include "tests/gpu_mutants/mutant_rungs.hpp"
#include "tests/listener.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

// CUDA is asked in a child: who has touched it can't have children that use it.
struct SkipOnOtherGpus : test::Listener {
  using Listener::Listener;
  void test_run_start() override {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      const std::string reason = test::why_no_mutants();
      if (!reason.empty()) std::puts(reason.c_str());
      std::fflush(stdout);
      _exit(reason.empty() ? 0 : 77);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) std::exit(77);
  }
};
REGISTER_LISTENER("skip on other GPUs", 2, SkipOnOtherGpus);

// Those whose mistake is a known one. Of the others every name is a wrong one.
const std::map<std::string, std::vector<Fault>>& right_names() {
  static const std::map<std::string, std::vector<Fault>> names{
      {"d5_no_rescale", {Fault::no_rescale}}, {"p5_no_rescale", {Fault::no_rescale}},
      {"p6_no_rescale", {Fault::no_rescale}}, {"p11_no_rescale", {Fault::no_rescale}},
      {"p11_sum_kept", {Fault::d_not_rescaled}}, {"d5_lost_page", {Fault::lost_last_page}},
      {"d5_tail_read", {Fault::full_last_page}}, {"p5_tail_read", {Fault::full_last_page}},
      {"p7_tail_read", {Fault::full_last_page}}, {"p11_tail_read", {Fault::full_last_page}},
      {"d5_row_too_far", {Fault::one_row_too_far}}, {"d6_merge_weight", {Fault::merge_plain_mean}},
      {"d6_constant_lost", {Fault::alibi_constant_lost}}, {"p1_query_not_rotated", {Fault::rope_from_zero}},
      {"d6_query_not_rotated", {Fault::rope_from_zero}},
      {"p1_causal_off_by_one", {Fault::diagonal_lost}}, {"p11_window_off_by_one", {Fault::window_off_by_one}},
      {"p10_reference_from_zero", {Fault::max_from_1e_30}}, {"rotated_q_from_zero", {Fault::rope_from_zero}}};
  return names;
}

Examination examined(const test::MutantRung& m, const std::vector<CaseSpec>& specs) {
  setenv("FLASHLADDER_TEST_PLUGIN", m.name.c_str(), 1);
  // A process of its own for every run, each of which begins with starting CUDA: few of them.
  const ExamineOptions options{.child = {.seconds = 20}, .shrink = {.runs = 12, .seconds = 20}, .most_hangs = 1};
  return examine(FLASHLADDER_GPU_MUTANT_PLUGIN, specs, std::nullopt, options);
}

// The mutant's cases that a plug-in can be told: none of fp8.
std::vector<CaseSpec> told_cases(const test::MutantRung& m) {
  std::vector<CaseSpec> specs = test::specs_for(m.cases);
  std::erase_if(specs, [](const CaseSpec& spec) { return !takes_plugin(spec); });
  return specs;
}

// The first case that it fails, with the three behind it, which it fails or not.
Examination rejected(const test::MutantRung& m) {
  const std::vector<CaseSpec> specs = told_cases(m);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (examined(m, {specs[i]}).failures.empty()) continue;
    return examined(m, {specs.begin() + static_cast<std::ptrdiff_t>(i),
                        specs.begin() + static_cast<std::ptrdiff_t>(std::min(i + 4, specs.size()))});
  }
  return examined(m, {});
}

std::string names_of(const std::vector<Fault>& faults) {
  std::string text;
  for (const Fault f : faults) text += (text.empty() ? "" : ", ") + std::string(info(f).name);
  return text.empty() ? "not recognised" : text;
}

void check_named(const char* kernel) {
  int recognised = 0, wrong = 0, all = 0;
  const std::string prefix = std::string(kernel) + "_";
  for (const test::MutantRung& m : test::mutant_rungs()) {
    if (!m.name.starts_with(prefix) || told_cases(m).empty()) continue;
    if (m.noticed_by == test::Notice::nobody) {
      CHECK_MESSAGE(examined(m, {told_cases(m).front()}).ok(), m.name);
    }
    if (m.noticed_by != test::Notice::agree || (test::options().cases > 0 && all == test::options().cases)) continue;
    ++all;
    const Examination found = rejected(m);
    CHECK_MESSAGE(!found.failures.empty(), "no case notices " << m.name);
    if (found.smallest.empty()) continue;
    const SmallestFailure& f = found.smallest.front();
    const auto known = right_names().find(m.name);
    const std::vector<Fault> right = known == right_names().end() ? std::vector<Fault>() : known->second;
    const bool named = !f.looks_like.empty(), is_right = std::ranges::any_of(f.looks_like, [&](Fault fault) {
      return std::ranges::find(right, fault) != right.end();
    });
    recognised += named && is_right, wrong += named && !is_right;
    std::printf("| `%s` | %s | %s%s |\n", m.name.c_str(), f.kind.c_str(), names_of(f.looks_like).c_str(),
                named && !is_right ? " (wrong)" : "");
    std::fflush(stdout);
  }
  std::printf("%s: %d mutants rejected, %d named rightly, %d wrongly\n", kernel, all, recognised, wrong);
  CHECK(wrong == 0);
  CHECK(all > 0);
}

}  // namespace

TEST_CASE("D5's mutants as plug-ins are rejected and none gets a wrong name") { check_named("d5"); }
TEST_CASE("D6's mutants as plug-ins are rejected and none gets a wrong name") { check_named("d6"); }
TEST_CASE("P1's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p1"); }
TEST_CASE("P4's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p4"); }
TEST_CASE("P5's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p5"); }
#ifdef FLASHLADDER_HOPPER
TEST_CASE("D7's mutants as plug-ins are rejected and none gets a wrong name") { check_named("d7"); }
TEST_CASE("P6's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p6"); }
TEST_CASE("P7's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p7"); }
TEST_CASE("P8's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p8"); }
TEST_CASE("P9's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p9"); }
TEST_CASE("P10's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p10"); }
TEST_CASE("P11's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p11"); }
TEST_CASE("P12's mutants as plug-ins are rejected and none gets a wrong name") { check_named("p12"); }
TEST_CASE("compaction's mutants as plug-ins are rejected and none gets a wrong name") { check_named("compact"); }
TEST_CASE("the rotated copy's mutants as plug-ins are rejected and none gets a wrong name") { check_named("rotated"); }
#endif
