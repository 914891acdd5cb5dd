// The proof of the GPU ladder: every GPU rung equals the rung below (D1 the CPU's C4) and the double oracle, on the case
// table's decode cases and on random ones. Outputs and workspace start as NaN between guard bands, unused cache slots hold
// NaN.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "gpu/check.hpp"
#include "gpu/device.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/draw_case.hpp"
#include "tests/decode_cases.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

// Without a GPU the suite is skipped, and visibly: Meson reads exit code 77 as a skip.
struct SkipWithoutDevice : doctest::IReporter {
  explicit SkipWithoutDevice(const doctest::ContextOptions&) {}
  void test_run_start() override {
    if (gpu::why_no_device().empty()) return;
    std::puts(gpu::why_no_device().c_str());
    std::exit(77);
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("skip without device", 2, SkipWithoutDevice);

void check_gpu_ladder(const CaseSpec& spec, const Settings& settings) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle exact = make_oracle(c), rounded = make_oracle(c, spec.dtype);  // what P is rounded to decides the tolerance
  std::map<std::string, RunResult> results{{"C4", run_rung(rung("C4"), c, settings)}};
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu) continue;
    REQUIRE_MESSAGE(rung.supports(spec), rung.supports(spec).reason);
    const RunResult& result = results[rung.name] = run_rung(rung, c, settings);
    const Oracle& oracle = rung.p_rounding(spec) == DType::f32 ? exact : rounded;
    const Comparison comparison = agree(c, result, &results.at(rung.must_equal), oracle);
    CHECK_MESSAGE(comparison.ok(), rung.name, ": ", comparison.message());
  }
}

constexpr planner::SplitPolicy policies[] = {planner::SplitPolicy::balanced, planner::SplitPolicy::fixed,
                                             planner::SplitPolicy::none, planner::SplitPolicy::count};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("every GPU rung equals the rung below on the decode cases of the case table") {
  for (const CaseSpec& spec : test::decode_table()) {
    check_gpu_ladder(spec, {.threads = 2});
    check_gpu_ladder(spec, {.threads = 2, .policy = planner::SplitPolicy::fixed, .chunk_size = 64});
  }
}

TEST_CASE("every GPU rung equals the rung below on random decode cases") {
  const int cases = test::options().cases > 0 ? test::options().cases : 300;
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    check_gpu_ladder(test::random_decode(test::options().seed + i),
                     {.threads = 4, .policy = policies[i % 4], .chunk_size = 64});
  }
}

TEST_CASE("the same inputs give the same bits") {
  CaseSpec spec = test::random_decode(11);
  spec.kv_lens.push_back(5000);
  spec.qo_lens.push_back(1);
  const Case c = draw_case(spec);
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu) continue;
    const RunResult first = run_rung(rung, c);
    for (int i = 0; i < 20; ++i) {
      const RunResult again = run_rung(rung, c);
      CHECK_MESSAGE((same_bits(first.o, again.o) && same_bits(first.lse_log2, again.lse_log2)), rung.name, " run ", i);
    }
  }
}

TEST_CASE("what a decode rung does not take it refuses with the reason") {
  const CaseSpec good = test::random_decode(3);
  const auto refused = [&](auto change, const char* why) {
    CaseSpec spec = good;
    change(spec);
    const Support support = rung("D1").supports(spec);
    CHECK_MESSAGE(support.reason.find(why) != std::string::npos, "got: ", support.reason, ", wanted: ", why);
  };
  CHECK(rung("D1").supports(good));
  refused([](CaseSpec& s) { s.qo_lens.back() = 2; }, "has 2 queries");
  refused([](CaseSpec& s) { s.dtype = DType::f32; }, "f32");
  refused([](CaseSpec& s) { s.params.head_dim_qk = s.params.head_dim_vo = 80; }, "head_dim 80");
  refused([](CaseSpec& s) { s.params.head_dim_vo = 32; }, "differ");
  refused([](CaseSpec& s) { s.params.window_left = 5; }, "window");
  refused([](CaseSpec& s) { s.params.mask = MaskMode::custom; }, "custom mask");
  refused([](CaseSpec& s) { s.params.pos_encoding_mode = PosEncodingMode::ALIBI; }, "ALIBI");
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
