// How far from what memory gives: next to the targets that this project was given for an A100.
//
// A100-80GB SXM moves 2.039 TB/s (data sheet). The targets are TB/s of the bytes that have to move there; on another GPU the
// same number counts, and beside it the same fraction of that GPU's own peak.
#pragma once

#include <optional>
#include <string_view>

#include "bench/measurement.hpp"

namespace flashladder::bench {

inline constexpr double a100_peak = 2.039;  // TB/s
// A case is too small for a target of bandwidth if this GPU's peak moves its bytes in less: then latency is most of its
// time.
inline constexpr double least_us_at_peak = 10;

struct A100Target {
  double there, here;  // TB/s: on an A100; the same fraction of this GPU's peak
};

// Decode > 1.6, RMSNorm > 1.8, RoPE > 1.5 TB/s. Nothing for lines of other work and for cases that are too small.
std::optional<A100Target> a100_target(const Measurement& line, double peak_tera_bytes_per_s);

// Tensor cores of the GPU of this name, by its data sheet: dense f16, TFLOP/s. Nothing for a GPU that is not listed.
std::optional<double> peak_tera_flops(std::string_view gpu);

// Tensor cores by arithmetic: dense f16 products that an SM of this compute capability (9.0 is 90) adds in float each cycle.
// Nothing for one that is not listed.
std::optional<double> computed_tera_flops(int compute_capability, int sms, double sm_mhz);

// Memory of the GPU of this name, by its data sheet; by_clock for a GPU that is not listed.
double peak_tera_bytes_per_s(std::string_view gpu, double by_clock);

}  // namespace flashladder::bench
