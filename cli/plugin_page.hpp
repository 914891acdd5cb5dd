// A page for a case that a plug-in fails: what was expected, what came, and where they differ.
#pragma once

#include <string>

#include "ladder/plugin/examine.hpp"

namespace flashladder::cli {

// A decode's case string leaves causal out, because it is the same work; here it may be the mistake.
std::string case_text(const ladder::CaseSpec& spec);

// "It looks like top_left_causal (...).", or that it is none of the known mistakes; "" where nothing was compared with them.
std::string likeness(const ladder::SmallestFailure& failure);

// failure must have a result.
void write_plugin_page(const std::string& path, const std::string& plugin, const ladder::SmallestFailure& failure);

}  // namespace flashladder::cli
