#include "bench/roofline.hpp"

#include <string>
#include <utility>

namespace flashladder::bench {
namespace {

// A line's target on an A100, by what its case string begins with where the family holds several kinds; 0: none.
double target_of(const std::string& family, const std::string& work) {
  const bool norm = work.starts_with("rmsnorm ") || work.starts_with("fused_add_rmsnorm ");
  if (family == "norm" || (family == "graph" && norm)) return 1.8;
  if (family == "rope" || (family == "graph" && work.starts_with("rope "))) return 1.5;
  if (family == "decode" || (family == "graph" && !work.starts_with("chain "))) return 1.6;
  return 0;
}

}  // namespace

std::optional<A100Target> a100_target(const Measurement& line, double peak_tera_bytes_per_s) {
  const double there = target_of(line.family, line.work);
  if (there == 0 || !line.tera_bytes_per_s) return std::nullopt;
  const double us_at_peak = line.us * *line.tera_bytes_per_s / peak_tera_bytes_per_s;
  if (us_at_peak < least_us_at_peak) return std::nullopt;
  return A100Target{there, there / a100_peak * peak_tera_bytes_per_s};
}

std::optional<double> peak_tera_flops(std::string_view gpu) {
  for (const auto& [part, peak] : {std::pair{"H200", 989.4}, {"H100 80GB HBM3", 989.4}, {"A100-SXM4", 312.0}}) {
    if (gpu.find(part) != gpu.npos) return peak;
  }
  return std::nullopt;
}

std::optional<double> computed_tera_flops(int compute_capability, int sms, double sm_mhz) {
  // FLOP of an SM and cycle, from the data sheets of A100, A10, L4 and H100. GeForce cards do half of 86's and 89's.
  for (const auto& [capability, flops] : {std::pair{80, 2048}, {86, 1024}, {89, 1024}, {90, 4096}}) {
    if (capability == compute_capability) return 1e-6 * flops * sms * sm_mhz;
  }
  return std::nullopt;
}

double peak_tera_bytes_per_s(std::string_view gpu, double by_clock) {
  for (const auto& [part, peak] : {std::pair{"H200", 4.8}, {"H100 80GB HBM3", 3.35}, {"A100-SXM4-80GB", a100_peak}}) {
    if (gpu.find(part) != gpu.npos) return peak;
  }
  return by_clock;
}

}  // namespace flashladder::bench
