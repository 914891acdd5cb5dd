#include "cli/outputs.hpp"

#include <csignal>
#include <filesystem>

#include "core/error.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::cli {
namespace {

namespace fs = std::filesystem;

bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error) && fs::is_regular_file(a, error)) return true;  // /dev/null may serve twice
  return !fs::exists(a, error) && fs::weakly_canonical(a, error) == fs::weakly_canonical(b, error);
}

void end(int signal) {
  remove_unfinished_files();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void check_output(const FileOption& output, const std::vector<FileOption>& others) {
  const std::string name = ladder::shown(output.path);
  if (output.path == "-") {
    throw InputError(output.option, name, "must name a file: standard output has the report (./- is a file of that name)");
  }
  for (const FileOption& other : others) {
    if (other.path.empty() || !same_file(output.path, other.path)) continue;
    throw InputError(output.option, name, "is the same file as " + other.option + " " + ladder::shown(other.path) +
                                              ", which would be overwritten");
  }
  require_writable(output.path);
}

void check_output(const ladder::Command& command, const FileOption& output, const std::vector<FileOption>& others) {
  if (command.given(output.option)) check_output(output, others);
}

void end_cleanly_on_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    if (std::signal(signal, end) == SIG_IGN) std::signal(signal, SIG_IGN);  // whoever started us wants it ignored
  }
}

}  // namespace flashladder::cli
