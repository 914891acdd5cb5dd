// One case of a plug-in: what it did in its process, and whether what it gave is right.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ladder/agree.hpp"
#include "ladder/plugin/child.hpp"

namespace flashladder::ladder {

struct Judgement {
  ChildRun run;
  std::optional<Comparison> comparison = {};  // with the oracle and C4, where there is a result
  Oracle oracle = {};                         // where there is a result
  std::string unwritten = {};                 // "12 of 64 elements of o, the first ..." that hold what they held before

  bool supported() const { return run.ending != Ending::refused; }
  bool ok() const;
  bool fails() const;       // something is wrong; a case that can't be decided is neither ok nor does it fail
  std::string kind() const;     // "wrong result", "left NaN", "crashed", ...: "" if ok
  std::string message() const;
};

// plugin: what introduce() gave.
Judgement judge(const std::string& path, const Rung& plugin, const Case& c, const ChildOptions& options = {});

}  // namespace flashladder::ladder
