// A measured line, and the machine it was measured on: the form that every table of measurements shares, ours and those of
// other programs (docs/case_format.md, "The measurement table").
#pragma once

#include <optional>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace flashladder::bench {

struct Measurement {
  std::string family;   // "cpu", "plan"
  std::string work;     // the case string: the same for whoever does this work
  std::string backend;  // who did it: "flashladder C4, NHD p16"
  double us = 0;        // median
  std::optional<double> tera_bytes_per_s = {}, tera_flops = {};  // of the minimal bytes, of the visible pairs
  int threads = 1;
};

// The first line of a file.
struct Machine {
  std::string cpu;       // as it calls itself
  int cores = 0;         // hardware threads
  std::string compiler, flags;
  std::string date;      // UTC, 2026-01-31
  std::string commit;    // of the source tree that was built, or "unknown"
};
Machine this_machine();

nlohmann::ordered_json to_json(const Machine& machine);
nlohmann::ordered_json to_json(const Measurement& line, int run);

// JSON lines: the machine, then one line each; CSV: a heading, then one line each.
std::string json_lines(const Machine& machine, std::span<const Measurement> lines, int run);
std::string csv(std::span<const Measurement> lines, int run);

}  // namespace flashladder::bench
