// What a case should give, made on the CPU while the GPU is busy with the case before: data, the output of the top rung of
// the CPU, and the double oracle on a sample of the heads.
#pragma once

#include <deque>
#include <future>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bench/measurement.hpp"
#include "bench/sampled_check.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {

struct Expected {
  ladder::Case c;
  ladder::RunResult below;                  // C4's, or, of latent attention, L3's
  std::map<ladder::Rounding, SampledOracle> oracles;  // by how a rung rounds: that decides the tolerance

  // Is this output right? The whole against C4, the sample against the oracle.
  ladder::Comparison compare(const ladder::RunResult& result, ladder::Rounding rounding) const;
  // How far the heads of the sample are from double.
  OutputError off_double(const ladder::RunResult& result) const;
  std::string text() const;  // "all equals C4, 4 of 1024 heads equal the double oracle"
};

// How the rungs round on the cases: each once.
std::vector<ladder::Rounding> roundings_of(std::span<const ladder::Rung* const> rungs,
                                           std::span<const ladder::CaseSpec> specs);

// Cases in order, a few of them drawn ahead on other cores. specs and roundings as long as the object lives.
class ExpectedAhead {
 public:
  ExpectedAhead(std::span<const ladder::CaseSpec> specs, std::vector<ladder::Rounding> roundings);
  Expected next();  // once for each spec

 private:
  static constexpr std::size_t ahead = 4;  // cases in host memory at the same time
  void fill();

  std::span<const ladder::CaseSpec> left_;
  std::vector<ladder::Rounding> roundings_;
  std::deque<std::future<Expected>> coming_;
};

}  // namespace flashladder::bench
