// What the lines say about limits: the ceilings that were measured beside the work, and the targets in TB/s that this
// project was given for an A100 (bench/roofline.hpp), met or not, each on its own and as the same fraction of this GPU's
// peak.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/report/case_shape.hpp"
#include "bench/report/lines.hpp"

namespace flashladder::bench {

// Null: no such line. The largest of several sizes or programs.
struct Ceilings {
  const Work *copy = nullptr, *read = nullptr, *gemm = nullptr;

  const Work* memory() const { return read != nullptr ? read : copy; }
};
Ceilings ceilings_of(const Lines& lines);

// Verdict on one operation. A target counts cases whose bytes take this GPU's peak 10 us or more (below, latency decides);
// of prefill those alone that memory limits: less FLOP a byte than the ceilings' ridge. A graph's "warm" case reads a cache
// that the L2 may hold: it says nothing of memory.
struct Target {
  std::string name;                     // "decode"
  double there = 0;                     // TB/s on an A100
  std::optional<double> here;           // the same fraction of this GPU's peak; nothing: the peak is not known
  const Work* best = nullptr;           // ours; null: not measured
  int cases = 0, meet_there = 0, meet_here = 0;  // that count, by our fastest line, and how many of them exceed the targets

  bool meets_there() const { return best != nullptr && *best->tera_bytes_per_s > there; }
  bool meets_here() const { return best != nullptr && here && *best->tera_bytes_per_s > *here; }
};
std::vector<Target> targets_of(const Lines& lines);  // prefill, decode, RMSNorm, RoPE

// TFLOP/s of the GEMM ceiling, or else of the fastest line; by TB/s of the memory's ceiling. Nothing without either.
std::optional<double> ridge_of(const Lines& lines);

}  // namespace flashladder::bench
