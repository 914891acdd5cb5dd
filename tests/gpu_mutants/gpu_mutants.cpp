// The proof that the GPU's proof can fail: each broken kernel must be rejected by agree() on some decode case, the unbroken
// control by none. A run is done twice, so that what only the second one meets (a counter left behind) shows too.
#include "tests/gpu_mutants/gpu_mutants.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "gpu/check.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/prefill/prefill.hpp"
#include "ladder/gpu_adapters.hpp"
#include "ladder/gpu_run.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using planner::SplitPolicy;
using test::Notice;

namespace {

// They are compiled for one architecture only, unlike the kernels.
struct SkipOnOtherGpus : test::Listener {
  using Listener::Listener;
  void test_run_start() override {
    if (!gpu::why_no_device().empty()) return;  // the other listener's case
    int device = 0, major = 0;
    gpu::check(cudaGetDevice(&device));
    gpu::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (std::atoi(FLASHLADDER_MUTANT_ARCH) / 10 == major) return;
    std::puts("the mutants are built for sm_" FLASHLADDER_MUTANT_ARCH " alone, which is not this GPU's architecture");
    std::exit(77);
  }
};
REGISTER_LISTENER("skip on other GPUs", 3, SkipOnOtherGpus);

// What a mutant's one instance computes.
enum class Cases { plain, general, prefill, plain_prefill, general_prefill, prefill_in_boxes, prefill_on_a_copy };

struct Mutant {
  std::string name, mistake;
  Notice noticed_by;
  Cases cases;
  Rung rung;
};

// Up to 8 rows, as the mutants are compiled: tests/gpu_mutants/one_instance.cuh.
GpuPlanShape claimed_shape(const CaseSpec&) { return {{8, 2}, false}; }
GpuPlanShape queues_shape(const CaseSpec&) { return {{8, 2}, true}; }
GpuPlanShape clusters_shape(const CaseSpec& spec) {
  return {.grid = {8, 1}, .queues = true, .clusters = gpu::d7::clusters(spec.params.head_dim_qk)};
}
GpuPlanShape p1_shape(const CaseSpec& spec) { return {gpu::p1::grid(spec.params), false}; }
GpuPlanShape p4_shape(const CaseSpec&) { return {gpu::lower_prefill_grid, false}; }
GpuPlanShape p5_shape(const CaseSpec& spec) { return {gpu::p5::grid(spec.params), false}; }

const std::vector<Mutant>& mutants() {
  static const std::vector<Mutant> all = [] {
    std::vector<Mutant> list;
    const auto add = [&](std::span<const test::GpuMutant> mutants, Cases cases, PlanShapeOf shape, bool p_as_kv) {
      for (const test::GpuMutant& m : mutants) {
        const gpu::CompactPages compact = m.kernels.compact;
        const GpuRung about{.name = m.name, .why_not = gpu::p1::why_not,
                            .why_not_pages = compact ? gpu::p11::why_not_pages : nullptr, .compact = compact,
                            .one_query = false, .p_as_kv = p_as_kv};
        list.push_back({m.name, m.mistake, m.noticed_by, cases, planned_on_gpu(about, shape, m.kernels.attend)});
      }
    };
    add(test::d5_mutants(), Cases::plain, claimed_shape, true);
    add(test::d6_mutants(), Cases::plain, queues_shape, true);
    add(test::d6_general_mutants(), Cases::general, queues_shape, true);
    add(test::p1_mutants(), Cases::prefill, p1_shape, false);
    add(test::p4_mutants(), Cases::plain_prefill, p4_shape, true);
    add(test::p5_mutants(), Cases::plain_prefill, p5_shape, true);
    add(test::p5_general_mutants(), Cases::general_prefill, p5_shape, true);
#ifdef FLASHLADDER_HOPPER
    add(test::d7_mutants(), Cases::plain, clusters_shape, true);
    for (const auto of_rung : {test::p6_mutants, test::p7_mutants, test::p8_mutants, test::p9_mutants, test::p10_mutants,
                               test::p11_mutants}) {
      add(of_rung(), Cases::prefill_in_boxes, p11_plan_shape, true);
    }
    add(test::compact_mutants(), Cases::prefill_on_a_copy, p11_plan_shape, true);
#endif
    return list;
  }();
  return all;
}

CaseSpec for_one_instance(CaseSpec spec, Cases cases) {
  if (cases == Cases::plain_prefill) return test::as_plain_prefill(spec);
  if (cases == Cases::prefill_in_boxes) return test::in_boxes(test::as_plain_prefill(spec));
  if (cases == Cases::prefill_on_a_copy) {
    spec = test::as_plain_prefill(spec);
    if (spec.page_size % 8 == 0) spec.page_size = spec.page_size / 8 * 3;  // 3, 6, 12: 8, 16, 32
    if (spec.page_size % 8 == 0) ++spec.page_size;
    return spec;
  }
  if (cases == Cases::general_prefill) return test::as_prefill(spec, test::f16_and_128);
  if (cases == Cases::prefill) {
    spec.dtype = DType::f16;
    return spec;
  }
  spec = cases == Cases::plain ? test::as_plain_decode(spec, DType::f16) : test::as_decode(spec, DType::f16);
  spec.params.head_dim_qk = spec.params.head_dim_vo = 128;
  if (spec.params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) spec.params.pos_encoding_mode = PosEncodingMode::ALIBI;
  return spec;
}

// Partials enough that they are merged in groups, queues of several items, an empty request.
CaseSpec cut_often(Cases cases) {
  CaseSpec spec = for_one_instance(test::random_decode(1), cases);
  spec.name = "cut often";
  spec.page_size = cases == Cases::prefill_on_a_copy ? 5 : 16;
  spec.kv_lens = {2900, 33, 0, 300};
  spec.qo_lens = {1, 1, 1, 1};
  if (cases != Cases::plain && cases != Cases::general && cases != Cases::prefill) spec.qo_lens = {40, 33, 2, 200};
  spec.params.num_qo_heads = 8;
  spec.params.num_kv_heads = 2;
  return spec;
}

struct Checked {
  Case c;
  Oracles oracles;
  gpu::DeviceProblem problem;
  explicit Checked(const CaseSpec& spec) : c(draw_case(spec)), oracles(c), problem(c.problem()) {}
};

// One made for the plan-driven kernels, 24 random ones and the case table's, or the first --cases of them.
std::deque<Checked>& cases_of(Cases kind) {
  static std::deque<Checked> lists[7];
  std::deque<Checked>& list = lists[static_cast<int>(kind)];
  if (!list.empty()) return list;
  std::vector<CaseSpec> specs{cut_often(kind)};
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    const bool decode = kind == Cases::plain || kind == Cases::general;
    const bool boxes = kind == Cases::prefill_in_boxes || kind == Cases::prefill_on_a_copy;
    specs.push_back(for_one_instance(decode  ? test::random_decode(seed)
                                     : boxes ? test::random_fast_prefill(seed) : random_spec(seed), kind));
  }
  for (const CaseSpec& spec : case_table()) specs.push_back(for_one_instance(spec, kind));
  if (test::options().cases > 0) specs.resize(std::min(specs.size(), static_cast<std::size_t>(test::options().cases)));
  for (const CaseSpec& spec : specs) list.emplace_back(spec);
  return list;
}

// For a GPU so small that a CTA's queue has several items.
constexpr Settings plans[] = {{.policy = SplitPolicy::balanced, .num_sms = 2},
                              {.policy = SplitPolicy::fixed, .chunk_size = 64, .num_sms = 3}};

RunResult second_run(const Rung& rung, const Checked& checked, const Settings& settings) {
  GpuRun run(rung, checked.c, checked.problem, settings);
  for (int i = 0; i < 2; ++i) {
    run.poison();
    run.enqueue(nullptr);
    gpu::check(cudaStreamSynchronize(nullptr));
  }
  return run.result();
}

// The cases that reject it, up to `enough`.
std::vector<std::string> rejecting_cases(const Mutant& m, std::size_t enough) {
  std::vector<std::string> names;
  for (Checked& checked : cases_of(m.cases)) {
    for (const Settings& settings : plans) {
      const Oracle& oracle = checked.oracles.of(m.rung);
      const Comparison comparison = agree(checked.c, second_run(m.rung, checked, settings), nullptr, oracle);
      if (comparison.ok()) continue;
      names.push_back(checked.c.spec.name + ", policy " + name_of(settings.policy) + ": " + comparison.message());
      if (names.size() == enough) return names;
    }
  }
  return names;
}

}  // namespace

TEST_CASE("the controls without a mistake pass every case") {
  for (const Mutant& m : mutants()) {
    if (m.noticed_by != Notice::nobody) continue;
    for (const std::string& rejected : rejecting_cases(m, 3)) FAIL_CHECK(m.name, ": ", rejected);
  }
}

TEST_CASE("agree rejects every mutant") {
  for (const Mutant& m : mutants()) {
    if (m.noticed_by != Notice::agree) continue;
    const auto rejected = rejecting_cases(m, 1);
    CHECK_MESSAGE(!rejected.empty(), "no case notices ", m.name, ": ", m.mistake);
    if (!rejected.empty()) MESSAGE(m.name, " (", m.mistake, "): ", rejected.front());
  }
}

// What they compute is no matter: tools/sanitize_gpu.py runs this case under racecheck, and wants each name reported.
TEST_CASE("mutants without a barrier run for racecheck") {
  for (const Mutant& m : mutants()) {
    if (m.noticed_by != Notice::racecheck) continue;
    const Checked checked(cut_often(m.cases));
    std::printf("racecheck must report mutant_%s\n", m.name.c_str());
    std::fflush(stdout);
    for (const Settings& settings : plans) second_run(m.rung, checked, settings);
  }
}
