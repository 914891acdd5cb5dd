#include "bench/ladder_table.hpp"

#include <algorithm>

#include "bench/gpu_cases.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {
namespace {

std::string rung_of(const Measurement& line) { return line.backend.substr(line.backend.rfind(' ') + 1); }

const Measurement* line_of(std::span<const Measurement> lines, const std::string& work, const std::string& rung) {
  const auto at = std::find_if(lines.begin(), lines.end(), [&](const Measurement& m) {
    return m.family == name_of(Family::prefill_ladder) && m.work == work && rung_of(m) == rung;
  });
  return at == lines.end() ? nullptr : &*at;
}

}  // namespace

std::vector<LadderRow> ladder_rows(std::span<const Measurement> lines, const std::optional<double>& peak_tera_flops) {
  std::vector<LadderRow> rows;
  for (const Measurement& line : lines) {
    if (line.family != name_of(Family::prefill_ladder)) continue;
    const ladder::Rung& rung = ladder::rung(rung_of(line));
    LadderRow row{.work = line.work, .rung = rung.name, .idea = rung.idea, .us = line.us,
                  .tera_flops = line.tera_flops.value_or(0), .share_of_peak = {}, .below = {}, .gain = {}};
    if (peak_tera_flops) row.share_of_peak = row.tera_flops / *peak_tera_flops;
    for (std::string below = rung.must_equal; !below.empty(); below = ladder::rung(below).must_equal) {
      const Measurement* slower = line_of(lines, line.work, below);
      if (slower == nullptr) continue;
      row.below = below, row.gain = slower->us / line.us;
      break;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace flashladder::bench
