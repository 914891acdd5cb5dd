// Measurements: the sample that checks a large case misses no wrong answer, and the lines have their form.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <set>

#include "bench/gemm.hpp"
#include "bench/lane_bench.hpp"
#include "bench/measurement.hpp"
#include "bench/report/lane_lines.hpp"
#include "bench/rung_bench.hpp"
#include "bench/sampled_check.hpp"
#include "bench/timing.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

CaseSpec batch_of_eight() {
  CaseSpec s;
  s.qo_lens.assign(8, 2);
  s.kv_lens.assign(8, 40);
  s.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 16, .head_dim_vo = 16, .sm_scale = 0.25f};
  return s;
}

}  // namespace

TEST_CASE("a sample is as large as it may be and takes its heads evenly") {
  const Case c = draw_case(batch_of_eight());
  CHECK(bench::sampled_oracle(c).text() == "all heads");
  const double all = (2.0 * 8 * 2 * 40 + 3.0 * 8 * 40) * 32 * 8;  // as sampled_check.cpp counts
  const bench::SampledOracle eighth = bench::sampled_oracle(c, DType::f32, all / 8);
  CHECK(eighth.text() == "8 of 64 heads");
  std::set<int> requests, heads;
  for (int b = 0; b < 8; ++b) {
    for (int h = 0; h < 8; ++h) {
      if (!eighth.in_sample(b, h)) continue;
      requests.insert(b);
      heads.insert(h);
    }
  }
  CHECK(requests.size() == 8);
  CHECK(heads.size() == 8);
  CHECK(bench::sampled_oracle(c, DType::f32, 0).heads == 1);
}

TEST_CASE("what is wrong in or outside of the sample is found") {
  const Case c = draw_case(batch_of_eight());
  const bench::SampledOracle one = bench::sampled_oracle(c, DType::f32, 0);
  const RunResult below = run_rung(rung("C3"), c), right = run_rung(rung("C4"), c);
  CHECK(bench::agree(c, right, &below, one).ok());
  int in_sample = 0;
  for (int h = 0; h < 8; ++h) {
    for (int b = 0; b < 8; ++b) {
      const std::size_t row = static_cast<std::size_t>(c.qo_indptr[b] + 1) * 8 + h;
      RunResult wrong = right;
      wrong.o[row * 16 + 3] += 0.01f;
      CHECK_FALSE(bench::agree(c, wrong, &below, one).ok());
      CHECK(bench::agree(c, wrong, nullptr, one).ok() == !one.in_sample(b, h));  // why there is a rung below
      in_sample += one.in_sample(b, h);
      wrong = right;
      wrong.lse_log2[row] = std::numeric_limits<float>::quiet_NaN();
      CHECK_FALSE(bench::agree(c, wrong, nullptr, one).ok());
    }
  }
  CHECK(in_sample == 1);
}

TEST_CASE("case strings of family cpu name work that others can do too") {
  const auto cases = bench::standard_cases();
  REQUIRE(cases.size() == 4);
  for (int layout = 0; layout < 2; ++layout) {
    CHECK(bench::cpu_case_string(cases[layout]) == "prefill B1 S2048 32/8 d128 causal f32");
    CHECK(bench::cpu_case_string(cases[2 + layout]) == "decode B32 kv2048 32/8 d128 f32");
  }
  CaseSpec s = batch_of_eight();
  CHECK(bench::cpu_case_string(s) == "append B8 q2 kv40 8/2 d16 full f32");
  s.page_size = 1;
  s.dtype = DType::f16;
  s.qo_lens.assign(8, 1);
  CHECK(bench::cpu_case_string(s) == "decode B8 kv40 8/2 d16 f16");
  s.params.head_dim_qk = s.params.head_dim_vo = 128;
  CHECK(bench::cpu_case_string(s) == "decode B8 kv40 8/2 d128 f16");
}

TEST_CASE("rates of a CPU line are those of its bytes and operations") {
  CaseSpec s = batch_of_eight();
  s.qo_lens.assign(8, 1);
  const auto tera = [](double amount, double ms) { return doctest::Approx(amount / (ms * 1e-3) * 1e-12); };
  const bench::Measurement decode = bench::cpu_line(s, "x", 2.0, 3);
  CHECK(decode.us == 2000);
  CHECK(decode.threads == 3);
  CHECK(*decode.tera_bytes_per_s == tera(8 * 40 * 2 * (16 + 16) * 4, 2));
  CHECK(*decode.tera_flops == tera(2.0 * 8 * 40 * 8 * (16 + 16), 2));
  s.dtype = DType::f16, s.kv_dtype = DType::f8_e4m3;  // K and V are what is read
  CHECK(*bench::cpu_line(s, "x", 2.0, 1).tera_bytes_per_s == tera(8 * 40 * 2 * (16 + 16), 2));
  s = batch_of_eight();
  s.qo_lens = s.kv_lens, s.params.mask = MaskMode::causal;
  const bench::Measurement prefill = bench::cpu_line(s, "x", 5.0, 1);
  CHECK_FALSE(prefill.tera_bytes_per_s);
  CHECK(*prefill.tera_flops == tera(2.0 * 8 * (40 * 41 / 2) * 8 * (16 + 16), 5));
  CaseSpec latent{.name = "latent", .op = Op::mla, .qo_lens = {1, 1}, .kv_lens = {100, 60}, .page_size = 64,
                  .dtype = DType::f16};
  latent.params = MlaParams{.num_heads = 16, .sm_scale = 0.1f}.attention();
  const bench::Measurement rows = bench::cpu_line(latent, "x", 4.0, 1);
  CHECK(*rows.tera_bytes_per_s == tera(160.0 * 576 * 2, 4));
  CHECK(*rows.tera_flops == tera(2.0 * 160 * 16 * (576 + 512), 4));
}

TEST_CASE("lines of measurements are JSON with four digits and null for what says nothing") {
  const bench::Measurement line{.family = "cpu", .work = "a \"b\"", .backend = "x", .us = 1234.5678,
                                .tera_flops = 0.0123456, .threads = 1, .run = 2};
  const std::string text = bench::json_lines(bench::to_json(bench::this_machine()), std::span(&line, 1));
  CHECK(text.substr(text.find('\n') + 1) == R"({"family":"cpu","case":"a \"b\"","backend":"x","us":1235.0,"TBps":null,)"
                                            R"("TFLOPs":0.01235,"threads":1,"run":2})" "\n");
  CHECK(bench::csv(std::span(&line, 1)) ==
        "family,case,backend,us,TBps,TFLOPs,threads,run\n\"cpu\",\"a \"\"b\"\"\",\"x\",1235.0,,0.01235,1,2\n");
  const bench::Measurement checked{.family = "prefill", .work = "c", .backend = "x", .us = 2,
                                   .error = bench::OutputError{0.00123456, 0.0000123456}};
  CHECK(report_json(bench::to_json(checked)) ==
        R"({"family":"prefill","case":"c","backend":"x","us":2.0,"TBps":null,"TFLOPs":null,"max_error":0.001235,)"
        R"("rms_error":1.235e-05,"run":1})");
  bench::Measurement near = line;
  near.nearest = bench::Nearest{0.0002, 0.0004};
  CHECK(report_json(bench::to_json(near)).find(R"("error":0.0002,"tolerance":0.0004,"threads":1)") != std::string::npos);
  const bench::GpuMachine machine{.gpu = "G", .driver = "", .cuda = "", .peak_tera_flops = 989.4, .date = "", .commit = "",
                                  .note = ""};
  CHECK(report_json(bench::to_json(machine)).find(R"("peak_TFLOPs":989.4)") != std::string::npos);
}

TEST_CASE("a lane's time is that of its queue's work and of no other") {
  CaseSpec spec = batch_of_eight();
  spec.kv_lens = {4000, 3, 40, 900, 0, 700, 41, 2}, spec.qo_lens = {1, 1, 1, 90, 1, 1, 1, 1};
  for (const auto policy : {planner::SplitPolicy::balanced, planner::SplitPolicy::none, planner::SplitPolicy::fixed}) {
    const planner::PlanInputs inputs = cpu_plan_inputs(spec, {.threads = 5, .policy = policy});
    const Plan plan = planner::make_plan(inputs);
    REQUIRE(plan.parts.size() == 2);
    std::vector<std::int64_t> ns;  // as if all work took what was predicted, in thousands: then all lanes do
    for (const float cost : planner::work_costs(plan, inputs.cost)) ns.push_back(std::llround(1e3 * double{cost}));
    const std::vector<double> us = bench::lane_us(plan, ns);
    REQUIRE(us.size() == plan.cta_cost.size());
    for (std::size_t lane = 0; lane < us.size(); ++lane) CHECK(us[lane] == doctest::Approx(plan.cta_cost[lane]));
  }
}

TEST_CASE("lanes that are measured have a time where they have work; as lines they come back as they were") {
  CaseSpec spec = batch_of_eight();
  spec.qo_lens.assign(8, 1), spec.kv_lens = {700, 3, 40, 90, 0, 70, 41, 2};
  const std::vector<bench::CtaProfile> profiles = bench::profile_lanes(spec, {.threads = 2});
  REQUIRE(profiles.size() == 2);
  CHECK(profiles[0].policy == "balanced");
  CHECK(profiles[1].policy == "none");
  for (const bench::CtaProfile& p : profiles) {
    REQUIRE(p.predicted.size() == 16);
    for (std::size_t i = 0; i < 16; ++i) CHECK((p.end_us[i] > 0) == (p.predicted[i] > 0));
    const bench::CtaProfile back = bench::profile_of(bench::to_json(p));
    CHECK(back.backend == "flashladder C4");
    CHECK(back.work == p.work);
    CHECK(back.predicted == p.predicted);
    for (std::size_t i = 0; i < 16; ++i) CHECK(std::abs(back.end_us[i] - p.end_us[i]) <= 0.0006);
  }
  const Json good = bench::to_json(profiles[0]);
  for (const char* key : {"case", "backend", "policy", "predicted", "begin_us", "end_us"}) {
    for (const Json& value : {Json(), Json(Json::List{}), Json(Json::List{-1.0}), Json(Json::List{"a"}), Json(3)}) {
      Json bad = good;
      bad[key] = value;
      CHECK_THROWS_AS(bench::profile_of(bad), InputError);
    }
  }
  Json backwards = good;
  backwards["begin_us"] = Json::List(16, Json(1e9));
  CHECK_THROWS_AS(bench::profile_of(backwards), InputError);
  Json no_lanes = good;
  no_lanes["predicted"] = no_lanes["begin_us"] = no_lanes["end_us"] = Json::List{};
  CHECK_THROWS_AS(bench::profile_of(no_lanes), InputError);
}

TEST_CASE("the GEMM ceiling is a product that is right") {
  const bench::Measurement line = bench::measure_gemm(2, 1);
  CHECK(line.work.starts_with("GEMM "));
  CHECK(line.threads == 2);
  CHECK(*line.tera_flops == doctest::Approx(2 * 2 * std::pow(1024.0, 3) / line.us * 1e-6));
}

TEST_CASE("a median leaves the warm-up and the outliers out") {
  int calls = 0;
  const double ms = bench::median_ms(5, [&] {
    ++calls;
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(calls <= 2 ? 40 : 1);
    while (std::chrono::steady_clock::now() < until) {
    }
  });
  CHECK(calls == 6);
  CHECK(ms >= 1);
  CHECK(ms < 40);
  CHECK_THROWS_AS(bench::median_ms(0, [] {}), InputError);
}
