// The broken GPU kernels on a simulated GPU: each must be noticed in some case, in one of the orders in which threads, copies
// and products may come, and there the unbroken control must not be. Noticed is a wrong result, and whatever ends a kernel: it
// hangs, does what the simulator refuses or writes where the process dies of it, or does not end. So each run is in a process
// of its own. Those that on a GPU are left to compute-sanitizer's racecheck are among them: here they compute wrong results.
#include <doctest/doctest.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

#include "tests/gpu_mutants/mutant_run.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using test::Cases, test::MutantCase, test::MutantRung, test::Notice;

namespace {

constexpr const char* orders[] = {"early", "late", "late:1"};
constexpr int most_seconds = 20;         // of processor time that a run may take
constexpr int most_seconds_alive = 300;  // by the clock, of a child: one that waits takes no processor time

// How long a case takes, more or less: the products of its rows with keys.
double work_of(const ladder::CaseSpec& spec) {
  double work = 0;
  for (std::size_t i = 0; i < spec.kv_lens.size(); ++i) work += (1.0 + spec.qo_lens[i]) * (1.0 + spec.kv_lens[i]);
  return work * spec.params.num_qo_heads;
}

// The n-th case of a kind, from small to large; nullptr behind the last. Drawn once, for all mutants and all their children.
MutantCase* case_of(Cases kind, std::size_t n) {
  static std::map<Cases, std::vector<ladder::CaseSpec>> specs;
  static std::map<Cases, std::deque<MutantCase>> drawn;
  std::vector<ladder::CaseSpec>& all = specs[kind];
  if (all.empty()) {
    all = test::specs_for(kind);
    std::ranges::stable_sort(all, {}, work_of);
  }
  std::deque<MutantCase>& there = drawn[kind];
  while (there.size() <= n && there.size() < all.size()) there.emplace_back(all[there.size()], kind);
  return n < there.size() ? &there[n] : nullptr;
}

void say(const std::string& text) {
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) _exit(1);
}

[[noreturn]] void be_child(const MutantRung& m, MutantCase& on, const char* order, int answer) {
  dup2(answer, STDOUT_FILENO), dup2(answer, STDERR_FILENO);
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) std::signal(signal, SIG_DFL);  // not doctest's
  setenv("FLASHLADDER_SIMULATED_ORDER", order, 1);
  alarm(most_seconds_alive);
  for (const ladder::Settings& settings : test::small_plans) {
    const itimerval limit{.it_interval = {}, .it_value = {most_seconds, 0}};
    setitimer(ITIMER_PROF, &limit, nullptr);
    std::string rejected;
    try {
      rejected = rejection(m, on, settings);
    } catch (const std::exception& e) {
      rejected = e.what();
    }
    if (rejected.empty()) continue;
    say(run_name(on, settings) + ": " + rejected);
    _exit(1);
  }
  _exit(0);
}

std::string all_of(int answer) {
  std::string text;
  char part[4096];
  for (ssize_t n = 0; (n = read(answer, part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(n));
  std::ranges::replace(text, '\n', ' ');
  return text;
}

// "" where nothing is noticed, or how it is.
std::string noticed(const MutantRung& m, MutantCase& on, const char* order) {
  on.oracles.of(m.rung);  // made once, and not by each child
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  std::fflush(stdout);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) be_child(m, on, order, ends[1]);
  close(ends[1]);
  std::string said = all_of(ends[0]);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status == 0) return "";
  if (WIFSIGNALED(status)) said = on.c.spec.name + ": " + said + " ended by: " + strsignal(WTERMSIG(status));
  return std::string(order) + ", " + said;
}

struct Found {
  MutantCase* on = nullptr;
  const char* order = nullptr;
  std::string how;  // "": nowhere
};

Found noticed_in(const MutantRung& m, const char* order, std::size_t from, std::size_t to) {
  for (std::size_t n = from; n < to; ++n) {
    MutantCase* const on = case_of(m.cases, n);
    if (on == nullptr) break;
    if (std::string how = noticed(m, *on, order); !how.empty()) return {on, order, std::move(how)};
  }
  return {};
}

// In the small cases in every order, then in the others.
Found noticed_anywhere(const MutantRung& m) {
  const auto small = static_cast<std::size_t>(test::options().cases_or(40));
  for (const char* order : orders) {
    if (Found found = noticed_in(m, order, 0, small); !found.how.empty()) return found;
  }
  return noticed_in(m, orders[0], small, SIZE_MAX);
}

void check_mutants(Cases from, Cases to) {
  const MutantRung* control = nullptr;
  int mutants = 0;
  for (const MutantRung& m : test::mutant_rungs()) {
    if (m.cases < from || m.cases > to) continue;
    if (m.noticed_by == Notice::nobody) {
      control = &m;
      continue;
    }
    ++mutants;
    const Found found = noticed_anywhere(m);
    CHECK_MESSAGE(!found.how.empty(), "nothing notices " << m.name << ": " << m.mistake);
    if (found.how.empty()) continue;
    std::printf("%s (%s): %s\n", m.name.c_str(), m.mistake.c_str(), found.how.c_str());
    REQUIRE(control != nullptr);
    const std::string alarm = noticed(*control, *found.on, found.order);
    CHECK_MESSAGE(alarm.empty(), control->name << ": " << alarm);
  }
  CHECK(mutants > 0);
}

}  // namespace

TEST_CASE("mutants of decode are noticed on a simulated GPU") { check_mutants(Cases::plain, Cases::few_queries); }
TEST_CASE("mutants of prefill are noticed on a simulated GPU") { check_mutants(Cases::prefill, Cases::masked_prefill); }
TEST_CASE("mutants of latent attention are noticed on a simulated GPU") {
  check_mutants(Cases::latent, Cases::narrow_latent);
}
