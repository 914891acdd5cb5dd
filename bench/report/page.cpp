#include "bench/report/page.hpp"

#include <algorithm>
#include <cstdio>

#include "bench/report/pictures.hpp"
#include "bench/report/targets.hpp"
#include "bench/roofline.hpp"
#include "draw/html.hpp"
#include "draw/text.hpp"

namespace flashladder::bench {
namespace {

using draw::HtmlPage;
using ladder::Json;
using Cells = std::vector<std::string>;

// Four digits, as lines have them; an exponent only where nobody measures, so that columns can be read down.
std::string digits(double x) {
  if (x >= 1e9 || x < 1e-4) return draw::label(x);
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", x >= 1000 ? 0 : x >= 100 ? 1 : x >= 10 ? 2 : x >= 1 ? 3 : 5, x);
  return text;
}

std::string rate(const std::optional<double>& x, double factor = 1) { return x ? digits(*x * factor) : "-"; }

// "4.000x", "0.946x"
std::string times(double factor) {
  const std::string text = digits(factor);
  return (factor >= 1e-3 && factor < 1 ? text.substr(0, 5) : text) + "x";
}

std::string field(const Json& fields, const char* key) {
  const Json* value = fields.find(key);
  if (value == nullptr || value->is_null()) return "-";
  return value->text() != nullptr ? *value->text() : value->shown();
}

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// What a machine line says beside the columns of its table: torch, flashinfer, compiler, flags.
std::string versions(const Json& fields) {
  std::string text;
  for (const auto& [key, value] : *fields.object()) {
    if (key == "gpu" || key == "cpu" || key == "date" || key == "commit" || key == "note" || key == "sm_mhz" ||
        key == "peak_TBps" || key == "peak_TFLOPs" || key == "computed_TFLOPs") {
      continue;
    }
    text += (text.empty() ? "" : ", ") + key + " " + field(fields, key.c_str());
  }
  return text;
}

void figure(HtmlPage& page, const draw::Svg& svg, const std::string& caption, const char* nothing) {
  if (svg.text.empty()) page.paragraph(nothing);
  else page.figure(svg, caption);
}

void add_machine(HtmlPage& page, const Lines& lines) {
  page.section("The machine");
  std::vector<Cells> rows;
  for (const MachineLine& m : lines.machines) {
    rows.push_back({file_name(m.source), machine_name(m.fields), field(m.fields, "sm_mhz"), field(m.fields, "date"),
                    field(m.fields, "commit"), versions(m.fields)});
  }
  page.table({"lines from", "machine", "MHz, at most", "date", "commit", "versions"}, rows);
  for (const MachineLine& m : lines.machines) {
    if (m.fields.find("note") != nullptr) page.paragraph(file_name(m.source) + ": " + field(m.fields, "note") + ".");
  }
  const RateUnits units = units_of(lines);
  const Ceilings c = ceilings_of(lines);
  rows.clear();
  const auto add = [&](const char* name, const Work* w, const char* unit, const std::optional<double>& x) {
    rows.push_back(w == nullptr ? Cells{name, "not measured", "-", "-"} : Cells{name, rate(x, units.factor), unit, w->work});
  };
  add("copy", c.copy, units.bytes, c.copy != nullptr ? c.copy->tera_bytes_per_s : std::nullopt);
  add("read", c.read, units.bytes, c.read != nullptr ? c.read->tera_bytes_per_s : std::nullopt);
  add("GEMM", c.gemm, units.flops, c.gemm != nullptr ? c.gemm->tera_flops : std::nullopt);
  const auto peak = lines.peak_tera_bytes_per_s();
  if (const auto computed = lines.computed_tera_flops()) {
    rows.push_back({"tensor cores, computed from clock and SMs", digits(*computed), units.flops, "not measured"});
  }
  for (const MachineLine& m : lines.machines) {
    const Json* told = m.fields.find("peak_TFLOPs");
    if (told == nullptr || !told->number()) continue;
    rows.push_back({"tensor cores, data sheet's peak", digits(*told->number()), units.flops, "-"});
    break;
  }
  if (lines.on_gpu()) {
    rows.push_back({"memory, data sheet's peak", peak ? digits(*peak) : "not known", peak ? "TB/s" : "-", "-"});
  }
  page.paragraph("Ceilings: what a plain copy, a plain read and a matrix product reach in these same lines; and what was "
                 "computed or read from a data sheet, which is named so.");
  page.table({"ceiling", "rate", "unit", "case"}, rows);
}

void add_targets(HtmlPage& page, const Lines& lines) {
  page.section("The A100 targets");
  if (!lines.on_gpu()) {
    page.paragraph("The targets are about a GPU's memory: not measured on this CPU.");
    return;
  }
  page.paragraph("TB/s of the bytes that have to move, asked of an A100-80GB (peak " + digits(a100_peak) +
                 "). Two verdicts: that number itself, and the same fraction of this GPU's peak. Our fastest backend counts "
                 "for a case; the best case decides, and beside it stands how many cases pass. A case counts if the peak "
                 "takes at least " + draw::label(least_us_at_peak) +
                 " us for its bytes; of prefill only if its FLOP a byte lie below the ceilings' ridge, where memory "
                 "limits.");
  std::vector<Cells> rows;
  for (const Target& t : targets_of(lines)) {
    const auto of = [&](int n) { return std::to_string(n) + " of " + std::to_string(t.cases); };
    const std::string there = ">\u00a0" + digits(t.there), here = t.here ? ">\u00a0" + digits(*t.here) : "peak not known";
    if (t.best == nullptr) {
      rows.push_back({t.name, there, "not measured", "-", here, "not measured", "-", "-", "-"});
      continue;
    }
    rows.push_back({t.name, there, t.meets_there() ? "pass" : "fail", of(t.meet_there), here,
                    !t.here ? "-" : t.meets_here() ? "pass" : "fail", t.here ? of(t.meet_here) : "-",
                    rate(t.best->tera_bytes_per_s), t.best->work + ", " + t.best->backend});
  }
  page.table({"", "A100, TB/s", "", "cases", "same fraction here", "", "cases", "best, TB/s", "of"}, rows);
}

void add_roofline(HtmlPage& page, const Lines& lines, const Colours& colours) {
  page.section("Roofline");
  figure(page, roofline_picture(lines, colours),
         "Attention, a point for each backend and case; discs are ours, rings are others, squares are plug-ins. Right of "
         "the bend arithmetic limits, left of it memory. Where a line has one rate, the other follows from its case. Lines "
         "of family `graph`, timed in another way, are in the table only.",
         "No line of attention has a rate whose FLOP a byte is known.");
}

void add_ladder(HtmlPage& page, const Lines& lines) {
  page.section("The ladder");
  const std::vector<LadderPicture> pictures = ladder_pictures(lines);
  if (pictures.empty()) page.paragraph("No case was run by two rungs.");
  for (const LadderPicture& p : pictures) {
    page.figure(p.svg, "Time of each rung, on a logarithmic axis, with its gain over the rung drawn above it; of several "
                       "plans of a rung the fastest. Plug-ins that were timed on this case come last, with their gain over "
                       "the highest rung.");
    std::vector<Cells> rows;
    bool without_idea = false;
    for (const LadderStep& s : p.steps) {
      without_idea |= s.idea.empty();
      rows.push_back({s.rung, s.idea.empty() ? "-" : s.idea,
                      digits(s.best->us), s.gain > 0 ? times(s.gain) : "-",
                      times(p.steps.front().best->us / s.best->us), s.best->backend});
    }
    page.table({"rung", "idea", "us", "gain", "in all", "backend"}, rows);
    if (without_idea) page.paragraph("Rungs without an idea here are not in this build; the table of the README has them.");
  }
}

void add_rates(HtmlPage& page, const Lines& lines, const Colours& colours) {
  page.section("Decode");
  figure(page, rates_over(lines, Over::decode_kv_len, colours),
         "The decode lines with most lengths; a backend with one of them is left out. Lines of one attention are joined, "
         "whichever files they come from.",
         "No two decode lines differ in kv_len alone.");
  figure(page, rates_over(lines, Over::decode_batch, colours),
         "The decode lines with most batches; a backend with one of them is left out. Lines are joined as above.",
         "No two decode lines differ in batch alone.");
  figure(page, rate_bars(lines, Bars::decode),
         "Even and skewed batches: our fastest backend, its share of the memory's ceiling, and the fastest of the others.",
         "No decode line of ours has a rate.");
  page.section("Prefill");
  figure(page, rates_over(lines, Over::prefill_length, colours),
         "The prefill lines with most lengths; batches may differ from length to length. Lines are joined as above.",
         "No two prefill lines differ in length alone.");
  page.section("Operations around attention");
  figure(page, rate_bars(lines, Bars::operations), "As above: our fastest, its share of the ceiling, the others' fastest.",
         "No line of RMSNorm, RoPE or append.");
}

void add_errors(HtmlPage& page, const Lines& lines) {
  page.section("Errors");
  std::vector<Cells> rows;
  for (const Work& w : lines.works) {
    if (w.error) rows.push_back({w.work, w.backend, draw::label(*w.error), w.tolerance ? draw::label(*w.tolerance) : "-"});
  }
  if (rows.empty()) {
    page.paragraph("None of these lines carries an error with its tolerance. A report that measures itself (`flashladder "
                   "report`) has them.");
  } else {
    const draw::Svg bars = error_bars(lines);
    if (!bars.text.empty()) {
      page.figure(bars, "The element that came nearest to its tolerance, against the double oracle and the rung below. A "
                        "rung fails above 100 %.");
    }
    page.table({"case", "backend", "error", "tolerance"}, rows);
  }
  if (lines.errors.empty()) return;
  figure(page, off_double_bars(lines),
         "The largest distance of an element of o from the same formula in double, over sampled rows or heads; beside it "
         "the root of the mean square. Cases that others ran too come first; of many bars the first are drawn.",
         "o equals double in every line that says how far it is.");
  rows.clear();
  for (const ErrorLine& e : lines.errors) {
    rows.push_back({e.work, e.backend, draw::label(e.error.max), e.error.rms > 0 ? draw::label(e.error.rms) : "-"});
  }
  page.table({"case", "backend", "largest", "rms"}, rows);
}

void add_lanes(HtmlPage& page, const Lines& lines) {
  const std::string lane = lines.on_gpu() ? "CTA" : "lane";
  page.section("Lanes of a plan, predicted and measured");
  if (lines.lanes.empty()) {
    page.paragraph("No lanes were measured. A report that measures itself (`flashladder report`) has them.");
    return;
  }
  page.paragraph("A plan says how much each " + lane + " has to do, in keys. A line through all " + lane +
                 "s of a picture, cost to time, makes microseconds of it; a mark away from its column's end is what the "
                 "cost model does not know." +
                 (lines.on_gpu() ? "" : " A thread works on several lanes, one after the other; each is drawn from 0."));
  for (const CtaProfile& p : lines.lanes) {
    const CtaFit f = fit(p);
    page.figure(picture(p, f, lane), p.backend + ". " + text(p, f, lane) + ".");
  }
}

// "commit a -> b, cores 2 -> 4": what may be the cause, and is not the work.
std::string differences(const Json& before, const Json& now) {
  std::string text;
  for (const auto& [key, value] : *now.object()) {
    const std::string was = field(before, key.c_str()), is = field(now, key.c_str());
    if (key != "note" && was != is) text += (text.empty() ? "" : ", ") + key + " " + was + " \u2192 " + is;
  }
  return text;
}

void add_against(HtmlPage& page, const Lines& lines, const Against& a) {
  page.section("Against an older report");
  page.paragraph("Against `" + a.source + "`: " + std::to_string(a.judged()) + " works were judged, " +
                 std::to_string(a.count(Change::slower)) + " are slower beyond the noise and " +
                 std::to_string(a.count(Change::faster)) + " faster. The noise of a work is the larger spread of its runs "
                 "in the two reports, at least " + draw::percent(least_change) + " of the old median; with one run on a "
                 "side there is no spread, and no verdict.");
  const std::string differs = differences(a.machines.front().fields, lines.machines.front().fields);
  if (!differs.empty()) page.paragraph("What else changed, by the first machine line of each: " + differs + ".");
  std::vector<Cells> rows;
  for (const Compared& c : a.works) {
    const bool both = c.change != Change::gone && c.change != Change::added;
    rows.push_back({name_of(c.change), c.either().family, c.either().work, c.either().backend,
                    c.change == Change::added ? "-" : digits(c.old_one.us),
                    c.change == Change::gone ? "-" : digits(c.new_one.us),
                    both ? draw::percent(c.new_one.us / c.old_one.us - 1) : "-", both ? digits(c.noise_us) : "-"});
  }
  page.table({"", "family", "case", "backend", "us before", "us now", "change", "noise, us"}, rows);
}

void add_all(HtmlPage& page, const Lines& lines) {
  page.section("Every line");
  const RateUnits units = units_of(lines);
  std::vector<Cells> rows;
  for (const Work& w : lines.works) {
    rows.push_back({w.family, w.work, w.backend, digits(w.us), digits(w.us_low) + " .. " + digits(w.us_high),
                    std::to_string(w.runs), rate(w.tera_bytes_per_s, units.factor), rate(w.tera_flops, units.factor)});
  }
  page.paragraph("The run in the middle counts, of an even number of runs the slower of the two in the middle; the spread is "
                 "from the fastest run to the slowest.");
  page.table({"family", "case", "backend", "us", "spread, us", "runs", units.bytes, units.flops}, rows);
}

}  // namespace

std::string report_page(const Lines& lines, const Against* against) {
  HtmlPage page("FlashLadder: the report",
                lines.machine() + ", " + draw::counted(lines.measurements, "measured line") + " of " +
                    draw::counted(std::ssize(lines.works), "work") +
                    (lines.left_out > 0 ? ", " + draw::counted(lines.left_out, "line") + " without a time left out" : ""));
  const Colours colours = colours_of(lines);
  add_targets(page, lines);
  if (against != nullptr) add_against(page, lines, *against);
  add_machine(page, lines);
  add_roofline(page, lines, colours);
  add_ladder(page, lines);
  add_rates(page, lines, colours);
  add_lanes(page, lines);
  add_errors(page, lines);
  add_all(page, lines);
  return page.str();
}

}  // namespace flashladder::bench
