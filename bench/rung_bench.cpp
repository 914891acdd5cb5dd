#include "bench/rung_bench.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "bench/sampled_check.hpp"
#include "bench/timing.hpp"
#include "ladder/agree.hpp"

namespace flashladder::bench {
namespace {

using ladder::Case;
using ladder::CaseSpec;
using ladder::RunResult;
using ladder::Rung;

bool is_decode(const CaseSpec& s) {
  return std::all_of(s.qo_lens.begin(), s.qo_lens.end(), [](std::int32_t n) { return n == 1; });
}

}  // namespace

std::vector<RungTiming> time_rungs(const Case& c, std::span<const Rung* const> rungs, const ladder::Settings& settings,
                                   int rounds, const std::function<void(const std::string&)>& say) {
  say("checking sample of " + c.spec.name);
  const SampledOracle sample = sampled_oracle(c);
  std::map<std::string, RunResult> results;
  std::vector<RungTiming> timings;
  for (const Rung* rung : rungs) {
    if (!rung->supports(c.spec)) continue;
    const std::string& below = rung->must_equal;
    if (!below.empty() && !results.contains(below)) {
      say(below + " on " + c.spec.name + ", once, to compare with");
      results[below] = run_rung(ladder::rung(below), c, settings);
    }
    say(rung->name + " on " + c.spec.name);
    const RunResult& result = results[rung->name] = run_rung(
        *rung, c, settings, [&](const std::function<void()>& run) { return median_ms(rounds, run); });
    const int threads = rung->parallel ? settings.thread_count() : 1;
    Measurement line = cpu_line(c.spec, "flashladder " + rung->name, result.milliseconds, threads);
    ladder::Comparison agreement = agree(c, result, below.empty() ? nullptr : &results[below], sample);
    line.nearest = {agreement.worst().error, agreement.worst().tolerance};
    timings.push_back({std::move(line), rung->name, below, sample.text(), std::move(agreement)});
  }
  return timings;
}

// Decode reads every key and value once, a latent row once for both; prefill is measured by its multiplications; an append
// between the two by both.
Measurement cpu_line(const CaseSpec& s, const std::string& backend, double ms, int threads) {
  const AttentionParams& p = s.params;
  const double dims = p.head_dim_qk + p.head_dim_vo;
  const double token = s.op == ladder::Op::mla ? p.head_dim_qk : p.num_kv_heads * dims;
  const double bytes = static_cast<double>(s.total_kv()) * token * static_cast<double>(size_of(s.cache_dtype()));
  const double flops = 2 * static_cast<double>(s.visible_pairs()) * dims * p.num_qo_heads;
  const std::string layout = s.op == ladder::Op::mla ? "" : name_of(s.kv_layout) + std::string(" ");
  const std::string pages = ", " + layout + "p" + std::to_string(s.page_size);
  Measurement m{.family = "cpu", .work = cpu_case_string(s), .backend = backend + pages, .us = ms * 1e3,
                .tera_flops = flops / ms * 1e-9, .threads = threads};
  if (s.nnz_qo() < s.total_kv()) m.tera_bytes_per_s = bytes / ms * 1e-9;
  return m;
}

std::string cpu_case_string(const CaseSpec& spec) {
  CaseSpec s = spec;  // what only we know is left out of it, and the head dim is always named
  s.kv_layout = KvLayout::NHD;
  if (s.op == ladder::Op::mla) {
    s.page_size = 64;  // which is what a case string leaves out
    return "mla " + case_string(s) + (s.dtype == DType::f16 ? " f16" : "");
  }
  const bool decode = is_decode(s), prefill = s.qo_lens == s.kv_lens;
  std::string text = case_string(s);
  const std::string pages = " p" + std::to_string(s.page_size), dim = s.params.head_dim_qk == 128 ? " d128" : "";
  text.replace(text.find(pages + (text.ends_with(pages) ? "" : " ")), pages.size(), dim);
  if (s.dtype == DType::f16) text += " f16";
  return (decode ? "decode " : prefill ? "prefill " : "append ") + text;
}

std::vector<CaseSpec> standard_cases() {
  CaseSpec prefill;
  prefill.qo_lens = prefill.kv_lens = {2048};
  prefill.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
                    .sm_scale = default_sm_scale(128), .mask = MaskMode::causal};
  CaseSpec decode = prefill;
  decode.qo_lens.assign(32, 1);
  decode.kv_lens.assign(32, 2048);
  decode.params.mask = MaskMode::none;
  std::vector<CaseSpec> cases;
  for (CaseSpec s : {prefill, decode}) {
    for (const KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
      s.kv_layout = layout;
      s.name = case_string(s);
      cases.push_back(s);
    }
  }
  return cases;
}

}  // namespace flashladder::bench
