// The proof of the GPU ladder: every GPU rung equals the nearest rung below that takes the case (D1 and P1 the CPU's C4) and
// the double oracle, on the case table and on random cases. Outputs and workspace start as NaN between guard bands, unused
// cache slots hold NaN.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <stdexcept>

#include "gpu/check.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/gpu_run.hpp"
#include "reference/thread_pool.hpp"
#include "tests/behind_one.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"
#include "tests/uneven_heads.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

// How often each GPU rung ran, and how often its tolerance decided nothing (bf16 with logits near 1e5): one that refuses
// every case, or that nothing decides, would prove nothing.
struct Runs {
  std::atomic<int> all = 0, undecided = 0;
};
std::map<std::string, Runs>& runs_of_rungs() {
  static std::map<std::string, Runs> runs;
  return runs;
}

// What is wrong with the GPU rungs on one case, "" if nothing.
std::string complaint(const Case& c, const Settings& settings) {
  const CaseSpec& spec = c.spec;
  Oracles oracles(c);  // how a rung rounds decides the tolerance
  std::map<std::string, RunResult> results{{"C4", run_rung(rung("C4"), c, settings)}};
  const gpu::DeviceProblem problem(c.problem());
  std::string all;
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu || !rung.supports(spec)) continue;
    const GpuRun run(rung, c, problem, settings);
    run.enqueue(nullptr);
    gpu::check(cudaStreamSynchronize(nullptr));
    const RunResult& result = results[rung.name] = run.result();
    const Comparison comparison = agree(c, result, &results.at(rung_below(rung, spec)->name), oracles.of(rung));
    if (comparison.verdict() == Verdict::fail) all += "\n  " + rung.name + ": " + comparison.message();
    Runs& runs = runs_of_rungs().at(rung.name);
    ++runs.all;
    if (comparison.verdict() == Verdict::undecided) ++runs.undecided;
  }
  return all;
}

struct Trial {
  CaseSpec spec;
  Settings settings;
  Case (*draw)(const CaseSpec&) = draw_case;
};

std::string complaint_or_error(const Trial& trial) {
  const std::string name = "case: " + trial.spec.name + " (seed " + std::to_string(trial.spec.seed) + ")";
  try {
    const std::string what = complaint(trial.draw(trial.spec), trial.settings);
    return what.empty() ? "" : name + what;
  } catch (const std::exception& error) {
    throw std::runtime_error(name + " threw: " + error.what());
  }
}

// Trials 0 .. n - 1 on all cores, one check each: drawing a case and its oracle is most of the work, and the CPU's. An
// exception ends it, since an error of the GPU stays: what follows would only repeat it.
template <class TrialOf>
void check_all(int n, const TrialOf& trial_of) {
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu) continue;
    Runs& runs = runs_of_rungs()[rung.name];
    runs.all = runs.undecided = 0;
  }
  reference::ThreadPool pool(reference::ThreadPool::hardware_threads());
  std::vector<std::string> wrong(n);
  std::atomic<int> done = 0;
  pool.claim(n, pool.size(), [&](std::int32_t i, int) {
    wrong[i] = complaint_or_error(trial_of(i));
    if (const int now = ++done; now % 1000 == 0) std::printf("%d of %d cases\n", now, n), std::fflush(stdout);
  });
  for (const std::string& what : wrong) CHECK_MESSAGE(what.empty(), what);
  if (n < 100) return;  // as under a sanitizer: too few to say
  for (const auto& [name, runs] : runs_of_rungs()) {
    CHECK_MESSAGE(runs.all > n / 20, name, " took ", runs.all.load(), " of ", n, " cases");
    CHECK_MESSAGE(runs.undecided <= runs.all / 30, name, ": ", runs.undecided.load(), " of ", runs.all.load(), " undecided");
  }
}

constexpr planner::SplitPolicy policies[] = {planner::SplitPolicy::balanced, planner::SplitPolicy::fixed,
                                             planner::SplitPolicy::none, planner::SplitPolicy::count};

}  // namespace

TEST_CASE("every GPU rung equals the rung below on the case table") {
  const std::vector<CaseSpec> table = test::gpu_table();
  constexpr Settings settings[] = {{.threads = 1},
                                   {.threads = 1, .policy = planner::SplitPolicy::fixed, .chunk_size = 64},
                                   {.threads = 1, .num_sms = 1}};
  const auto all = static_cast<std::int64_t>(3 * table.size());
  const auto cases = static_cast<int>(std::min<std::int64_t>(test::options().cases_or(1 << 20), all));  // spread evenly
  check_all(cases, [&](int i) {
    const std::int64_t at = i * all / cases;
    return Trial{table[at / 3], settings[at % 3]};
  });
}

// For compute-sanitizer, which sees few cases: all rungs are among these.
TEST_CASE("every GPU rung runs on one of eight small cases") {
  CaseSpec decode{.name = "small decode", .seed = 1, .qo_lens = {1, 1}, .kv_lens = {33, 200}, .dtype = DType::f16};
  decode.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = MaskMode::causal};
  CaseSpec prefill = decode;
  prefill.name = "small prefill";
  prefill.qo_lens = {40, 130}, prefill.kv_lens = {90, 300};
  CaseSpec small_pages = prefill;  // which P11 takes behind another kernel
  small_pages.name = "small prefill on small pages";
  small_pages.page_size = 5, small_pages.params.window_left = 60;
  CaseSpec rotated = small_pages;  // which P5 and P11 take behind another kernel
  rotated.name = "small prefill with RoPE";
  rotated.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
  CaseSpec masked = prefill, of_drafts = prefill;  // whose bits another kernel makes; whose queries D6 has side by side
  masked.name = "small prefill with a custom mask";
  masked.custom_mask = CustomMask::holes, masked.params.mask = MaskMode::custom;
  of_drafts.name = "a small batch of drafts";
  of_drafts.qo_lens = {4, 3};
  const CaseSpec narrow = test::on_fp8(decode, 2), widened = test::on_fp8(small_pages, 1);
  const CaseSpec* const specs[] = {&decode, &prefill, &small_pages, &rotated, &narrow, &widened, &masked, &of_drafts};
  check_all(8, [&](int i) { return Trial{*specs[i], {.threads = 1, .num_sms = 2}}; });
  CHECK(rung("D6").supports(decode));  // there is a GPU, or the test is skipped
  for (const auto& [name, runs] : runs_of_rungs()) {
    const Rung& r = rung(name);
    CHECK_MESSAGE((runs.all > 0 || (!r.supports(decode) && !r.supports(prefill))), name, " takes one and ran on neither");
  }
}

TEST_CASE("every GPU rung equals the rung below on random cases") {
  const int cases = test::options().cases_or(400);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  check_all(cases, [](int i) {
    // Most plans are for a GPU smaller than this one: then a CTA's queue has several items, though the case is small.
    const Settings settings{.threads = 1, .policy = policies[i % 4], .chunk_size = 64,
                            .num_sms = i % 5 == 0 ? 0 : 1 + i % 7};
    return Trial{test::random_gpu_case(test::options().seed + i), settings};
  });
}

TEST_CASE("query heads of any size on fp8 caches") {
  std::vector<Trial> trials;
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      CaseSpec spec = test::as_decode(test::random_decode(seed), dtype);
      spec.values = Values::normal;
      trials.push_back({test::on_fp8(spec, seed), {.threads = 1}, [](const CaseSpec& s) { return test::uneven_heads(s); }});
    }
  }
  check_all(static_cast<int>(trials.size()), [&](int i) { return trials[i]; });
}

TEST_CASE("no GPU rung loses more of the weights behind a weight of 1 than its chains explain") {
  std::vector<Trial> trials;
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    for (const std::int32_t head_dim : {64, 128}) {
      CaseSpec spec{.name = "behind one", .qo_lens = {1, 1}, .kv_lens = {300, 3000}, .dtype = dtype};
      spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = head_dim, .head_dim_vo = head_dim,
                     .sm_scale = default_sm_scale(head_dim)};
      for (const planner::SplitPolicy policy : policies) {
        trials.push_back({spec, {.threads = 1, .policy = policy, .chunk_size = 256},
                          [](const CaseSpec& s) { return test::behind_one(s); }});
      }
    }
  }
  check_all(static_cast<int>(trials.size()), [&](int i) { return trials[i]; });
  for (const auto& [name, runs] : runs_of_rungs()) CHECK_MESSAGE(runs.all > 0, name, " took none");
}

TEST_CASE("what a rung does not take it refuses with the reason") {
  const CaseSpec good = test::as_plain_decode(test::random_decode(3), DType::f16);
  const auto refused = [&](const char* name, auto change, const char* why) {
    CaseSpec spec = good;
    spec.params.head_dim_qk = spec.params.head_dim_vo = 128;
    change(spec);
    const Support support = rung(name).supports(spec);
    CHECK_MESSAGE(support.reason.find(why) != std::string::npos, name, ": got: ", support.reason, ", wanted: ", why);
  };
  refused("D1", [](CaseSpec& s) { s.qo_lens.back() = 2; }, "has 2 queries");
  refused("D6", [](CaseSpec& s) {
    s.params.num_qo_heads = 4 * s.params.num_kv_heads, s.qo_lens.back() = 5;
  }, "has 5 queries, this decode rung takes up to 4");
  refused("D6", [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ALIBI, s.qo_lens.back() = 2;
  }, "has 2 queries, this decode rung takes one of each");
  refused("D1", [](CaseSpec& s) { s.params.head_dim_vo = 30000; }, "more than");
  refused("P1", [](CaseSpec& s) { s.params.head_dim_vo = 60000; }, "more than");
  refused("P1", [](CaseSpec& s) {
    s.params.head_dim_qk = 600, s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
  }, "with ROPE_LLAMA");
  refused("P2", [](CaseSpec& s) { s.dtype = DType::bf16; }, "bf16");
  refused("P4", [](CaseSpec& s) { s.params.head_dim_vo = 64; }, "128 with head_dim_vo 64");
  refused("P3", [](CaseSpec& s) { s.params.pos_encoding_mode = PosEncodingMode::ALIBI; }, "ALIBI");
  refused("P5", [](CaseSpec& s) { s.dtype = DType::f32; }, "f32");
  refused("P6", [](CaseSpec& s) { s.dtype = DType::bf16; }, "bf16");
  refused("P8", [](CaseSpec& s) { s.page_size = 12; }, "page_size 12, which is no multiple of 8");
  refused("P10", [](CaseSpec& s) { s.params.logits_soft_cap = 3; }, "soft cap");
  refused("P5", [](CaseSpec& s) { s.params.head_dim_vo = 256; }, "none of");
  refused("P4", [](CaseSpec& s) { s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }, "ROPE_LLAMA");
  refused("D5", [](CaseSpec& s) { s.dtype = DType::bf16; }, "bf16");
  refused("D5", [](CaseSpec& s) { s.params.head_dim_qk = s.params.head_dim_vo = 256; }, "head_dim 256");
  refused("D5", [](CaseSpec& s) { s.params.logits_soft_cap = 3; }, "soft cap");
  refused("D5", [](CaseSpec& s) { s.params.mask = MaskMode::custom; }, "custom mask");
  refused("D5", [](CaseSpec& s) { s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }, "ROPE_LLAMA");
  refused("D6", [](CaseSpec& s) { s.dtype = DType::f32; }, "f32");
  refused("D6", [](CaseSpec& s) { s.params.head_dim_qk = s.params.head_dim_vo = 80; }, "head_dim 80");
  refused("D6", [](CaseSpec& s) { s.params.head_dim_vo = 64; }, "differ");
}

TEST_CASE("guard bands notice one byte on either side") {
  gpu::DeviceBuffer buffer(1000, gpu::DeviceBuffer::guard_band);
  for (const int at : {-1, 1000}) {
    buffer.poison();
    CHECK(buffer.guards_intact());
    gpu::check(cudaMemset(buffer.data() + at, 0, 1));
    CHECK_FALSE(buffer.guards_intact());
  }
}

TEST_CASE("a failed CUDA call says where and what") {
  CHECK_THROWS_WITH_AS(gpu::check(cudaErrorMemoryAllocation), doctest::Contains("ladder_gpu.cpp"), gpu::CudaError);
}
