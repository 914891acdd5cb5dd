#include "bench/report/report_json.hpp"

#include <cmath>

#include "bench/report/lane_lines.hpp"
#include "bench/report/targets.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {
namespace {

using ladder::Json;

constexpr const char* format = "flashladder report 1";

Json number_or_null(const std::optional<double>& x) { return x ? Json(*x) : Json(); }

Json to_json(const Work& w) {
  Json json = Json::Object{{"family", w.family}, {"case", w.work}, {"backend", w.backend}, {"us", w.us},
                           {"us_low", w.us_low}, {"us_high", w.us_high}, {"runs", w.runs},
                           {"TBps", number_or_null(w.tera_bytes_per_s)}, {"TFLOPs", number_or_null(w.tera_flops)}};
  if (w.error) json["error"] = *w.error;
  if (w.tolerance) json["tolerance"] = *w.tolerance;
  if (w.off_double) json["max_error"] = w.off_double->max, json["rms_error"] = w.off_double->rms;
  return json;
}

Json to_json(const Target& t) {
  const bool measured = t.best != nullptr;
  return Json::Object{{"target", t.name}, {"TBps_there", t.there}, {"TBps_here", number_or_null(t.here)},
                      {"measured", measured}, {"best_TBps", measured ? number_or_null(t.best->tera_bytes_per_s) : Json()},
                      {"best_case", measured ? Json(t.best->work) : Json()},
                      {"pass_there", measured ? Json(t.meets_there()) : Json()},
                      {"pass_here", measured && t.here ? Json(t.meets_here()) : Json()}, {"cases", t.cases},
                      {"cases_pass_there", t.meet_there}, {"cases_pass_here", t.meet_here}};
}

Json to_json(const Against& a) {
  Json::List works;
  for (const Compared& c : a.works) {
    const bool has_old = c.change != Change::added, has_new = c.change != Change::gone;
    works.push_back(Json::Object{{"family", c.either().family}, {"case", c.either().work}, {"backend", c.either().backend},
                                 {"change", name_of(c.change)}, {"us_before", has_old ? Json(c.old_one.us) : Json()},
                                 {"us", has_new ? Json(c.new_one.us) : Json()}, {"noise_us", c.noise_us}});
  }
  return Json::Object{{"report", a.source}, {"slower", a.count(Change::slower)}, {"judged", a.judged()}, {"works", works}};
}

// Text in quotes; a text that a spreadsheet would take for a formula keeps its sign behind a blank.
std::string cell(const std::string& text) {
  std::string quoted = "\"";
  if (!text.empty() && std::string_view("=+-@").find(text[0]) != std::string_view::npos) quoted += ' ';
  for (const char c : printable(text)) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string cell(const std::optional<double>& x) { return x ? Json(*x).shown() : ""; }

const Json& member(const Json& object, const char* key) {
  const Json* value = object.find(key);
  if (value == nullptr) throw InputError(key, "", "is missing: this is not the JSON of a report");
  return *value;
}

std::string text_member(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (value.text() == nullptr) throw InputError(key, value.shown(), "must be a text");
  return *value.text();
}

double time_member(const Json& object, const char* key) {
  const Json& value = member(object, key);
  const std::optional<double> us = value.number();
  if (!us || !std::isfinite(*us) || *us <= 0) throw InputError(key, value.shown(), "must be a number above 0");
  return *us;
}

Work work_of(const Json& json) {
  Work w{.family = text_member(json, "family"), .work = text_member(json, "case"), .backend = text_member(json, "backend"),
         .us = time_member(json, "us"), .us_low = time_member(json, "us_low"), .us_high = time_member(json, "us_high"),
         .runs = 0, .tera_bytes_per_s = {}, .tera_flops = {}, .error = {}, .tolerance = {}};
  const Json& runs = member(json, "runs");
  w.runs = runs.integer<int>().value_or(0);
  require(w.runs >= 1, "runs", runs.shown(), "must be a whole number, at least 1");
  require(w.us_low <= w.us && w.us <= w.us_high, "us", w.us, "must lie between us_low and us_high");
  return w;
}

const Json::List& list_member(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (value.list() == nullptr) throw InputError(key, value.shown(), "must be a list");
  return *value.list();
}

}  // namespace

std::string report_json(const Lines& lines, const Against* against) {
  Json::List machines, works, targets;
  for (const MachineLine& m : lines.machines) {
    machines.push_back(Json::Object{{"source", m.source}, {"machine", m.fields}});
  }
  for (const Work& w : lines.works) works.push_back(to_json(w));
  for (const Target& t : targets_of(lines)) targets.push_back(to_json(t));
  Json::List lanes, errors;
  for (const CtaProfile& p : lines.lanes) lanes.push_back(to_json(p));
  for (const ErrorLine& e : lines.errors) {
    errors.push_back(Json::Object{{"case", e.work}, {"backend", e.backend}, {"max_error", e.error.max},
                                  {"rms_error", e.error.rms}});
  }
  const Ceilings c = ceilings_of(lines);
  const auto ceiling = [](const Work* w) { return w != nullptr ? to_json(*w) : Json(); };
  const Json ceilings = Json::Object{{"copy", ceiling(c.copy)}, {"read", ceiling(c.read)}, {"gemm", ceiling(c.gemm)},
                                     {"computed_TFLOPs", number_or_null(lines.computed_tera_flops())}};
  Json report = Json::Object{{"format", format}, {"machines", machines}, {"measurements", lines.measurements},
                             {"left_out", lines.left_out}, {"ceilings", ceilings},
                             {"targets", targets}, {"works", works}, {"errors", errors}, {"lanes", lanes}};
  if (against != nullptr) report["against"] = to_json(*against);
  return ladder::report_json(report) + "\n";
}

std::string report_csv(const Lines& lines) {
  std::string text = "family,case,backend,us,us_low,us_high,runs,TBps,TFLOPs,error,tolerance,max_error,rms_error\n";
  for (const Work& w : lines.works) {
    text += cell(w.family) + "," + cell(w.work) + "," + cell(w.backend) + "," + cell(std::optional(w.us)) + "," +
            cell(std::optional(w.us_low)) + "," + cell(std::optional(w.us_high)) + "," + std::to_string(w.runs) + "," +
            cell(w.tera_bytes_per_s) + "," + cell(w.tera_flops) + "," + cell(w.error) + "," + cell(w.tolerance);
    for (double OutputError::*of : {&OutputError::max, &OutputError::rms}) {
      text += "," + cell(w.off_double ? std::optional((*w.off_double).*of) : std::nullopt);
    }
    text += "\n";
  }
  return text;
}

Lines lines_of_report(const LineText& report) {
  Json json;
  try {
    json = ladder::parse_json(report.text, report.source, 6);
  } catch (const InputError& e) {
    throw InputError("--against", ladder::shown(report.source), "must be the JSON of a report, not its lines: " + e.rule);
  }
  return ladder::within(report.source, [&] {
    if (json.object() == nullptr) throw InputError("report", json.shown(), "must be a JSON object: a report's, not lines");
    require(text_member(json, "format") == format, "format", text_member(json, "format"), "must be flashladder report 1");
    Lines lines;
    for (const Json& m : list_member(json, "machines")) {
      lines.machines.push_back({text_member(m, "source"), member(m, "machine")});
    }
    for (const Json& w : list_member(json, "works")) lines.works.push_back(work_of(w));
    return lines;
  });
}

}  // namespace flashladder::bench
