#include "bench/report/against.hpp"

#include <algorithm>
#include <tuple>

#include "bench/report/report_json.hpp"
#include "core/error.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {
namespace {

bool same_work(const Work& a, const Work& b) {
  return std::tie(a.family, a.work, a.backend) == std::tie(b.family, b.work, b.backend);
}

const Work* find(const std::vector<Work>& works, const Work& work) {
  const auto at = std::find_if(works.begin(), works.end(), [&](const Work& w) { return same_work(w, work); });
  return at == works.end() ? nullptr : &*at;
}

Compared judged(const Work& before, const Work& now) {
  Compared c{.change = Change::one_run, .old_one = before, .new_one = now};
  c.noise_us = std::max({before.us_high - before.us_low, now.us_high - now.us_low, least_change * before.us});
  if (before.runs < 2 || now.runs < 2) return c;
  const double change = now.us - before.us;
  c.change = change > c.noise_us ? Change::slower : change < -c.noise_us ? Change::faster : Change::same;
  return c;
}

}  // namespace

const char* name_of(Change change) {
  switch (change) {
    case Change::slower: return "slower";
    case Change::faster: return "faster";
    case Change::same: return "within the noise";
    case Change::one_run: return "one run: not judged";
    case Change::gone: return "gone";
    case Change::added: return "new";
  }
  return "";
}

int Against::count(Change change) const {
  return static_cast<int>(std::count_if(works.begin(), works.end(), [&](const Compared& c) { return c.change == change; }));
}

Against compare_with(const Lines& lines, const LineText& old_report) {
  const Lines before = lines_of_report(old_report);
  if (before.machine() != lines.machine()) {
    throw InputError("--against", ladder::shown(old_report.source),
                     "is a report of " + ladder::shown(before.machine()) + ", these lines are of " +
                         ladder::shown(lines.machine()) + ": times of two machines do not compare");
  }
  Against a{.source = old_report.source, .machines = before.machines, .works = {}};
  for (const Work& now : lines.works) {
    const Work* old_one = find(before.works, now);
    a.works.push_back(old_one != nullptr ? judged(*old_one, now)
                                         : Compared{.change = Change::added, .old_one = {}, .new_one = now});
  }
  for (const Work& w : before.works) {
    if (find(lines.works, w) == nullptr) a.works.push_back({.change = Change::gone, .old_one = w, .new_one = {}});
  }
  std::stable_partition(a.works.begin(), a.works.end(), [](const Compared& c) { return c.change == Change::slower; });
  return a;
}

}  // namespace flashladder::bench
