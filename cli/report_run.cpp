#include "cli/report_run.hpp"

#include <cmath>
#include <utility>

#include "bench/bandwidth.hpp"
#include "bench/gpu_bench.hpp"
#include "bench/rung_bench.hpp"
#include "cli/console.hpp"
#include "cli/options.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::cli {
namespace {

using bench::Measurement;
using ladder::CaseSpec;

constexpr int rounds_of_one_line = 3;  // of a CPU rung: the median of these is a run's line

// Lengths double and batches double, so that the report can draw both; a prefill of two lengths; all of it seconds, C0 too.
std::vector<CaseSpec> cpu_cases() {
  std::vector<CaseSpec> cases;
  const auto add = [&](std::int32_t batch, std::int32_t qo_len, std::int32_t kv_len) {
    CaseSpec s;
    s.qo_lens.assign(static_cast<std::size_t>(batch), qo_len);
    s.kv_lens.assign(static_cast<std::size_t>(batch), kv_len);
    s.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
                .sm_scale = default_sm_scale(128), .mask = qo_len > 1 ? MaskMode::causal : MaskMode::none};
    s.name = case_string(s);
    cases.push_back(std::move(s));
  };
  for (const std::int32_t kv_len : {512, 1024, 2048, 4096}) add(4, 1, kv_len);
  for (const std::int32_t batch : {1, 2, 8}) add(batch, 1, 2048);
  for (const std::int32_t length : {64, 128, 256}) add(1, length, length);
  return cases;
}

void add_line(MeasuredLines& all, const ladder::Json& line) { all.json_lines += report_json(line) + "\n"; }

void add_timing(MeasuredLines& all, const bench::RungTiming& t, int run) {
  if (!t.agreement.ok()) {
    all.failures.push_back(t.line.work + ", " + t.line.backend + ": " + t.agreement.message());
    return;
  }
  Measurement line = t.line;
  line.run = run;
  ladder::Json json = bench::to_json(line);
  json["error"] = t.agreement.worst().error;
  json["tolerance"] = t.agreement.worst().tolerance;
  add_line(all, json);
}

// Over lengths, over batches, skewed.
std::vector<CaseSpec> gpu_decode_cases() {
  std::vector<CaseSpec> cases;
  for (const CaseSpec& s : bench::decode_cases()) {
    if (s.params.num_qo_heads == 32 && s.params.num_kv_heads == 8 && s.page_size == 16) cases.push_back(s);
  }
  for (const std::int32_t batch : {1, 8, 128}) {
    const std::string name = "B" + std::to_string(batch) + " kv2048";
    cases.push_back(bench::decode_case(name, std::vector<std::int32_t>(static_cast<std::size_t>(batch), 2048), 32, 8));
  }
  return cases;
}

bench::GpuWorkOptions gpu_work(bench::Family family) {
  bench::GpuWorkOptions options;
  if (family != bench::Family::decode) return options;
  options.specs = gpu_decode_cases();
  for (const ladder::Rung& rung : ladder::rungs()) {
    const bool decodes = rung.device == Device::gpu && rung.name.starts_with("D");
    if (decodes && rung.supports(options.specs.front())) options.rungs.push_back(&rung);
  }
  return options;
}

void time_work(MeasuredLines& all, bench::TimedWork& work, int run) {
  if (!work.failure.empty()) return;
  Measurement line = work.line;
  line.run = run;
  line.us = work.time_us();
  if (work.bytes > 0) line.tera_bytes_per_s = 1e-6 * work.bytes / line.us;
  if (work.flops > 0) line.tera_flops = 1e-6 * work.flops / line.us;
  const std::string now = work.recheck ? work.recheck() : "";
  if (now.empty()) add_line(all, bench::to_json(line));
  else work.failure = "after it was timed: " + now;
}

}  // namespace

MeasuredLines measure_cpu_rungs(const ladder::Settings& settings, int rounds) {
  Progress progress;
  MeasuredLines all;
  add_line(all, bench::to_json(bench::this_machine()));
  std::vector<const ladder::Rung*> rungs;
  for (const ladder::Rung& rung : ladder::rungs()) {
    if (rung.device == Device::cpu) rungs.push_back(&rung);
  }
  for (int run = 1; run <= rounds; ++run) {
    progress.say("memory bandwidth");
    for (Measurement line : bench::measure_bandwidth(settings.thread_count(), rounds_of_one_line)) {
      line.run = run;
      add_line(all, bench::to_json(line));
    }
    for (const CaseSpec& spec : cpu_cases()) {
      const auto timings = bench::time_rungs(draw_case(spec), rungs, settings, rounds_of_one_line,
                                             [&](const std::string& what) { progress.say(what); });
      for (const bench::RungTiming& t : timings) add_timing(all, t, run);
    }
  }
  return all;
}

MeasuredLines measure_gpu_families(int rounds) {
  using bench::Family;
  Progress progress;
  MeasuredLines all;
  add_line(all, bench::to_json(bench::gpu_machine()));
  const std::shared_ptr<bench::GpuTimer> timer = bench::gpu_timer();
  for (const Family family : {Family::decode, Family::prefill, Family::append, Family::norm, Family::rope}) {
    std::vector<bench::TimedWork> works =
        bench::prepare(family, gpu_work(family), timer, [&](const std::string& what) { progress.say(what); });
    for (int run = 1; run <= rounds; ++run) {
      for (Measurement ceiling : bench::time_ceilings(*timer)) {
        ceiling.run = run;
        add_line(all, bench::to_json(ceiling));
      }
      for (bench::TimedWork& work : works) {
        progress.say(work.line.work + ", " + work.line.backend);
        time_work(all, work, run);
      }
    }
    for (const bench::TimedWork& work : works) {
      if (!work.failure.empty()) all.failures.push_back(work.line.work + ", " + work.line.backend + ": " + work.failure);
    }
  }
  return all;
}

}  // namespace flashladder::cli
