// The proof of the GPU's rungs of latent attention: each equals the rung below, L4 the CPU's L3, and the double oracle, and
// gives the same bits each time it runs.
#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/gpu_run.hpp"
#include "reference/thread_pool.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"
#include "tests/repeated.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using planner::SplitPolicy;

namespace {

// Those that this GPU runs.
std::vector<const Rung*> latent_rungs() {
  std::vector<const Rung*> list;
  const CaseSpec spec = test::as_latent(mla_case_table().front(), DType::f16);
  for (const Rung& rung : mla_rungs()) {
    if (rung.device == Device::gpu && rung.supports(spec)) list.push_back(&rung);
  }
  return list;
}

struct LatentTrial {
  CaseSpec spec;
  std::vector<Settings> settings;
};

// How often the rungs ran, and how often their tolerance decided nothing.
struct LatentRuns {
  std::atomic<int> all = 0, undecided = 0;
};

// What is wrong with the rungs on one case, "" if nothing.
std::string wrong_latents(const LatentTrial& trial, LatentRuns& runs) {
  const Case c = draw_case(trial.spec);
  Oracles oracles(c);
  const DeviceCase on_device(c, Op::mla);
  std::map<std::string, RunResult> results{{"L3", run_rung(rung("L3"), c, trial.settings.front())}};
  std::string wrong;
  for (const Settings& settings : trial.settings) {
    for (const Rung* rung : latent_rungs()) {
      if (!rung->supports(trial.spec)) continue;
      const GpuRun run(*rung, c, on_device, settings);
      run.enqueue(nullptr);
      gpu::check(cudaStreamSynchronize(nullptr));
      const RunResult& result = results[rung->name] = run.result();
      const Comparison comparison = agree(c, result, &results.at(rung_below(*rung, c.spec)->name), oracles.of(*rung));
      ++runs.all, runs.undecided += comparison.verdict() == Verdict::undecided;
      if (comparison.verdict() != Verdict::fail) continue;
      wrong += "\n  " + rung->name + ", policy " + name_of(settings.policy) + ": " + comparison.message();
    }
  }
  return wrong.empty() ? "" : "case: " + trial.spec.name + " (seed " + std::to_string(trial.spec.seed) + ")" + wrong;
}

// On all cores: the oracle is most of the work.
void check_latents(const std::vector<LatentTrial>& trials) {
  LatentRuns runs;
  std::vector<std::string> wrong(trials.size());
  reference::ThreadPool pool(reference::ThreadPool::hardware_threads());
  pool.claim(std::ssize(trials), pool.size(), [&](std::int32_t i, int) { wrong[i] = wrong_latents(trials[i], runs); });
  for (const std::string& what : wrong) CHECK_MESSAGE(what.empty(), what);
  int expected = 0;
  for (const LatentTrial& trial : trials) {
    for (const Rung* rung : latent_rungs()) {
      if (rung->supports(trial.spec)) expected += static_cast<int>(trial.settings.size());
    }
  }
  CHECK(runs.all == expected);
  CHECK(runs.undecided <= expected / 100);
}

// One long request among many short and some empty ones, as ladder_gpu_repeat.cpp has it: decode, or drafts of up to three
// queries, whose rows take several tiles and are claimed where there are few SMs. 20 heads leave tiles partly filled.
CaseSpec skewed_latents(bool drafts, std::int32_t longest, std::int32_t page_size) {
  CaseSpec spec = test::as_latent(mla_case_table().front(), DType::f16);
  spec.name = drafts ? "skewed drafts" : "skewed decode";
  spec.page_size = page_size;
  spec.kv_lens.clear(), spec.qo_lens.clear();
  for (std::int32_t b = 0; b < 24; ++b) {
    spec.kv_lens.push_back(b == 7 ? longest : b % 5 == 0 ? 0 : 1 + 97 * b % 700);
    spec.qo_lens.push_back(drafts ? b % 4 : 1);
  }
  spec.params.num_qo_heads = drafts ? 130 : 20;
  if (drafts) spec.params.mask = MaskMode::causal;
  return spec;
}

constexpr std::int32_t in_boxes = 16, not_in_boxes = 5;  // L5's two ways to copy pages of such sizes

}  // namespace

TEST_CASE("every GPU rung of latent attention equals the rung below on the case table") {
  std::vector<LatentTrial> trials;
  for (const CaseSpec& spec : mla_case_table()) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      trials.push_back({test::as_latent(spec, dtype),
                        {{.threads = 1}, {.threads = 1, .policy = SplitPolicy::fixed, .chunk_size = 64},
                         {.threads = 1, .num_sms = 1}}});
    }
  }
  check_latents(trials);
}

TEST_CASE("every GPU rung of latent attention equals the rung below on random cases") {
  constexpr SplitPolicy policies[] = {SplitPolicy::balanced, SplitPolicy::fixed, SplitPolicy::none, SplitPolicy::count};
  const int cases = test::options().cases_or(300);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  std::vector<LatentTrial> trials;
  for (int i = 0; i < cases; ++i) {
    const Settings settings{.threads = 1, .policy = policies[i % 4], .chunk_size = 64, .num_sms = i % 5 == 0 ? 0 : 1 + i % 7};
    const CaseSpec spec = random_mla_spec(test::options().seed + static_cast<std::uint64_t>(i));
    trials.push_back({test::as_latent(spec, i % 3 == 0 ? DType::bf16 : DType::f16), {settings}});
  }
  check_latents(trials);
}

TEST_CASE("the same latents give the same bits over 100 runs") {
  for (const Rung* rung : latent_rungs()) {
    for (const Settings& settings : {Settings{.policy = SplitPolicy::balanced},
                                     Settings{.policy = SplitPolicy::fixed, .chunk_size = 256, .num_sms = 8}}) {
      const std::int32_t page_size = settings.policy == SplitPolicy::fixed ? not_in_boxes : in_boxes;
      for (const bool drafts : {false, true}) {
        const CaseSpec spec = skewed_latents(drafts, 9000, page_size);
        test::Repeated repeated(*rung, spec, settings);
        const int runs = test::times_or(100), differing = repeated.differing(runs);
        CHECK_MESSAGE(differing == 0, rung->name, ", ", spec.name, ", policy ", name_of(settings.policy), ": ", differing,
                      " of ", runs, " runs differ");
      }
    }
  }
}

TEST_CASE("what shared memory held before decides nothing of latent attention") {
  for (const Rung* rung : latent_rungs()) {
    for (const std::int32_t page_size : {in_boxes, not_in_boxes}) {
      for (const bool drafts : {false, true}) {
        const CaseSpec spec = skewed_latents(drafts, 900, page_size);
        test::Repeated repeated(*rung, spec, {.policy = SplitPolicy::balanced});
        for (const std::uint32_t word : {0u, 0x70007000u}) {  // large in f16, in bf16 and in f32
          CHECK_MESSAGE(repeated.same_behind(word), rung->name, ", ", spec.name, ", page_size ", page_size, ", word ", word);
        }
      }
    }
  }
}

// Each for some of the SMs, so that the GPU has room for both.
TEST_CASE("two plans of latent attention run at once on two streams and give what they give alone") {
  for (const Rung* rung : latent_rungs()) {
    test::Repeated a(*rung, skewed_latents(false, 6000, in_boxes), {.policy = SplitPolicy::balanced, .num_sms = 40});
    test::Repeated b(*rung, skewed_latents(true, 2500, not_in_boxes),
                     {.policy = SplitPolicy::fixed, .chunk_size = 128, .num_sms = 24});
    const int runs = test::times_or(50);
    const test::Beside differing = differing_beside(a, b, runs);
    CHECK_MESSAGE(differing.first == 0, rung->name, ", ", a.c.spec.name, ": ", differing.first, " of ", runs, " runs differ");
    CHECK_MESSAGE(differing.second == 0, rung->name, ", ", b.c.spec.name, " beside it: ", differing.second, " of ", runs,
                  " runs differ");
  }
}
