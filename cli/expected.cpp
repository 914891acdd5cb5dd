#include "cli/expected.hpp"

namespace flashladder::cli {
namespace {

// f32 or f64, as the file gave it; empty: it gave none.
std::vector<double> expected(const ladder::OwnedTensor& t) {
  if (!t.exists()) return {};
  const Tensor view = t.view();
  if (t.dtype == DType::f32) return {view.data_as<float>(), view.data_as<float>() + t.size()};
  return {view.data_as<double>(), view.data_as<double>() + t.size()};
}

}  // namespace

bool has_expected(const ladder::Case& c) { return c.expected_o.exists() || c.expected_lse_log2.exists(); }

ladder::Comparison compare_with_expected(const ladder::Case& c, const ladder::RunResult& result,
                                         std::span<const ladder::RowTolerance> tolerance) {
  return compare(c, result.o, result.lse_log2, expected(c.expected_o), expected(c.expected_lse_log2), tolerance);
}

}  // namespace flashladder::cli
