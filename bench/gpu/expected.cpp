#include "bench/gpu/expected.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::bench {
namespace {

const char* cpu_rung(const ladder::CaseSpec& spec) { return spec.op == ladder::Op::mla ? "L3" : "C4"; }

Expected expect(const ladder::CaseSpec& spec, const std::vector<ladder::Rounding>& roundings) {
  Expected e{.c = draw_case(spec), .below = {}, .oracles = {}};
  e.below = run_rung(ladder::rung(cpu_rung(spec)), e.c);
  for (const ladder::Rounding rounding : roundings) e.oracles.emplace(rounding, sampled_oracle(e.c, rounding));
  return e;
}

}  // namespace

ladder::Comparison Expected::compare(const ladder::RunResult& result, ladder::Rounding rounding) const {
  return agree(c, result, &below, oracles.at(rounding));
}

OutputError Expected::off_double(const ladder::RunResult& result) const {
  const std::vector<double>& want = oracles.begin()->second.oracle.o;  // the same for every rounding
  OutputError error;
  double squares = 0, elements = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) continue;  // outside of the sample
    const double off = std::abs(double{result.o[i]} - want[i]);
    error.max = std::max(error.max, off);
    squares += off * off;
    ++elements;
  }
  error.rms = elements > 0 ? std::sqrt(squares / elements) : 0;
  return error;
}

std::string Expected::text() const {
  return std::string("all equals ") + cpu_rung(c.spec) + ", " + oracles.begin()->second.text() + " equal the double oracle";
}

std::vector<ladder::Rounding> roundings_of(std::span<const ladder::Rung* const> rungs,
                                           std::span<const ladder::CaseSpec> specs) {
  std::vector<ladder::Rounding> roundings;
  for (const ladder::CaseSpec& spec : specs) {
    for (const ladder::Rung* rung : rungs) roundings.push_back(rung->rounding(spec));
  }
  std::sort(roundings.begin(), roundings.end());
  roundings.erase(std::unique(roundings.begin(), roundings.end()), roundings.end());
  return roundings;
}

ExpectedAhead::ExpectedAhead(std::span<const ladder::CaseSpec> specs, std::vector<ladder::Rounding> roundings)
    : left_(specs), roundings_(std::move(roundings)) {
  fill();
}

void ExpectedAhead::fill() {
  while (!left_.empty() && coming_.size() < ahead) {
    coming_.push_back(std::async(std::launch::async, [spec = left_.front(), this] { return expect(spec, roundings_); }));
    left_ = left_.subspan(1);
  }
}

Expected ExpectedAhead::next() {
  Expected e = coming_.front().get();
  coming_.pop_front();
  fill();
  return e;
}

}  // namespace flashladder::bench
