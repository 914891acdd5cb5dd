// Files that a command writes are looked at before its work: an output that can't be written, or that is one of the inputs,
// is refused while nothing is lost yet.
#pragma once

#include <string>
#include <vector>

#include "ladder/arguments.hpp"

namespace flashladder::cli {

struct FileOption {
  std::string option, path;  // "--in", what it names; an empty path: none
};

// Throws InputError, naming the option, for "-" and for a file that is one of the others under whatever name (by
// another path, a hard or a symbolic link); std::system_error for one that can't be written.
void check_output(const FileOption& output, const std::vector<FileOption>& others);

// An output that may be left out: checked if the command line has it.
void check_output(const ladder::Command& command, const FileOption& output, const std::vector<FileOption>& others);

// Interrupt, hang-up, termination and a closed pipe end the program as ever, but leave no half-written file behind.
void end_cleanly_on_signals();

}  // namespace flashladder::cli
