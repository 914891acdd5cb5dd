#include "bench/gpu/expected.hpp"

#include <utility>

#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::bench {
namespace {

Expected expect(const ladder::CaseSpec& spec, const std::vector<ladder::Rounding>& roundings) {
  Expected e{.c = draw_case(spec), .below = {}, .oracles = {}};
  e.below = run_rung(ladder::rung("C4"), e.c);
  for (const ladder::Rounding rounding : roundings) e.oracles.emplace(rounding, sampled_oracle(e.c, rounding));
  return e;
}

}  // namespace

ladder::Comparison Expected::compare(const ladder::RunResult& result, ladder::Rounding rounding) const {
  return agree(c, result, &below, oracles.at(rounding));
}

std::string Expected::text() const {
  return "all equals C4, " + oracles.begin()->second.text() + " equal the double oracle";
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
