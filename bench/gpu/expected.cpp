#include "bench/gpu/expected.hpp"

#include <utility>

#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::bench {
namespace {

Expected expect(const ladder::CaseSpec& spec, const std::vector<DType>& p_dtypes) {
  Expected e{.c = draw_case(spec), .below = {}, .oracles = {}};
  e.below = run_rung(ladder::rung("C4"), e.c);
  for (const DType p_dtype : p_dtypes) e.oracles.emplace(p_dtype, sampled_oracle(e.c, p_dtype));
  return e;
}

}  // namespace

ladder::Comparison Expected::compare(const ladder::RunResult& result, DType p_dtype) const {
  return agree(c, result, &below, oracles.at(p_dtype));
}

std::string Expected::text() const {
  return "all equals C4, " + oracles.begin()->second.text() + " equal the double oracle";
}

ExpectedAhead::ExpectedAhead(std::span<const ladder::CaseSpec> specs, std::vector<DType> p_dtypes)
    : left_(specs), p_dtypes_(std::move(p_dtypes)) {
  fill();
}

void ExpectedAhead::fill() {
  while (!left_.empty() && coming_.size() < ahead) {
    coming_.push_back(std::async(std::launch::async, [spec = left_.front(), this] { return expect(spec, p_dtypes_); }));
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
