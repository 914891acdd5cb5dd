// Where a user's kernel stands among all who did the same work.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/measurement.hpp"

namespace flashladder::bench {

bool is_plugin(const Measurement& line);  // by its backend, "plug-in mine, NHD p16"

struct Neighbour {
  std::string backend;
  double times = 1;  // >= 1: the slower time divided by the faster one
};

struct Place {
  std::string work, backend;
  int place = 1, of = 1;                      // 1: the fastest
  std::optional<Neighbour> faster, slower;    // the next one on either side
};

// One for each plug-in line, in their order. lines: one for each (family, case, backend).
std::vector<Place> places_of(std::span<const Measurement> lines);

}  // namespace flashladder::bench
