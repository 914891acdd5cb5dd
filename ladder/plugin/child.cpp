// Parent and child share one block of memory: a report, and behind it room for o and lse_log2. The child writes down what it
// is about to call, so that the parent knows where it died.
#include "ladder/plugin/child.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <new>
#include <optional>
#include <system_error>
#include <thread>

#include "api/placement.hpp"
#include "core/error.hpp"
#include "ladder/plugin/leaks.hpp"
#include "ladder/plugin/load.hpp"
#include "ladder/plugin/python_plugin.hpp"
#include "ladder/plugin/run_twice.hpp"

namespace flashladder::ladder {
namespace {

struct Report {
  bool done;         // everything below is valid, or the child died
  bool no_plugin;    // message: the rule that the file breaks
  bool has_result;
  Ending ending;
  char called[32];   // the plug-in's function that runs now; "" between them
  char last[32];     // the one that was called last
  char message[1500];
  char name[64], idea[256];
  Device device;
  bool p_as_kv;
  std::int32_t longest_chain;
  double milliseconds;
};

template <std::size_t n>
void put(char (&field)[n], const std::string& text) {
  std::snprintf(field, n, "%s", text.c_str());
}

class Shared {
 public:
  explicit Shared(std::size_t floats) : size_(sizeof(Report) + floats * sizeof(float)) {
    void* map = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    report_ = new (map) Report{};
  }
  ~Shared() { munmap(report_, size_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  Report& report() { return *report_; }
  float* numbers() { return reinterpret_cast<float*>(report_ + 1); }

 private:
  std::size_t size_;
  Report* report_;
};

void become_child() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);  // so that what the plug-in starts ends with it
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGSEGV, SIGABRT}) std::signal(signal, SIG_DFL);
  dup2(STDERR_FILENO, STDOUT_FILENO);  // what a plug-in prints never mixes with our JSON
}

// Runs `body` in a child; returns its wait status, or -1 if it had to be killed.
int in_child(double seconds, const std::function<void()>& body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    become_child();
    body();
    std::fflush(stdout);
    _exit(0);
  }
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  auto pause = std::chrono::microseconds(100);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (Clock::now() > end) {
      kill(-child, SIGKILL);
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(5000));
  }
  kill(-child, SIGKILL);  // what it left running
  return status;
}

OnCall writes_down(Report& report) {
  return [&report](const char* function) {
    put(report.called, function);
    if (*function != '\0') put(report.last, function);
  };
}

// What the plug-in does, with what it throws.
void guarded(Report& report, const std::function<void()>& body) {
  try {
    body();
  } catch (const InputError& e) {
    report.no_plugin = e.argument == "--plugin";
    report.ending = Ending::failed;
    put(report.message, report.no_plugin ? e.rule : e.what());
  } catch (const Misbehaved& e) {
    report.ending = e.ending;
    put(report.message, e.what());
  } catch (const std::exception& e) {
    report.ending = Ending::failed;
    put(report.message, e.what());
  }
  report.done = true;
}

std::string where(const Report& report) {
  if (report.called[0] != '\0') return std::string(" in ") + report.called + "()";
  return report.last[0] != '\0' ? std::string(" after ") + report.last + "() had returned" : " while it was being loaded";
}

// The ending as the parent sees it.
void conclude(int status, double seconds, const Report& report, ChildRun& run) {
  char limit[32];
  std::snprintf(limit, sizeof limit, "%g s", seconds);
  if (status == -1) {
    run.ending = Ending::hung;
    run.message = std::string("took longer than ") + limit + where(report);
  } else if (WIFSIGNALED(status)) {
    run.ending = Ending::crashed;
    run.message = std::string(strsignal(WTERMSIG(status))) + where(report);
  } else if (!report.done) {
    run.ending = Ending::exited;
    run.message = "ended the process with exit code " + std::to_string(WEXITSTATUS(status)) + where(report);
  } else {
    run.ending = report.ending;
    run.message = report.message;
  }
}

struct Outcome {
  Ending ending = Ending::finished;
  std::string message = {};
  std::optional<RunResult> result = {};
};

// body is called in the child with the loaded plug-in, if that supports the case.
ChildRun in_child_with_plugin(const std::string& path, const Case& c, const ChildOptions& options,
                              const std::function<Outcome(const Rung&)>& body) {
  const std::size_t rows = static_cast<std::size_t>(c.q.shape[0]) * c.spec.params.num_qo_heads;
  const std::size_t o_size = rows * c.spec.params.head_dim_vo;
  Shared shared(o_size + rows);
  Report& report = shared.report();
  const int status = in_child(options.seconds, [&] {
    guarded(report, [&] {
      const Rung rung = load_plugin(path, writes_down(report));
      Support support = rung.supports(c.spec);
      if (support && rung.device == Device::gpu) support.reason = api::why_no_gpu();
      const Outcome outcome = support ? body(rung) : Outcome{Ending::refused, support.reason, {}};
      report.ending = outcome.ending;
      put(report.message, outcome.message);
      if (!outcome.result) return;
      std::copy(outcome.result->o.begin(), outcome.result->o.end(), shared.numbers());
      std::copy(outcome.result->lse_log2.begin(), outcome.result->lse_log2.end(), shared.numbers() + o_size);
      report.milliseconds = outcome.result->milliseconds;
      report.has_result = true;
    });
  });
  ChildRun run;
  conclude(status, options.seconds, report, run);
  run.has_result = report.has_result;
  if (run.has_result) {
    run.result.o.assign(shared.numbers(), shared.numbers() + o_size);
    run.result.lse_log2.assign(shared.numbers() + o_size, shared.numbers() + o_size + rows);
    run.result.milliseconds = report.milliseconds;
    run.result.guards_intact = run.ending != Ending::wrote_outside;
  }
  return run;
}

Outcome outcome_of(TwoRuns&& runs) {
  if (!runs.cuda_error.empty()) return {Ending::left_error, runs.cuda_error, {}};
  Outcome outcome{.ending = Ending::finished, .message = {}, .result = std::move(runs.first)};
  if (!runs.written_outside.empty()) {
    outcome.ending = Ending::wrote_outside, outcome.message = "wrote outside of " + runs.written_outside;
  } else if (!runs.modified.empty()) {
    outcome.ending = Ending::modified_input;
    outcome.message = "changed " + runs.modified + ", which is only to be read";
  } else if (!runs.same_bits) {
    outcome.ending = Ending::unsteady;
  }
  return outcome;
}

}  // namespace

const char* name_of(Ending ending) {
  constexpr const char* names[] = {"finished", "refused", "returned an error", "crashed", "ended the process", "hung",
                                   "wrote out of bounds", "modified an input", "gave other bits in a second run",
                                   "left a CUDA error behind", "leaked memory"};
  return names[static_cast<int>(ending)];
}

Introduction introduce(const std::string& path, const ChildOptions& options) {
  Shared shared(0);
  Report& report = shared.report();
  const int status = in_child(options.seconds, [&] {
    guarded(report, [&] {
      const Rung rung = load_plugin(path, writes_down(report));
      put(report.name, rung.name);
      put(report.idea, rung.idea);
      report.device = rung.device;
      report.p_as_kv = rung.p_as_kv;
      report.longest_chain = rung.longest_chain;
      report.ending = Ending::finished;
    });
  });
  Introduction introduction;
  conclude(status, options.seconds, report, introduction.run);
  if (report.done && report.no_plugin) throw InputError("--plugin", path, report.message);
  Rung& rung = introduction.rung;
  rung.name = report.name, rung.idea = report.idea, rung.must_equal = "C4";
  rung.device = report.device, rung.p_as_kv = report.p_as_kv, rung.longest_chain = report.longest_chain;
  return introduction;
}

ChildRun run_in_child(const std::string& path, const Case& c, const ChildOptions& options) {
  return in_child_with_plugin(path, c, options, [&](const Rung& rung) { return outcome_of(run_twice(rung, c)); });
}

ChildRun time_in_child(const std::string& path, const Case& c, const TimedRun& timed, const ChildOptions& options) {
  if (is_python(path)) {
    return {.ending = Ending::refused,
            .message = "a plug-in in Python is verified and not timed: every run is a question to another process"};
  }
  return in_child_with_plugin(path, c, options, [&](const Rung& rung) {
    Outcome outcome{.ending = Ending::finished, .message = {}, .result = timed(rung, c)};
    if (!outcome.result->guards_intact) outcome.ending = Ending::wrote_outside;
    return outcome;
  });
}

ChildRun look_for_leak_in_child(const std::string& path, const Case& c, double search_seconds, const ChildOptions& options) {
  return in_child_with_plugin(path, c, options, [&](const Rung& rung) {
    const std::optional<Leak> leak = find_leak(rung, c, search_seconds);
    return leak ? Outcome{Ending::leaked, leak->text(), {}} : Outcome{};
  });
}

}  // namespace flashladder::ladder
