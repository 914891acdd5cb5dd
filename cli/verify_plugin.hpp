// verify --plugin: a user's kernel through the cases of the ladder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ladder/cases/case.hpp"

namespace flashladder::cli {

struct PluginOptions {
  std::vector<std::string> paths;
  float seconds = 20;                     // for one case
  std::string folder = "failing";         // where failing cases and pictures go; made when there is one
  std::string in;                         // the file of --in: a case that came from there is not written again
  bool json = false;
};

// Returns the exit code. file: the case of --in.
int verify_plugins(const PluginOptions& options, const std::vector<ladder::CaseSpec>& specs,
                   const std::optional<ladder::Case>& file);

}  // namespace flashladder::cli
