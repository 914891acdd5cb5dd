// Something that is timed again and again: prepared once, and checked on the very data that it is timed on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "bench/measurement.hpp"

namespace flashladder::bench {

// What its time is compared with beside the ceilings: memory traffic of as many bytes.
enum class Floor : std::uint8_t { none, read, copy, read_in_graph };

struct TimedWork {
  Measurement line;                     // family, case, backend; the rest when it is timed
  double bytes = 0;                     // that have to move; 0: not counted
  double flops = 0;                     // of the visible pairs; 0: not counted
  Floor floor = Floor::none;
  std::string checked;                  // what was compared: "all equals C4, 4 of 1024 heads equal the double oracle"
  std::string failure;                  // why there is no line; "" = right
  std::function<double()> time_us;
  std::function<std::string()> recheck = {};  // after timing: "", or how its output differs from the one that was checked
};

}  // namespace flashladder::bench
