// flashladder: climb the ladder, plan a batch, verify rungs, run a case, measure, and make cases.
#include <cstdio>
#include <exception>
#include <new>

#include "api/version.hpp"
#include "cli/commands.hpp"
#include "cli/outputs.hpp"
#include "core/text.hpp"

namespace {

using namespace flashladder::cli;

constexpr const char* version = "flashladder " FLASHLADDER_VERSION;

int complain(const char* what) {
  std::fprintf(stderr, "flashladder: %s\n", flashladder::printable(what).c_str());
  return bad_input;
}

int run(int argc, char** argv) {
  flashladder::ladder::Program program(
      "flashladder", "Attention over a paged KV cache, rung by rung: every rung proved equal to the one below.", version);
  for (const auto add : {add_climb, add_plan, add_verify, add_run, add_bench, add_report, add_case}) add(program);
  program.root().footer("Exit codes: 0 good, 1 mismatch, 2 bad use or bad input, 77 nothing could run.\n"
                        "Example:\n  flashladder plan --policy target --heads 32 --kv 512,1024x3,8192 --no-run");
  return program.run(argc, argv);
}

}  // namespace

int main(int argc, char** argv) {
  end_cleanly_on_signals();
  int exit_code = good;
  try {
    exit_code = run(argc, argv);
  } catch (const std::bad_alloc&) {
    exit_code = complain("out of memory");
  } catch (const std::exception& error) {
    exit_code = complain(error.what());
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return complain("cannot write to the standard output");
  return exit_code;
}
