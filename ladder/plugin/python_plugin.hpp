// A plug-in in Python: a file FILE.py with a function attention() on numpy arrays, as a rung like any other plug-in.
// docs/bring-your-own-kernel.md says what the function is given.
#pragma once

#include <stdexcept>
#include <string>

#include "ladder/plugin/child.hpp"
#include "ladder/plugin/load.hpp"

namespace flashladder::ladder {

// What it did to the copies of the inputs that it is given.
struct Misbehaved : std::runtime_error {
  Misbehaved(Ending ending_, const std::string& what) : std::runtime_error(what), ending(ending_) {}
  Ending ending;
};

bool is_python(const std::string& path);
// As load_plugin; the rung's runner also throws Misbehaved.
Rung load_python_plugin(const std::string& path, const OnCall& on_call);

}  // namespace flashladder::ladder
