#include "bench/ladder_table.hpp"

#include <algorithm>

#include "bench/gpu_cases.hpp"
#include "bench/placing.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {
namespace {

std::string rung_of(const Measurement& line) { return line.backend.substr(line.backend.rfind(' ') + 1); }

const Measurement* line_of(std::span<const Measurement> lines, const std::string& work, const std::string& rung) {
  const auto at = std::find_if(lines.begin(), lines.end(), [&](const Measurement& m) {
    return m.family == name_of(Family::prefill_ladder) && m.work == work && !is_plugin(m) && rung_of(m) == rung;
  });
  return at == lines.end() ? nullptr : &*at;
}

// A plug-in is compared with the fastest rung that it outruns.
LadderRow row_of_plugin(std::span<const Measurement> lines, const Measurement& mine) {
  LadderRow row{.work = mine.work, .rung = mine.backend, .idea = "", .us = mine.us,
                .tera_flops = mine.tera_flops.value_or(0), .share_of_peak = {}, .below = {}, .gain = {}};
  const Measurement* slower = nullptr;
  for (const Measurement& m : lines) {
    if (m.family != mine.family || m.work != mine.work || is_plugin(m) || m.us < mine.us) continue;
    if (slower == nullptr || m.us < slower->us) slower = &m;
  }
  if (slower != nullptr) row.below = rung_of(*slower), row.gain = slower->us / mine.us;
  return row;
}

LadderRow row_of_rung(std::span<const Measurement> lines, const Measurement& line) {
  const ladder::Rung& rung = ladder::rung(rung_of(line));
  LadderRow row{.work = line.work, .rung = rung.name, .idea = rung.idea, .us = line.us,
                .tera_flops = line.tera_flops.value_or(0), .share_of_peak = {}, .below = {}, .gain = {}};
  for (std::string below = rung.must_equal; !below.empty(); below = ladder::rung(below).must_equal) {
    const Measurement* slower = line_of(lines, line.work, below);
    if (slower == nullptr) continue;
    row.below = below, row.gain = slower->us / line.us;
    break;
  }
  return row;
}

}  // namespace

std::vector<LadderRow> ladder_rows(std::span<const Measurement> lines, const std::optional<double>& peak_tera_flops) {
  std::vector<LadderRow> rows;
  for (const Measurement& line : lines) {
    if (line.family != name_of(Family::prefill_ladder)) continue;
    LadderRow row = is_plugin(line) ? row_of_plugin(lines, line) : row_of_rung(lines, line);
    if (peak_tera_flops) row.share_of_peak = row.tera_flops / *peak_tera_flops;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace flashladder::bench
