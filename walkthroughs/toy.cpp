#include "walkthroughs/toy.hpp"

#include <cmath>
#include <cstdio>

#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::walkthroughs {
namespace {

void round_to_quarters(ladder::OwnedTensor& tensor) {
  float* values = tensor.view().data_as<float>();
  for (std::int64_t i = 0; i < tensor.size(); ++i) values[i] = std::nearbyint(values[i] * 4) / 4;
}

}  // namespace

ladder::Case toy_case(const ladder::CaseSpec& spec) {
  require(spec.dtype == DType::f32, "dtype", name_of(spec.dtype), "must be f32 in a toy case");
  ladder::Case c = ladder::draw_case(spec);
  for (ladder::OwnedTensor* tensor : {&c.q, &c.kv_cache, &c.k_cache, &c.v_cache}) round_to_quarters(*tensor);
  return c;
}

void prove_rung(Narrator& narrator, const std::string& name, const ladder::Case& c, const std::string& on) {
  const ladder::Rung& rung = ladder::rung(name);
  const ladder::RunResult below = run_rung(ladder::rung(rung.must_equal), c);
  const ladder::Comparison worst = agree(c, run_rung(rung, c), &below, ladder::make_oracle(c, rung.rounding(c.spec)));
  narrator.check_that(name + " equals " + rung.must_equal + " and the oracle " + on + ": o and lse_log2", worst.ok(),
                      worst.ok() ? text("%.2g of the tolerance", worst.ratio()) : worst.message());
}

std::string number_text(double value, const char* format) {
  char buffer[64];
  const int width = std::snprintf(buffer, sizeof buffer, format, 0.0);
  std::string out;
  if (std::isfinite(value)) {
    std::snprintf(buffer, sizeof buffer, format, value == 0 ? 0.0 : value);  // no "-0.00"
    out = buffer;
  } else {
    out = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  return out.size() < static_cast<std::size_t>(width) ? std::string(width - out.size(), ' ') + out : out;
}

}  // namespace flashladder::walkthroughs
