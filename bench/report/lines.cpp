#include "bench/report/lines.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "bench/report/lane_lines.hpp"
#include "bench/roofline.hpp"
#include "core/error.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {
namespace {

using ladder::Json;

struct Run {
  double us;
  std::optional<double> tera_bytes_per_s, tera_flops, error, tolerance;
  std::optional<OutputError> off_double;
};

using Key = std::tuple<std::string, std::string, std::string>;

struct Gathered {
  Lines lines;
  std::map<Key, std::vector<Run>> runs;
  std::vector<Key> order;
  int taken = 0;  // lines that a report shows something of
};

const std::string& text_of(const Json& line, const char* key) {
  const Json* value = line.find(key);
  if (value == nullptr || value->text() == nullptr) throw InputError(key, "", "must be there, and a text");
  return *value->text();
}

// null and a key that is not there say nothing.
std::optional<double> number_of(const Json& line, const char* key, bool zero_too) {
  const Json* value = line.find(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  const std::optional<double> x = value->number();
  if (!x || !std::isfinite(*x) || !(zero_too ? *x >= 0 : *x > 0)) {
    throw InputError(key, value->shown(),
                     zero_too ? "must be a number, at least 0, or null" : "must be a number above 0, or null");
  }
  return x;
}

void add_machine(Gathered& g, const std::string& source, const Json& line) {
  const std::string name = machine_name(line);
  const std::vector<MachineLine>& known = g.lines.machines;
  if (!known.empty() && machine_name(known.front().fields) != name) {
    throw InputError("machine", ladder::shown(name), "differs from that of the lines before, " +
                                                         ladder::shown(machine_name(known.front().fields)) +
                                                         ": a report is about one machine");
  }
  g.lines.machines.push_back({source, line});
}

// The largest of a case and backend stays.
void add_error(std::vector<ErrorLine>& errors, const ErrorLine& line) {
  for (ErrorLine& e : errors) {
    if (e.work != line.work || e.backend != line.backend) continue;
    if (line.error.max > e.error.max) e.error = line.error;
    return;
  }
  errors.push_back(line);
}

void add_run(Gathered& g, const Json& line, bool has_machine) {
  const Key key{text_of(line, "family"), text_of(line, "case"), text_of(line, "backend")};
  require(has_machine, "family", std::get<0>(key), "comes before the file's machine line, which has gpu or cpu");
  if (std::get<0>(key) == lanes_family) {
    g.lines.lanes.push_back(profile_of(line));
    ++g.taken;
    return;
  }
  std::optional<OutputError> off_double;
  if (const std::optional<double> most = number_of(line, "max_error", true)) {
    off_double = {*most, number_of(line, "rms_error", true).value_or(0)};
    add_error(g.lines.errors, {std::get<1>(key), std::get<2>(key), *off_double});
  }
  const std::optional<double> us = number_of(line, "us", false);
  if (!us) {
    ++(off_double ? g.taken : g.lines.left_out);
    return;
  }
  std::vector<Run>& runs = g.runs[key];
  if (runs.empty()) g.order.push_back(key);
  runs.push_back({*us, number_of(line, "TBps", false), number_of(line, "TFLOPs", false), number_of(line, "error", true),
                  number_of(line, "tolerance", true), off_double});
  ++g.lines.measurements;
  ++g.taken;
}

void add_file(Gathered& g, const LineText& file) {
  std::size_t begin = 0;
  bool has_machine = false;
  for (int number = 1; begin < file.text.size(); ++number) {
    const std::size_t end = std::min(file.text.find('\n', begin), file.text.size());
    const std::string_view text = std::string_view(file.text).substr(begin, end - begin);
    begin = end + 1;
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    const std::string where = file.source + ", line " + std::to_string(number);
    const Json line = ladder::parse_json(text, where, 4);
    ladder::within(where, [&] {
      if (line.object() == nullptr) throw InputError("line", line.shown(), "must be a JSON object");
      if (line.find("family") != nullptr) {
        add_run(g, line, has_machine);
      } else if (!machine_name(line).empty()) {
        add_machine(g, file.source, line);
        has_machine = true;
      } else {
        ++g.lines.left_out;
      }
      return 0;
    });
  }
}

double share(const Run& r) { return r.tolerance && *r.tolerance > 0 ? *r.error / *r.tolerance : *r.error; }

Work work_of(const Key& key, std::vector<Run> runs) {
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.us < b.us; });
  const Run& middle = runs[runs.size() / 2];
  Work w{.family = std::get<0>(key), .work = std::get<1>(key), .backend = std::get<2>(key), .us = middle.us,
         .us_low = runs.front().us, .us_high = runs.back().us, .runs = static_cast<int>(runs.size()),
         .tera_bytes_per_s = middle.tera_bytes_per_s, .tera_flops = middle.tera_flops, .error = {}, .tolerance = {}};
  const Run* worst = nullptr;
  for (const Run& r : runs) {
    if (r.off_double && (!w.off_double || r.off_double->max > w.off_double->max)) w.off_double = r.off_double;
    if (r.error && (worst == nullptr || share(r) > share(*worst))) worst = &r;
  }
  if (worst != nullptr) w.error = worst->error, w.tolerance = worst->tolerance;
  return w;
}

}  // namespace

std::string machine_name(const Json& fields) {
  for (const char* key : {"gpu", "cpu"}) {
    const Json* name = fields.find(key);
    if (name != nullptr && name->text() != nullptr) return *name->text();
  }
  return "";
}

std::string Lines::machine() const { return machines.empty() ? "" : machine_name(machines.front().fields); }

bool Lines::on_gpu() const { return !machines.empty() && machines.front().fields.find("gpu") != nullptr; }

std::optional<double> Lines::peak_tera_bytes_per_s() const {
  if (!on_gpu()) return std::nullopt;
  double peak = 0;
  for (const MachineLine& m : machines) {
    const Json* told = m.fields.find("peak_TBps");
    if (peak <= 0 && told != nullptr) peak = told->number().value_or(0);
  }
  if (!(peak > 0)) peak = bench::peak_tera_bytes_per_s(machine(), 0);
  return peak > 0 ? std::optional(peak) : std::nullopt;
}

std::optional<double> Lines::computed_tera_flops() const {
  for (const MachineLine& m : machines) {
    const Json* told = m.fields.find("computed_TFLOPs");
    if (told != nullptr && told->number().value_or(0) > 0) return told->number();
  }
  return std::nullopt;
}

Lines read_lines(const std::vector<LineText>& files) {
  Gathered g;
  for (const LineText& file : files) {
    const int before = g.taken;
    add_file(g, file);
    require(g.taken > before, "--lines", ladder::shown(file.source),
            "holds no measurement: no line has a family and a time");
  }
  require(g.lines.measurements > 0, "--lines", ladder::shown(files.back().source),
          "holds no measurement with a time, and no other file does: lanes and errors alone make no report");
  for (const Key& key : g.order) g.lines.works.push_back(work_of(key, std::move(g.runs[key])));
  return std::move(g.lines);
}

}  // namespace flashladder::bench
