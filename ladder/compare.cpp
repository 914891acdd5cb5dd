#include "ladder/compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace flashladder::ladder {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double error_of(double got, double want) {
  if (got == want) return 0;  // equal infinities too
  const double error = std::abs(got - want);
  return std::isfinite(error) ? error : infinity;
}

double ratio_of(double error, double tolerance) { return tolerance > 0 ? error / tolerance : error > 0 ? infinity : 0; }

struct Place {
  std::int32_t request, query, head;
};

Place place_of(const Case& c, std::int64_t row) {
  const std::int32_t heads = c.spec.params.num_qo_heads;
  Place place{0, 0, static_cast<std::int32_t>(row % heads)};
  while (c.qo_indptr[place.request + 1] <= row / heads) ++place.request;  // the request whose queries hold that row
  place.query = static_cast<std::int32_t>(row / heads - c.qo_indptr[place.request]);
  return place;
}

// One tensor: elements [nnz_qo, num_qo_heads, width], width 1 for lse_log2.
struct Tensors {
  std::span<const float> got;
  std::span<const double> want;  // or empty
  std::int32_t width;
  bool is_o;
};

void compare_tensor(const Case& c, const Tensors& t, std::span<const RowTolerance> tolerance, double share, Worst& worst,
                    Undecided& undecided) {
  std::int64_t at = -1, first_undecided = -1;
  double highest = -1;
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(t.got.size()) / t.width; ++row) {
    const RowTolerance& allowed = tolerance[row];
    const double limit = t.want.empty() ? 0 : share * (t.is_o ? allowed.o : allowed.lse_log2);
    if (!t.want.empty() && !(t.is_o ? allowed.decides_o() : allowed.decides_lse())) {
      if (undecided.rows++ == 0) first_undecided = row;
      continue;
    }
    for (std::int64_t i = row * t.width; i < (row + 1) * t.width; ++i) {
      const double error = error_of(t.got[i], t.want.empty() ? double{t.got[i]} : t.want[i]);
      const double ratio = ratio_of(error, limit);
      if (ratio > highest || (ratio == highest && error > worst.error)) {
        highest = ratio;
        worst.error = error;
        worst.tolerance = limit;
        at = i;
      }
    }
  }
  if (at >= 0) {
    const Place place = place_of(c, at / t.width);
    worst.request = place.request, worst.query = place.query, worst.head = place.head;
    worst.feature = t.is_o ? static_cast<std::int32_t>(at % t.width) : -1;
    worst.got = t.got[at];
    worst.want = t.want.empty() ? worst.got : t.want[at];
  }
  if (first_undecided >= 0) {
    const Place place = place_of(c, first_undecided);
    const RowTolerance& row = tolerance[first_undecided];
    undecided.request = place.request, undecided.query = place.query, undecided.head = place.head;
    undecided.tolerance = t.is_o ? row.o : row.lse_log2;
    undecided.reach = t.is_o ? row.o_reach : row.lse_reach;
  }
}

std::string text(const char* tensor, const Worst& w) {
  char where[64] = "";
  if (w.feature >= 0) std::snprintf(where, sizeof where, " feature %d", w.feature);
  char line[256];
  std::snprintf(line, sizeof line, "%s: request %d query %d head %d%s: got %.9g, want %.9g, error %.3g > tolerance %.3g",
                tensor, w.request, w.query, w.head, where, w.got, w.want, w.error, w.tolerance);
  return line;
}

std::string text(const char* tensor, const Undecided& u) {
  char line[256];
  std::snprintf(line, sizeof line,
                "%s undecided: request %d query %d head %d: the tolerance %.3g is not below %.3g, which a wrong answer may "
                "be off by (%lld row%s so)",
                tensor, u.request, u.query, u.head, u.tolerance, u.reach, static_cast<long long>(u.rows),
                u.rows == 1 ? "" : "s");
  return line;
}

}  // namespace

double Worst::ratio() const { return error <= tolerance ? ratio_of(error, tolerance) : infinity; }

Verdict verdict_of(const Worst& worst, const Undecided& undecided) {
  return !worst.ok() ? Verdict::fail : undecided.rows > 0 ? Verdict::undecided : Verdict::ok;
}

Verdict Comparison::verdict() const {
  if (!complaint.empty()) return Verdict::fail;
  return std::max(verdict_of(o, o_undecided), verdict_of(lse_log2, lse_undecided));
}

std::string Comparison::message() const {
  std::string lines = complaint;
  const auto add = [&](const std::string& line) { lines += (lines.empty() ? "" : "; ") + line; };
  if (!o.ok()) add(text("o", o));
  if (!lse_log2.ok()) add(text("lse_log2", lse_log2));
  if (o_undecided.rows > 0) add(text("o", o_undecided));
  if (lse_undecided.rows > 0) add(text("lse_log2", lse_undecided));
  return lines;
}

bool is_worse(const Comparison& a, const Comparison& b) {
  return a.verdict() != b.verdict() ? a.verdict() > b.verdict() : a.ratio() > b.ratio();
}

Comparison compare(const Case& c, std::span<const float> got_o, std::span<const float> got_lse,
                   std::span<const double> want_o, std::span<const double> want_lse,
                   std::span<const RowTolerance> tolerance, double share) {
  Comparison result;
  const std::int32_t dim = c.spec.params.head_dim_vo;
  const auto complain = [&](const char* what, std::size_t has, std::size_t wanted) {
    if (has == wanted || !result.complaint.empty()) return;
    result.complaint = std::string("sizes differ: ") + what + " has " + std::to_string(has) + " elements, should have " +
                       std::to_string(wanted);
  };
  complain("o", got_o.size(), want_o.empty() ? tolerance.size() * dim : want_o.size());
  complain("o", got_o.size(), tolerance.size() * dim);
  if (!want_lse.empty()) complain("lse_log2", got_lse.size(), want_lse.size());
  if (!got_lse.empty()) complain("lse_log2", got_lse.size(), tolerance.size());
  if (!result.complaint.empty()) return result;
  compare_tensor(c, {got_o, want_o, dim, true}, tolerance, share, result.o, result.o_undecided);
  compare_tensor(c, {got_lse, want_lse, 1, false}, tolerance, share, result.lse_log2, result.lse_undecided);
  return result;
}

}  // namespace flashladder::ladder
