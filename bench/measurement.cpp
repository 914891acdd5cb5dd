#include "bench/measurement.hpp"

#include <cmath>
#include <ctime>
#include <fstream>

#include "core/text.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::bench {
namespace {

using ladder::Json;

constexpr const char* built_commit =
#include "bench/built_commit.inc"
    ;

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &utc);
  return text;
}

// Four significant digits: more would be noise, and a reader would have to count them.
double rounded(double x) {
  const double unit = x > 0 ? std::pow(10.0, std::floor(std::log10(x)) - 3) : 1;
  return unit >= 1 ? std::round(x / unit) * unit : std::round(x * std::round(1 / unit)) / std::round(1 / unit);
}

Json number_or_null(const std::optional<double>& x) { return x ? Json(rounded(*x)) : Json(); }

std::string quoted(const std::string& cell) {
  std::string text = "\"";
  for (char c : printable(cell)) text += c == '"' ? "\"\"" : std::string(1, c);
  return text + "\"";
}

}  // namespace

Machine this_machine() {
  return {.cpu = cpu_name(), .cores = reference::ThreadPool::hardware_threads(), .compiler = compiler_name(),
          .flags = FLASHLADDER_FLAGS, .date = today(), .commit = built_commit};
}

Json to_json(const Machine& m) {
  return Json::Object{{"cpu", m.cpu}, {"cores", m.cores}, {"compiler", m.compiler}, {"flags", m.flags}, {"date", m.date},
                      {"commit", m.commit}};
}

Json to_json(const GpuMachine& m) {
  return Json::Object{{"gpu", m.gpu}, {"driver", m.driver}, {"cuda", m.cuda}, {"sm_mhz", m.sm_mhz},
                      {"peak_TBps", m.peak_tera_bytes_per_s}, {"peak_TFLOPs", number_or_null(m.peak_tera_flops)},
                      {"computed_TFLOPs", number_or_null(m.computed_tera_flops)},
                      {"date", m.date}, {"commit", m.commit}, {"note", m.note}};
}

Json to_json(const Measurement& m) {
  Json line = Json::Object{{"family", m.family}, {"case", m.work}, {"backend", m.backend}, {"us", rounded(m.us)},
                           {"TBps", number_or_null(m.tera_bytes_per_s)}, {"TFLOPs", number_or_null(m.tera_flops)}};
  if (m.error) line["max_error"] = rounded(m.error->max), line["rms_error"] = rounded(m.error->rms);
  if (m.nearest) line["error"] = rounded(m.nearest->error), line["tolerance"] = rounded(m.nearest->tolerance);
  if (m.threads > 0) line["threads"] = m.threads;
  line["run"] = m.run;
  return line;
}

std::string json_lines(const Json& machine, std::span<const Measurement> lines) {
  std::string text = report_json(machine) + "\n";
  for (const Measurement& m : lines) text += report_json(to_json(m)) + "\n";
  return text;
}

std::string csv(std::span<const Measurement> lines) {
  std::string text = "family,case,backend,us,TBps,TFLOPs,threads,run\n";
  for (const Measurement& m : lines) {
    const Json json = to_json(m);
    const auto cell = [&](const char* key) {
      const Json* value = json.find(key);
      return value == nullptr || value->is_null() ? std::string() : value->shown();
    };
    text += quoted(m.family) + "," + quoted(m.work) + "," + quoted(m.backend) + "," + cell("us") + "," + cell("TBps") + "," +
            cell("TFLOPs") + "," + cell("threads") + "," + cell("run") + "\n";
  }
  return text;
}

}  // namespace flashladder::bench
