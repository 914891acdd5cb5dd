// flashladder: climb the ladder, plan a batch, verify rungs, run a case, measure, and make cases.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "cli/commands.hpp"
#include "core/error.hpp"
#include "ladder/cases/text.hpp"

namespace {

using namespace flashladder::cli;

constexpr const char* version = "flashladder " FLASHLADDER_VERSION;

int complain(const char* what) {
  std::fprintf(stderr, "flashladder: %s\n", what);
  return bad_input;
}

int run(int argc, char** argv) {
  CLI::App program{"Attention over a paged KV cache, rung by rung: every rung proved equal to the one below."};
  int exit_code = good;
  for (const auto add : {add_climb, add_plan, add_verify, add_run, add_bench, add_case}) add(program, exit_code);
  program.require_subcommand(1);
  program.set_version_flag("--version", version);
  for (CLI::App* command : program.get_subcommands({})) command->set_version_flag("--version", version);
  program.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("flashladder: ") + error.what() + "\nflashladder --help lists the commands; each has a --help too.\n";
  });
  program.footer("Exit codes: 0 good, 1 mismatch, 2 bad use or bad input, 77 nothing could run.\n"
                 "Example:\n  flashladder plan --policy target --heads 32 --kv 512,1024x3,8192 --no-run");
  // The parser alone would say that a command is missing.
  const auto is_named = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  const auto commands = program.get_subcommands({});
  if (argc > 1 && argv[1][0] != '-' && std::none_of(commands.begin(), commands.end(), is_named)) {
    throw flashladder::InputError("command", flashladder::ladder::shown(argv[1]),
                                  "is unknown; flashladder --help lists them");
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? good : bad_input;  // --help and --version come this way too
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
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
