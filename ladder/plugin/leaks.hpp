// Does a plug-in leave memory allocated? prepare, run and release are repeated, and what is allocated is counted: on the
// host by malloc, which counts exactly, on the GPU by the driver. Called in a child process only (child.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ladder/cases/case.hpp"
#include "ladder/rung.hpp"

namespace flashladder::ladder {

struct Leak {
  const char* memory;     // "host memory"
  std::int64_t bytes, runs;  // allocated in so many repetitions, and never freed
  std::string text() const;  // "80 bytes of host memory a run stay allocated: 1310720 bytes in 16384 runs"
};

// seconds: the search ends then at the latest; a leak that is not certain by then is none.
std::optional<Leak> find_leak(const Rung& rung, const Case& c, double seconds);

}  // namespace flashladder::ladder
