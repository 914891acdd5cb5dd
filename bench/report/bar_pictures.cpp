// Bars: the ladder's steps, one rate a case, errors.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "bench/report/case_shape.hpp"
#include "bench/report/pictures.hpp"
#include "bench/report/targets.hpp"
#include "draw/bar_chart.hpp"
#include "draw/text.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {
namespace {

constexpr std::size_t most_bars = 60;  // of one picture

using CaseKey = std::pair<std::string, std::string>;  // family, case

// C before D before P, and P9 before P10.
std::pair<char, int> place(const std::string& rung) { return {rung[0], std::stoi(rung.substr(1))}; }

std::string idea_of(const std::string& name) {
  for (const ladder::Rung& rung : ladder::rungs()) {
    if (rung.name == name) return rung.idea;
  }
  return "";
}

// The fastest line of each rung on a case, from the lowest rung up.
std::vector<LadderStep> steps_on(const Lines& lines, const CaseKey& key) {
  std::map<std::pair<char, int>, const Work*> best;
  for (const Work& w : lines.works) {
    const std::string rung = rung_of(w);
    if (rung.empty() || CaseKey(w.family, w.work) != key) continue;
    const Work*& one = best[place(rung)];
    if (one == nullptr || w.us < one->us) one = &w;
  }
  std::vector<LadderStep> steps;
  for (const auto& [at, work] : best) {
    const std::string rung = rung_of(*work);
    steps.push_back({rung, idea_of(rung), work, steps.empty() ? 0 : steps.back().best->us / work->us});
  }
  return steps;
}

// The plug-ins that were timed on the case, behind the rungs; each one's gain is over the highest rung.
void add_plugins(std::vector<LadderStep>& steps, const Lines& lines, const CaseKey& key) {
  std::map<std::string, const Work*> best;
  for (const Work& w : lines.works) {
    if (!w.plugin() || CaseKey(w.family, w.work) != key) continue;
    const Work*& one = best[w.backend.substr(0, w.backend.find(','))];
    if (one == nullptr || w.us < one->us) one = &w;
  }
  const double highest = steps.back().best->us;
  for (const auto& [name, work] : best) steps.push_back({name, "a kernel of your own", work, highest / work->us});
}

draw::Svg drawn(const std::string& work, const std::vector<LadderStep>& steps) {
  std::vector<draw::Bar> bars;
  for (const LadderStep& s : steps) {
    bars.push_back({s.rung, {s.best->us * 1e-6}, s.gain > 0 ? draw::label(s.gain) + "x" : ""});
  }
  return draw::bar_chart(bars, {.caption = {.title = "The ladder on " + work}, .unit = "s", .logarithmic = true});
}

const Work* fastest(const Lines& lines, const CaseKey& key, bool ours) {
  const Work* best = nullptr;
  for (const Work& w : lines.works) {
    if (CaseKey(w.family, w.work) != key || w.ours() != ours || !w.tera_bytes_per_s) continue;
    if (best == nullptr || w.us < best->us) best = &w;
  }
  return best;
}

bool drawn_in(const Work& w, Bars what) {
  const Kind kind = kind_of(w);
  if (what == Bars::decode) return kind == Kind::decode && w.family != "graph";
  return kind == Kind::norm || kind == Kind::rope || kind == Kind::append;
}

}  // namespace

std::vector<LadderPicture> ladder_pictures(const Lines& lines) {
  std::vector<LadderPicture> pictures;
  for (const Kind kind : {Kind::decode, Kind::prefill}) {
    std::vector<LadderStep> most;
    CaseKey of;
    std::set<CaseKey> seen;
    for (const Work& w : lines.works) {
      const CaseKey key{w.family, w.work};
      if (kind_of(w) != kind || rung_of(w).empty() || !seen.insert(key).second) continue;
      std::vector<LadderStep> steps = steps_on(lines, key);
      if (steps.size() > most.size()) most = std::move(steps), of = key;
    }
    if (most.size() < 2) continue;
    add_plugins(most, lines, of);
    draw::Svg svg = drawn(of.second, most);
    pictures.push_back({of.first, of.second, std::move(most), std::move(svg)});
  }
  return pictures;
}

draw::Svg rate_bars(const Lines& lines, Bars what) {
  const RateUnits units = units_of(lines);
  const Work* ceiling = ceilings_of(lines).memory();
  std::vector<draw::Bar> bars;
  std::set<CaseKey> seen;
  for (const Work& w : lines.works) {
    const CaseKey key{w.family, w.work};
    if (!drawn_in(w, what) || !seen.insert(key).second || bars.size() == most_bars) continue;
    const Work* ours = fastest(lines, key, true);
    if (ours == nullptr) continue;
    const Work* other = fastest(lines, key, false);
    std::string note = units.bytes;
    if (ceiling != nullptr) note += ", " + draw::percent(*ours->tera_bytes_per_s / *ceiling->tera_bytes_per_s);
    if (other != nullptr) note += "; " + other->backend + " " + draw::label(*other->tera_bytes_per_s * units.factor);
    bars.push_back({w.work + (w.family == "graph" ? " (graph)" : ""), {*ours->tera_bytes_per_s * units.factor}, note});
  }
  if (bars.empty()) return {};
  const char* title = what == Bars::decode ? "Decode, every case" : "RMSNorm, RoPE and append";
  return draw::bar_chart(bars, {.caption = {.title = title}});
}

draw::Svg error_bars(const Lines& lines) {
  std::vector<draw::Bar> bars;
  for (const Work& w : lines.works) {
    if (!w.error || !w.tolerance || *w.tolerance <= 0 || bars.size() == most_bars) continue;
    bars.push_back({w.work + ", " + (rung_of(w).empty() ? w.backend : rung_of(w)), {100 * *w.error / *w.tolerance}});
  }
  if (bars.empty()) return {};
  return draw::bar_chart(bars, {.caption = {.title = "Error, in percent of the tolerance"}, .unit = "%"});
}

draw::Svg off_double_bars(const Lines& lines) {
  std::vector<ErrorLine> errors = lines.errors;
  std::set<std::string> compared;  // cases that somebody else ran too: they come first
  std::map<std::string, std::size_t> first;
  for (const ErrorLine& e : errors) {
    if (!is_ours(e.backend)) compared.insert(e.work);
    first.emplace(e.work, first.size());
  }
  const auto place = [&](const ErrorLine& e) { return std::pair(!compared.contains(e.work), first[e.work]); };
  std::stable_sort(errors.begin(), errors.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  std::vector<draw::Bar> bars;
  for (const ErrorLine& e : errors) {
    if (e.error.max <= 0 || bars.size() == most_bars) continue;  // a logarithm has no place for "none"
    bars.push_back({e.work + ", " + e.backend, {e.error.max}, e.error.rms > 0 ? "rms " + draw::label(e.error.rms) : ""});
  }
  if (bars.empty()) return {};
  return draw::bar_chart(bars, {.caption = {.title = "Largest distance of o from double"}, .logarithmic = true});
}

}  // namespace flashladder::bench
