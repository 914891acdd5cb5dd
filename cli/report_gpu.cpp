// On a GPU, within a time limit: both ladders on one case each, decode's top rung over lengths, batches and skewed batches,
// prefill over sequence lengths, the operations around attention, and the CTAs of two plans.
#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "bench/gpu_bench.hpp"
#include "bench/report/lane_lines.hpp"
#include "cli/console.hpp"
#include "cli/report_run.hpp"
#include "core/error.hpp"

namespace flashladder::cli {
namespace {

using bench::Family;
using bench::Measurement;
using ladder::CaseSpec;
using Clock = std::chrono::steady_clock;
using Say = std::function<void(const std::string&)>;

std::vector<const ladder::Rung*> decode_rungs() {
  std::vector<const ladder::Rung*> rungs;
  for (const ladder::Rung& rung : ladder::rungs()) {
    if (rung.device == Device::gpu && rung.one_query) rungs.push_back(&rung);
  }
  return rungs;
}

CaseSpec even_decode(std::int32_t batch, std::int32_t kv_len) {
  return bench::decode_case("B" + std::to_string(batch) + " kv" + std::to_string(kv_len),
                            std::vector<std::int32_t>(static_cast<std::size_t>(batch), kv_len), 32, 8);
}

// B32 kv2048, which all decode rungs run, is a point of both curves.
std::vector<CaseSpec> decode_curves() {
  std::vector<CaseSpec> cases;
  for (const std::int32_t kv_len : {512, 1024, 4096, 8192}) cases.push_back(even_decode(32, kv_len));
  for (const std::int32_t batch : {1, 8, 128}) cases.push_back(even_decode(batch, 2048));
  return cases;
}

// Those of bench decode whose requests differ, and one long request by itself.
std::vector<CaseSpec> skewed_decodes() {
  std::vector<CaseSpec> cases;
  for (const CaseSpec& s : bench::decode_cases()) {
    const bool skewed = s.batch() == 1 || s.kv_lens.front() != s.kv_lens.back() || s.kv_lens.front() != s.kv_lens[1];
    const bool usual = s.params.num_qo_heads == 32 && s.params.num_kv_heads == 8 && s.page_size == 16;
    if (usual && skewed) cases.push_back(s);
  }
  return cases;
}

// 16384 tokens in all, in ever fewer requests; then few queries on many keys, where memory limits.
std::vector<CaseSpec> prefills() {
  std::vector<CaseSpec> cases;
  for (const std::int32_t batch : {16, 8, 4, 2, 1}) cases.push_back(bench::prefill_case(batch, 16384 / batch));
  for (const char* name : {"B8 q512 kv16384 32/8 p16 causal", "B64 q16 kv8192 32/8 p16 causal",
                           "B64 q4 kv8192 32/8 p16 causal"}) {
    cases.push_back(bench::prefill_case(name));
  }
  return cases;
}

// What is prepared together and timed in rounds together; share: of the time limit.
struct Step {
  const char* name;
  double share;
  std::function<std::vector<bench::TimedWork>(Clock::time_point until, const Say& say)> prepare;
};

// What the targets are about comes before the prefill ladder, whose lowest rungs may take long on a slow GPU.
std::vector<Step> steps(const std::shared_ptr<bench::GpuTimer>& timer) {
  const auto family = [timer](Family which, std::vector<const ladder::Rung*> rungs, std::vector<CaseSpec> specs) {
    return [=](Clock::time_point until, const Say& say) {
      return bench::prepare(which, {.rungs = rungs, .specs = specs, .until = until}, timer, say);
    };
  };
  std::vector<CaseSpec> decodes = decode_curves();
  for (CaseSpec& spec : skewed_decodes()) decodes.push_back(std::move(spec));
  const std::vector<const ladder::Rung*> rungs = decode_rungs();
  return {{"GEMM", 0.05, [timer](Clock::time_point, const Say&) { return bench::prepare_gemm(timer); }},
          {"the decode ladder", 0.1, family(Family::decode, rungs, {even_decode(32, 2048)})},
          {"decode over lengths and batches", 0.25, family(Family::decode, {rungs.back()}, decodes)},
          {"prefill over lengths", 0.2, family(Family::prefill, {}, prefills())},
          {"append", 0.05, family(Family::append, {}, {})},
          {"norms", 0.1, family(Family::norm, {}, {})},
          {"RoPE", 0.05, family(Family::rope, {}, {})},
          {"the prefill ladder", 0.15, family(Family::prefill_ladder, {}, {bench::prefill_case(1, 2048)})}};
}

void time_work(MeasuredLines& all, bench::TimedWork& work, int run) {
  Measurement line = work.line;
  line.run = run;
  line.us = work.time_us();
  if (work.bytes > 0) line.tera_bytes_per_s = 1e-6 * work.bytes / line.us;
  if (work.flops > 0) line.tera_flops = 1e-6 * work.flops / line.us;
  const std::string now = work.recheck ? work.recheck() : "";
  if (now.empty()) all.add(bench::to_json(line));
  else work.failure = "after it was timed: " + now;
}

// The works in rounds, as many as the time allows; the first one as far as `limit` does.
void time_in_rounds(MeasuredLines& all, std::vector<bench::TimedWork>& works, int rounds, Clock::time_point until,
                    Clock::time_point limit, const Say& say) {
  Clock::duration a_round{};
  for (int run = 1; run <= rounds && (run == 1 || Clock::now() + a_round < until); ++run) {
    const Clock::time_point begin = Clock::now();
    for (bench::TimedWork& work : works) {
      if (!work.failure.empty()) continue;
      if (Clock::now() > limit) {
        all.left_out += run == 1;
        continue;
      }
      say(work.line.work + ", " + work.line.backend + ", run " + std::to_string(run));
      time_work(all, work, run);
    }
    a_round = Clock::now() - begin;
  }
  for (const bench::TimedWork& work : works) {
    if (!work.failure.empty()) all.failures.push_back(work.line.work + ", " + work.line.backend + ": " + work.failure);
  }
}

void profile_two_plans(MeasuredLines& all, const bench::GpuTimer& timer, const Say& say) {
  std::vector<CaseSpec> cases;
  for (const CaseSpec& s : skewed_decodes()) {
    if (s.name == "mixed16 32/8 p16" || s.name == "1 x 65536 + 31 x 4096 32/8 p16") cases.push_back(s);
  }
  try {
    for (const bench::CtaProfile& ctas : bench::profile_ctas(cases, timer, say)) all.add(bench::to_json(ctas));
  } catch (const InputError& wrong) {
    all.failures.push_back(wrong.what());
  }
}

}  // namespace

MeasuredLines measure_gpu_families(int rounds) {
  Progress progress;
  MeasuredLines all;
  const Say say = [&](const std::string& what) { progress.say(what); };
  const Clock::time_point limit = Clock::now() + gpu_time_limit;
  all.add(bench::to_json(bench::gpu_machine()));
  const std::shared_ptr<bench::GpuTimer> timer = bench::gpu_timer();
  Clock::time_point until = Clock::now();  // what a step leaves of its share is the next one's
  for (const Step& step : steps(timer)) {
    until += std::chrono::duration_cast<Clock::duration>(gpu_time_limit * step.share);
    if (Clock::now() > limit) {
      ++all.left_out;
      continue;
    }
    for (Measurement ceiling : bench::time_ceilings(*timer)) all.add(bench::to_json(ceiling));
    say("preparing " + std::string(step.name));
    std::vector<bench::TimedWork> works = step.prepare(limit, say);
    all.left_out += Clock::now() > limit;  // for the cases that were not prepared
    time_in_rounds(all, works, rounds, until, limit, say);
  }
  if (Clock::now() < limit) profile_two_plans(all, *timer, say);
  else ++all.left_out;
  return all;
}

}  // namespace flashladder::cli
