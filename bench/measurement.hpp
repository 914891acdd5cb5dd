// A measured line, and the machine it was measured on: the form that every table of measurements shares, ours and those of
// other programs (docs/case_format.md, "The measurement table").
#pragma once

#include <optional>
#include <span>
#include <string>

#include "ladder/cases/input/json.hpp"

namespace flashladder::bench {

// How far what was timed is from the same formula in double, over the sampled rows of o: the largest distance of an element,
// and the root of the mean square.
struct OutputError {
  double max = 0, rms = 0;
};

// The element of a checked output that came nearest to its tolerance.
struct Nearest {
  double error = 0, tolerance = 0;
};

struct Measurement {
  std::string family;   // "cpu", "plan", "decode"
  std::string work;     // the case string: the same for whoever does this work
  std::string backend;  // who did it: "flashladder C4, NHD p16"
  double us = 0;        // median
  std::optional<double> tera_bytes_per_s = {}, tera_flops = {};  // of the minimal bytes, of the visible pairs
  std::optional<OutputError> error = {};  // left out where it is not known, as the next one
  std::optional<Nearest> nearest = {};
  int threads = 0;  // of a measurement on a CPU; 0: left out
  int run = 1;      // which repetition
};

// The first line of a file: the machine.
struct Machine {
  std::string cpu;       // as it calls itself
  int cores = 0;         // hardware threads
  std::string compiler, flags;
  std::string date;      // UTC, 2026-01-31
  std::string commit;    // of the source tree that was built, or "unknown"
};
Machine this_machine();

struct GpuMachine {
  std::string gpu, driver, cuda;  // "NVIDIA H200", "580.159.04", "13.0"
  int sm_mhz = 0;                 // at most
  double peak_tera_bytes_per_s = 0;  // of its memory, as the data sheet or else the memory's clock has it
  std::optional<double> peak_tera_flops = {};  // of its tensor cores, dense f16, as the data sheet has it
  std::optional<double> computed_tera_flops = {};  // the same, from its clock at most and its SMs
  std::string date, commit, note;    // note: how was measured
};

ladder::Json to_json(const Machine& machine);
ladder::Json to_json(const GpuMachine& machine);
ladder::Json to_json(const Measurement& line);

// JSON lines: the machine, then one line each; CSV: a heading, then one line each.
std::string json_lines(const ladder::Json& machine, std::span<const Measurement> lines);
std::string csv(std::span<const Measurement> lines);

}  // namespace flashladder::bench
