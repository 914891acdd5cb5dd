#include "cli/roofline_table.hpp"

#include <algorithm>
#include <utility>

#include "bench/gpu_cases.hpp"
#include "bench/ladder_table.hpp"
#include "bench/roofline.hpp"
#include "cli/console.hpp"
#include "cli/plugin_timing.hpp"

namespace flashladder::cli {
namespace {

using bench::Measurement;

bool is_traffic(const Measurement& m) { return m.family == "copy" || m.family == "read"; }

bool is_ladder(const Measurement& m) { return m.family == bench::name_of(bench::Family::prefill_ladder); }

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

std::string rate(const std::optional<double>& tera_bytes_per_s) {
  return tera_bytes_per_s ? three_digits(*tera_bytes_per_s) : "-";
}

std::string share_of(const Measurement& m, const Measurement* ceiling) {
  if (!m.tera_bytes_per_s || ceiling == nullptr) return "-";
  return three_digits(100 * *m.tera_bytes_per_s / ceiling->tera_bytes_per_s.value_or(0)) + " %";
}

// Traffic of as many bytes; a line without bytes (a plan) has none, whatever its case.
std::string floor_of(const std::vector<Measurement>& all, const Measurement& m) {
  if (!m.tera_bytes_per_s) return "-";
  const Measurement* floor = find(all, "read", m.work);
  if (floor == nullptr) floor = find(all, "copy", m.work);
  return floor == nullptr ? "-" : three_digits(floor->us);
}

std::string verdict_on(const Measurement& m, double least) {
  return "> " + three_digits(least) + (*m.tera_bytes_per_s > least ? " yes" : " no");
}

std::string legend(const bench::GpuMachine& machine, const std::vector<Measurement>& all) {
  const Measurement *copy = find(all, "copy", "copy 4 GiB"), *read = find(all, "read", "read 4 GiB");
  const std::string text = paragraph(machine.gpu + ", driver " + machine.driver + ", CUDA " + machine.cuda + ", up to " +
                                     std::to_string(machine.sm_mhz) + " MHz, " + machine.date + ", commit " +
                                     machine.commit);
  if (copy == nullptr || read == nullptr) return text;
  return text +
         paragraph("In this run a copy of 4 GiB moves " + rate(copy->tera_bytes_per_s) + " TB/s, a read " +
                   rate(read->tera_bytes_per_s) + "; the data sheet's peak is " +
                   three_digits(machine.peak_tera_bytes_per_s) + ".") +
         paragraph("floor us: a read (decode) or a copy of as many bytes. A100: the TB/s that were asked of one; scaled: "
                   "the same fraction of this peak. Neither for a case whose bytes the peak moves in less than " +
                   short_number(bench::least_us_at_peak) + " us: that is latency.");
}

// Rung by rung: how fast, how far from what the tensor cores could do, and how many times as fast as the rung below.
std::string ladder_text(const bench::GpuMachine& machine, const std::vector<Measurement>& all) {
  std::vector<Row> rows;
  for (const bench::LadderRow& r : bench::ladder_rows(all, machine.peak_tera_flops)) {
    rows.push_back({r.work, r.rung, r.idea, three_digits(r.us), three_digits(r.tera_flops),
                    r.share_of_peak ? three_digits(100 * *r.share_of_peak) + " %" : "-",
                    r.gain ? three_digits(*r.gain) + "x " + r.below : "-"});
  }
  if (rows.empty()) return "";
  return text_table({"case", "rung", "idea", "us", "TFLOP/s", "of peak", "faster than"}, rows) +
         paragraph("TFLOP/s of the visible pairs; of peak: of what the data sheet has for the tensor cores, dense f16. A "
                   "rung that takes more than a second for a run is left out.") + "\n";
}

// How many lines of a family were compared in the same way.
std::string checks_text(const std::vector<LineCheck>& checks) {
  std::vector<std::pair<const LineCheck*, int>> groups;
  for (const LineCheck& check : checks) {
    const auto alike = [&](const auto& g) { return g.first->family == check.family && g.first->compared == check.compared; };
    const auto group = std::find_if(groups.begin(), groups.end(), alike);
    if (group == groups.end()) {
      groups.emplace_back(&check, 1);
    } else {
      ++group->second;
    }
  }
  std::vector<Row> rows;
  for (const auto& [check, lines] : groups) rows.push_back({check->family, std::to_string(lines), check->compared});
  return "Checked before it was timed and, but for plans, after (--json: line by line):\n" +
         text_table({"family", "lines", "compared"}, rows);
}

}  // namespace

std::string roofline_report(const bench::GpuMachine& machine, std::span<const Measurement> lines,
                            const std::vector<LineCheck>& checks) {
  const std::vector<Measurement> all = medians(lines);
  const Measurement *copy = find(all, "copy", "copy 4 GiB"), *read = find(all, "read", "read 4 GiB");
  std::vector<Row> rows;
  for (const Measurement& m : all) {
    if (is_traffic(m) || is_ladder(m)) continue;
    const auto target = bench::a100_target(m, machine.peak_tera_bytes_per_s);
    rows.push_back({m.family, m.work, m.backend, three_digits(m.us), rate(m.tera_bytes_per_s), share_of(m, copy),
                    share_of(m, read), floor_of(all, m), target ? verdict_on(m, target->there) : "-",
                    target ? verdict_on(m, target->here) : "-"});
  }
  const std::string table = rows.empty() ? "" : text_table({"family", "case", "backend", "us", "TB/s", "of copy", "of read",
                                                            "floor us", "A100", "scaled"}, rows) + "\n";
  return legend(machine, all) + "\n" + table + ladder_text(machine, all) + checks_text(checks) + places_text(all);
}

std::string cta_report(std::span<const bench::CtaProfile> profiles) {
  std::vector<Row> rows;
  for (const bench::CtaProfile& p : profiles) {
    const bench::CtaFit f = bench::fit(p);
    rows.push_back({p.work, p.policy, std::to_string(f.ctas), three_digits(f.kernel_us), three_digits(f.mean_us),
                    three_digits(f.longest_us), three_digits(f.measured_imbalance), three_digits(f.predicted_imbalance)});
  }
  return "CTAs of the top rung; longest / mean as measured, and as the plan predicted it:\n" +
         text_table({"case", "policy", "CTAs", "kernel us", "mean us", "longest us", "longest / mean", "predicted"}, rows);
}

}  // namespace flashladder::cli
