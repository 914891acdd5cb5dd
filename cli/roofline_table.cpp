#include "cli/roofline_table.hpp"

#include <algorithm>
#include <map>

#include "bench/roofline.hpp"
#include "cli/console.hpp"

namespace flashladder::cli {
namespace {

using bench::Measurement;

bool is_traffic(const Measurement& m) { return m.family == "copy" || m.family == "read"; }

// One line for each (family, case, backend), in the order of the first: the median over runs.
std::vector<Measurement> medians(std::span<const Measurement> lines) {
  const auto same = [](const Measurement& a, const Measurement& b) {
    return a.family == b.family && a.work == b.work && a.backend == b.backend;
  };
  std::vector<Measurement> result;
  for (const Measurement& first : lines) {
    if (std::any_of(result.begin(), result.end(), [&](const Measurement& m) { return same(m, first); })) continue;
    std::vector<Measurement> runs;
    std::copy_if(lines.begin(), lines.end(), std::back_inserter(runs), [&](const Measurement& m) { return same(m, first); });
    const auto middle = runs.begin() + std::ssize(runs) / 2;
    std::nth_element(runs.begin(), middle, runs.end(), [](const auto& a, const auto& b) { return a.us < b.us; });
    result.push_back(*middle);
  }
  return result;
}

const Measurement* find(const std::vector<Measurement>& lines, const std::string& family, const std::string& work) {
  const auto at = std::find_if(lines.begin(), lines.end(),
                               [&](const Measurement& m) { return m.family == family && m.work == work; });
  return at == lines.end() ? nullptr : &*at;
}

std::string share_of(const Measurement& m, const Measurement* ceiling) {
  if (!m.tera_bytes_per_s || ceiling == nullptr) return "-";
  return short_number(100 * *m.tera_bytes_per_s / ceiling->tera_bytes_per_s.value_or(0)) + " %";
}

// "> 1.6 yes, > 3.77 no"
std::string a100_cell(const Measurement& m, double peak) {
  const auto target = bench::a100_target(m, peak);
  if (!target) return "-";
  const auto verdict_on = [&](double least) {
    return "> " + short_number(least) + (*m.tera_bytes_per_s > least ? " yes" : " no");
  };
  return verdict_on(target->there) + ", " + verdict_on(target->here);
}

}  // namespace

std::string roofline_report(const bench::GpuMachine& machine, std::span<const Measurement> lines,
                            const std::vector<std::string>& checks) {
  const std::vector<Measurement> all = medians(lines);
  const Measurement *copy = find(all, "copy", "copy 4 GiB"), *read = find(all, "read", "read 4 GiB");
  std::vector<Row> rows;
  for (const Measurement& m : all) {
    if (is_traffic(m)) continue;
    const Measurement* floor = find(all, "read", m.work);
    if (floor == nullptr) floor = find(all, "copy", m.work);
    rows.push_back({m.family, m.work, m.backend, short_number(m.us),
                    m.tera_bytes_per_s ? short_number(*m.tera_bytes_per_s) : "-", share_of(m, copy), share_of(m, read),
                    floor == nullptr ? "-" : short_number(floor->us), a100_cell(m, machine.peak_tera_bytes_per_s)});
  }
  std::string text = machine.gpu + ", driver " + machine.driver + ", CUDA " + machine.cuda + ", up to " +
                     std::to_string(machine.sm_mhz) + " MHz, " + machine.date + ", commit " + machine.commit + "\n";
  if (copy != nullptr && read != nullptr) {
    text += "In this run a copy of 4 GiB moves " + short_number(*copy->tera_bytes_per_s) + " TB/s, a read " +
            short_number(*read->tera_bytes_per_s) + ". Floor: a read or copy of the same bytes. A100: its target in\nTB/s, " +
            "and the same fraction of this GPU's peak of " + short_number(machine.peak_tera_bytes_per_s) + " TB/s.\n";
  }
  text += "\n" + text_table({"family", "case", "backend", "us", "TB/s", "of copy", "of read", "floor us", "A100"}, rows) +
          "\nChecked in this run:\n";
  for (const std::string& check : checks) text += "  " + check + "\n";
  return text;
}

}  // namespace flashladder::cli
