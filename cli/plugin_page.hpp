// A page for a case that a plug-in fails: what was expected, what came, and where they differ.
#pragma once

#include <string>

#include "ladder/plugin/examine.hpp"

namespace flashladder::cli {

// failure must have a result.
void write_plugin_page(const std::string& path, const std::string& plugin, const ladder::SmallestFailure& failure);

}  // namespace flashladder::cli
