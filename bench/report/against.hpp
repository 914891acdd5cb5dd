// Two reports of one machine: what got slower, or faster, beyond the noise.
//
// The noise of a work is what its runs say: the larger of the two reports' spreads (slowest - fastest run), and never less
// than least_change of the old median, since a few runs can agree by chance. A work with a single run on either side has no
// spread: it is not judged, and says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/report/lines.hpp"

namespace flashladder::bench {

inline constexpr double least_change = 0.02;

enum class Change : std::uint8_t { slower, faster, same, one_run, gone, added };
const char* name_of(Change change);

struct Compared {
  Change change;
  Work old_one, new_one;  // gone: only the old one; added: only the new one
  double noise_us = 0;

  const Work& either() const { return change == Change::gone ? old_one : new_one; }
};

struct Against {
  std::string source;  // the old report's file
  std::vector<MachineLine> machines;
  std::vector<Compared> works;  // slower first, then as in the new report

  int count(Change change) const;
  int judged() const { return count(Change::slower) + count(Change::faster) + count(Change::same); }
};

// old_report: the text of a report's JSON. InputError if it is none, or of another machine.
Against compare_with(const Lines& lines, const LineText& old_report);

}  // namespace flashladder::bench
