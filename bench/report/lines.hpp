// Measurement lines (docs/case_format.md, "The measurement table") as a report takes them: read strictly, of one machine
// only, and gathered by (family, case, backend) with the median of their runs and how far the runs spread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/cta_profile.hpp"
#include "bench/measurement.hpp"
#include "ladder/cases/input/json.hpp"

namespace flashladder::bench {

inline bool is_ours(const std::string& backend) { return backend.starts_with("flashladder"); }

// All runs of one backend on one case.
struct Work {
  std::string family, work, backend;
  double us = 0, us_low = 0, us_high = 0;  // the run in the middle, the fastest, the slowest
  int runs = 0;
  std::optional<double> tera_bytes_per_s, tera_flops;  // of the run in the middle
  std::optional<double> error, tolerance;              // of the run that came nearest to its tolerance
  std::optional<OutputError> off_double = {};          // how far o is from double, of the run with the largest distance

  bool ours() const { return is_ours(backend); }
  bool plugin() const { return backend.starts_with("plug-in "); }  // a user's kernel
};

// What is known of how far an output is from double, whether it was timed or not (family error).
struct ErrorLine {
  std::string work, backend;
  OutputError error;
};

struct MachineLine {
  std::string source;   // the file that it stands in, "this run"
  ladder::Json fields;  // as they came
};

struct Lines {
  std::vector<MachineLine> machines;
  std::vector<Work> works;  // in the order of the first line of each
  std::vector<ErrorLine> errors;  // of all lines that have one, once for each case and backend: the largest
  std::vector<CtaProfile> lanes;  // of executed plans, predicted and measured
  int measurements = 0;     // lines that count
  int left_out = 0;         // lines without a time: counters, notes

  std::string machine() const;  // "NVIDIA H200", or the CPU's name
  bool on_gpu() const;
  std::optional<double> peak_tera_bytes_per_s() const;  // of a GPU's memory
  std::optional<double> computed_tera_flops() const;    // of its tensor cores, from clock and SMs: not measured
};

struct LineText {
  std::string source, text;
};

// Throws InputError, naming source and line, for what is no JSON object, a measurement before the first machine, a time
// that is no number above 0, a rate that is no number, and machines that differ; and where no measurement is left.
Lines read_lines(const std::vector<LineText>& files);

// The machine's name in a machine line; empty: there is none.
std::string machine_name(const ladder::Json& fields);

}  // namespace flashladder::bench
