// What several commands ask for in the same way: a case in its short form (docs/case_format.md), cases from elsewhere,
// threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ladder/arguments.hpp"
#include "ladder/cases/case_spec.hpp"
#include "ladder/rung.hpp"

namespace flashladder::cli {

// Where the real cases and the trace samples lie: $FLASHLADDER_DATA, or the source tree's data/.
std::string default_data_dir();

// A case in its short form.
struct CaseOptions {
  std::string kv, qo = "1", heads = "32/8", dim = "64", dtype = "f16", layout = "NHD";
  std::string pos = "NONE", mask = "none", values = "normal";
  std::string trace, data_dir = default_data_dir();
  std::int32_t page_size = 16, window_left = -1;
  std::uint64_t seed = 1;
  float sm_scale = 0, soft_cap = 0;  // 0: the default scale, no cap
  bool causal = false, sinks = false;

  void add_to(ladder::Command& command);
  bool given() const { return !kv.empty(); }
  ladder::CaseSpec spec() const;  // validated, and named by its case string
};

// --threads: 0 = all. Throws InputError for another number out of 1 .. 1024.
struct ThreadOption {
  std::int32_t threads = 0;
  void add_to(ladder::Command& command);
  ladder::Settings settings() const;
};

// The named rungs, in the ladder's order, each once; all where none is named. An InputError lists the names.
std::vector<const ladder::Rung*> chosen_rungs(const std::vector<std::string>& names);

}  // namespace flashladder::cli
