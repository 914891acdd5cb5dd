#include "ladder/plugin/naming.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "ladder/plugin/fenced.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::int32_t no_pieces = std::numeric_limits<std::int32_t>::max() / 2;  // all keys in one piece

RunResult with_fault(Fault fault, const Case& c, Cuts cuts) {
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = problem.params;
  const std::int64_t rows = problem.q.shape[0];
  const std::size_t lse_size = static_cast<std::size_t>(rows * p.num_qo_heads), o_size = lse_size * p.head_dim_vo;
  const Fenced o(o_size * sizeof(float)), lse(lse_size * sizeof(float));
  o.fill_with_nan(), lse.fill_with_nan();
  auto *o_data = reinterpret_cast<float*>(o.data()), *lse_data = reinterpret_cast<float*>(lse.data());
  faulty_attend(fault, problem, {.o = contiguous(o.data(), DType::f32, {rows, p.num_qo_heads, p.head_dim_vo}),
                                 .lse_log2 = {lse_data, lse_size}}, cuts);
  return {.o = {o_data, o_data + o_size}, .lse_log2 = {lse_data, lse_data + lse_size},
          .guards_intact = o.guards_intact() && lse.guards_intact()};
}

// Two wrong numbers are the same where they differ by no more than two right ones might, or by a ten-thousandth of their
// size: the tolerance belongs to right results, and a wrong one may be larger by orders of magnitude. A wrong row may be as
// sensitive to rounding as any other of the case, such as the one whose keys it read: the largest tolerance holds for all.
bool same(float got, float known, double tolerance) {
  const auto unwritten = [](float x) { return std::bit_cast<std::uint32_t>(x) == 0xffffffff; };  // as outputs start
  if (unwritten(got) != unwritten(known)) return false;
  // Both read what must not be read. Comparisons with NaN are false, so that some kernels take such a row for an empty one.
  if (std::isnan(known)) return std::isnan(got) || got == 0 || std::isinf(got);
  if (std::isnan(got)) return false;
  if (got == known || !std::isfinite(tolerance)) return true;
  return std::abs(double{got} - known) <= 2 * tolerance + 1e-4 * std::max(std::abs(got), std::abs(known));
}

bool same_result(const RunResult& got, const RunResult& known, const Case& c, const Oracle& oracle) {
  if (got.guards_intact != known.guards_intact) return false;
  RowTolerance allowed{.o = 0, .lse_log2 = 0};
  for (const RowTolerance& row : oracle.tolerance) {
    allowed.o = std::max(row.o, allowed.o);
    allowed.lse_log2 = std::max(row.lse_log2, allowed.lse_log2);
  }
  const std::size_t dim = static_cast<std::size_t>(c.spec.params.head_dim_vo);
  for (std::size_t row = 0; row < got.lse_log2.size(); ++row) {
    if (!same(got.lse_log2[row], known.lse_log2[row], allowed.lse_log2)) return false;
    for (std::size_t i = row * dim; i < (row + 1) * dim; ++i) {
      if (!same(got.o[i], known.o[i], allowed.o)) return false;
    }
  }
  return true;
}

bool is_right(const RunResult& result, const Case& c, const Oracle& oracle) {
  return result.guards_intact &&
         compare(c, result.o, result.lse_log2, oracle).verdict() != Verdict::fail;
}

}  // namespace

Suspects::Suspects() {
  std::vector<Cuts> tiles, pieces;
  for (const std::int32_t tile : {1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256}) {
    for (const std::int32_t piece : {no_pieces, 64, 96, 128, 256, 512}) tiles.push_back({.tile = tile, .piece = piece});
  }
  for (const std::int32_t piece : {8, 16, 32, 48, 64, 96, 100, 128, 192, 256, 512, 1024}) pieces.push_back({.piece = piece});
  for (const std::int32_t n : {2, 3, 4, 5, 6, 8, 16, 32}) pieces.push_back({.pieces = n});
  for (const FaultInfo& f : plugin_faults()) {
    suspects_.push_back({f.fault, f.depends == Depends::on_tiles ? tiles
                                  : f.depends == Depends::on_pieces ? pieces : std::vector<Cuts>{{}}});
  }
}

void Suspects::confront(const Case& c, const RunResult& got, const Oracle& oracle, bool fails) {
  std::erase_if(suspects_, [&](const Suspect& suspect) {
    return std::ranges::none_of(suspect.cuts, [&](const Cuts& cuts) {
      const RunResult would_give = with_fault(suspect.fault, c, cuts);
      return same_result(got, would_give, c, oracle) && !(fails && is_right(would_give, c, oracle));
    });
  });
}

std::vector<Fault> Suspects::left() const {
  std::vector<Fault> names;
  for (const Suspect& s : suspects_) names.push_back(s.fault);
  return names;
}

}  // namespace flashladder::ladder
