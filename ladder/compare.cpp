#include "ladder/compare.hpp"

#include <cmath>
#include <cstdio>
#include <limits>

namespace flashladder::ladder {
namespace {

double error_of(double got, double want) {
  if (got == want) return 0;  // equal infinities too
  const double error = std::abs(got - want);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

// elements: [nnz_qo, num_qo_heads, width], row by row; width 1 without features for lse.
Worst worst_of(const Case& c, std::span<const float> got, std::span<const double> want, std::int32_t width, double tolerance,
               bool has_features) {
  Worst worst{.tolerance = tolerance};
  std::int64_t at = -1;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = error_of(got[i], want[i]);
    if (error > worst.error || at < 0) {
      worst.error = error;
      at = static_cast<std::int64_t>(i);
    }
  }
  if (at < 0) return worst;  // nothing to compare: an empty batch
  const std::int64_t row = at / width / c.spec.params.num_qo_heads;
  while (c.qo_indptr[worst.request + 1] <= row) ++worst.request;  // the request whose queries hold that row
  worst.query = static_cast<std::int32_t>(row - c.qo_indptr[worst.request]);
  worst.head = static_cast<std::int32_t>(at / width % c.spec.params.num_qo_heads);
  worst.feature = has_features ? static_cast<std::int32_t>(at % width) : -1;
  worst.got = got[at];
  worst.want = want[at];
  return worst;
}

std::string text(const char* tensor, const Worst& w) {
  char where[64] = "";
  if (w.feature >= 0) std::snprintf(where, sizeof where, " feature %d", w.feature);
  char line[256];
  std::snprintf(line, sizeof line, "%s: request %d query %d head %d%s: got %.9g, want %.9g, error %.3g > tolerance %.3g",
                tensor, w.request, w.query, w.head, where, w.got, w.want, w.error, w.tolerance);
  return line;
}

}  // namespace

std::string Comparison::message() const {
  std::string lines = complaint;
  const auto add = [&](const char* tensor, const Worst& w) {
    if (!w.ok()) lines += (lines.empty() ? "" : "; ") + text(tensor, w);
  };
  add("o", o);
  add("lse_log2", lse_log2);
  return lines;
}

Comparison compare(const Case& c, std::span<const float> got_o, std::span<const float> got_lse,
                   std::span<const double> want_o, std::span<const double> want_lse, const Tolerance& tolerance) {
  Comparison result;
  if (got_o.size() != want_o.size() || (!want_lse.empty() && got_lse.size() != want_lse.size())) {
    result.complaint = "sizes differ: o has " + std::to_string(got_o.size()) + " elements, should have " +
                       std::to_string(want_o.size());
    return result;
  }
  result.o = worst_of(c, got_o, want_o, c.spec.params.head_dim_vo, tolerance.o, true);
  result.lse_log2 = worst_of(c, got_lse, want_lse, 1, tolerance.lse_log2, false);
  return result;
}

}  // namespace flashladder::ladder
