#include "cli/expected.hpp"

namespace flashladder::cli {
namespace {

// f32 or f64, as the file gave it; what it didn't give is taken from the result, so that it equals.
std::vector<double> expected_or(const ladder::OwnedTensor& t, const std::vector<float>& result) {
  if (!t.exists()) return {result.begin(), result.end()};
  const Tensor view = t.view();
  if (t.dtype == DType::f32) return {view.data_as<float>(), view.data_as<float>() + t.size()};
  return {view.data_as<double>(), view.data_as<double>() + t.size()};
}

}  // namespace

bool has_expected(const ladder::Case& c) { return c.expected_o.exists() || c.expected_lse_log2.exists(); }

ladder::Comparison compare_with_expected(const ladder::Case& c, const ladder::RunResult& result,
                                         const ladder::Tolerance& tolerance) {
  return compare(c, result.o, result.lse_log2, expected_or(c.expected_o, result.o),
                 expected_or(c.expected_lse_log2, result.lse_log2), tolerance);
}

}  // namespace flashladder::cli
