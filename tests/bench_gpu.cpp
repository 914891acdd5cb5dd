// What is timed on a GPU, as far as it can be held without one: case strings that the peers' lines have too, bytes, targets.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "bench/cta_profile.hpp"
#include "bench/gpu_bench.hpp"
#include "bench/gpu_cases.hpp"
#include "bench/ladder_table.hpp"
#include "bench/placing.hpp"
#include "bench/prefill_inputs.hpp"
#include "bench/roofline.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/rung.hpp"
#include "reference/norm.hpp"

using namespace flashladder;
using namespace flashladder::bench;

namespace {

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("decode rungs are those that take one query of each request") {  // families decode and graph time the last of them
  for (const ladder::Rung& rung : ladder::rungs()) CHECK_MESSAGE(rung.one_query == rung.name.starts_with("D"), rung.name);
}

TEST_CASE("case strings are those of the peers' lines") {
  CHECK(case_strings(Family::decode) ==
        Names{"B32 kv2048 32/8 p16", "B32 kv2048 64/8 p16", "B32 kv2048 32/32 p16", "B1 kv1024 32/8 p16",
              "B1 kv8192 32/8 p16", "B1 kv131072 32/8 p16", "B64 kv8192 32/8 p16", "B64 lognormal 32/8 p16",
              "mixed16 32/8 p16", "1 x 65536 + 31 x 4096 32/8 p16", "1 x 65536 + 31 x 4096 8/1 p16", "B32 kv2048 32/8 p1",
              "B64 kv8192 32/8 p1", "B64 lognormal 32/8 p1"});
  const Names graph = case_strings(Family::graph);
  CHECK(Names(graph.begin(), graph.begin() + 12) ==
        Names{"B32 kv2048 32/8 p16 cold", "B32 kv2048 32/8 p16 warm", "B1 kv1024 32/8 p16 cold", "B1 kv1024 32/8 p16 warm",
              "B1 kv8192 32/8 p16 cold", "B1 kv8192 32/8 p16 warm", "B1 kv131072 32/8 p16 cold",
              "B1 kv131072 32/8 p16 warm", "B64 lognormal 32/8 p16 cold", "B64 lognormal 32/8 p16 warm",
              "mixed16 32/8 p16 cold", "mixed16 32/8 p16 warm"});
  CHECK(Names(graph.begin() + 12, graph.end()) ==
        Names{"rmsnorm 64x4096 cold", "rmsnorm 64x4096 warm", "fused_add_rmsnorm 64x4096 cold",
              "fused_add_rmsnorm 64x4096 warm", "rope 64 tokens 32/8 neox cold", "rope 64 tokens 32/8 neox warm",
              "chain B1 kv1024 32/8 p16 cold", "chain B1 kv4096 32/8 p16 cold", "chain B8 kv1024 32/8 p16 cold",
              "chain B8 kv4096 32/8 p16 cold"});
  CHECK(case_strings(Family::norm) ==
        Names{"rmsnorm 4096x4096", "fused_add_rmsnorm 4096x4096", "rmsnorm 65536x4096", "fused_add_rmsnorm 65536x4096",
              "rmsnorm 65536x8192", "fused_add_rmsnorm 65536x8192", "rmsnorm 131072x128", "fused_add_rmsnorm 131072x128",
              "rmsnorm 64x4096", "fused_add_rmsnorm 64x4096"});
  CHECK(case_strings(Family::rope) == Names{"64 tokens 32/8 neox", "64 tokens 32/8 interleaved", "4096 tokens 32/8 neox",
                                            "4096 tokens 32/8 interleaved", "65536 tokens 32/8 neox",
                                            "65536 tokens 32/8 interleaved"});
  CHECK(case_strings(Family::append) ==
        Names{"B64 x 1 tokens 8 heads p16", "B16 x 4096 tokens 8 heads p16", "rope + append B64 x 1 tokens 32/8 p16",
              "rope + append B16 x 4096 tokens 32/8 p16"});
  CHECK(case_strings(Family::cascade) ==
        Names{"prefix 8192 shared by 64 + suffix 256 32/8 p16", "prefix 8192 shared by 4 + suffix 256 32/8 p16",
              "prefix 512 shared by 64 + suffix 2048 32/8 p16"});
  CHECK(case_strings(Family::lengths) ==
        Names{"B32 kv2048 32/8 p16", "B64 lognormal 32/8 p16", "B64 lognormal 32/8 p16 table 131072",
              "B4 S2048 32/8 p16 causal", "B8 q512 kv16384 32/8 p16 causal"});
  for (const LengthsCase& c : lengths_cases()) {
    CHECK_NOTHROW(validate(c.spec));
    CHECK(*std::max_element(c.spec.kv_lens.begin(), c.spec.kv_lens.end()) <= c.max_seq_len);
  }
  CHECK(lengths_cases()[0].bytes() == 32.0 * 2048 * 4096);
  CHECK(case_strings(Family::mla) ==  // the peers', and two of skewed lengths
        Names{"B128 kv4096 h16", "B128 kv4096 h64", "B128 kv4096 h128", "B16 kv8192 h128", "B64 lognormal h16",
              "B64 lognormal h64", "B1 kv8192 h128", "B1 kv16384 h16", "B32 kv8192 h16 q4"});
  for (const ladder::CaseSpec& spec : mla_cases()) {
    CHECK_NOTHROW(validate(spec));
    if (spec.name.find("lognormal") == std::string::npos) CHECK(case_string(spec) == spec.name);
  }
  const ladder::CaseSpec mla = mla_cases()[2];
  CHECK(mla_bytes(mla) == 128.0 * 4096 * 576 * 2);
  CHECK(mla_flops(mla) == 2.0 * (576 + 512) * 128 * 128 * 4096);
  CHECK(case_strings(Family::plan) ==
        Names{"B32 kv2048 32/8 p16", "B64 lognormal 32/8 p16", "B64 S lognormal 32/8 p16 causal",
              "4 x q512 + 60 x q1 kv4096 32/8 p16 causal"});
  for (const Family family : all_families) CHECK(family_from(name_of(family)) == family);
  CHECK_THROWS_AS(family_from("prefil"), InputError);
}

TEST_CASE("the chosen cases are the work that their strings name") {
  for (const ladder::CaseSpec& spec : decode_cases()) {
    INFO(spec.name);
    ladder::validate(spec);
    CHECK(spec.nnz_qo() == spec.batch());
    if (!spec.name.starts_with("B64 lognormal") && !spec.name.starts_with("mixed16")) {
      CHECK(ladder::case_string(spec) == spec.name);
    }
  }
  const ladder::CaseSpec lognormal = plan_cases()[1];
  CHECK(lognormal.batch() == 64);
  CHECK(plan_cases()[2].qo_lens == lognormal.kv_lens);
  CHECK(plan_cases()[2].kv_lens == lognormal.kv_lens);
  CHECK(plan_cases()[3].nnz_qo() == 4 * 512 + 60);
  CHECK(plan_cases()[3].total_kv() == 64 * 4096);
  CHECK(lognormal.total_kv() == 106057);
  CHECK(*std::max_element(lognormal.kv_lens.begin(), lognormal.kv_lens.end()) == 9251);
  CHECK(decode_cases()[8].total_kv() == 53248);  // the batch of the planner's sample
}

TEST_CASE("bytes are counted as the peers count them") {  // TBps * us of lines in their files
  CHECK(NormCase{false, 4096, 4096}.bytes() == 2.0 * 4096 * 4096 * 2);
  CHECK(NormCase{true, 64, 4096}.bytes() == 4.0 * 64 * 4096 * 2);
  CHECK(RopeCase{64, true}.bytes() == 64.0 * 40 * 128 * 2 * 2);
  CHECK(AppendCase{16, 4096}.bytes() == 16.0 * 4096 * 8 * 128 * 2 * 2 * 2);
  CHECK(CascadeCase{64, 8192, 256}.bytes() == (8192.0 + 64 * 256) * 8 * 128 * 2 * 2);
  CHECK(AppendCase{64, 1, true}.bytes() == 64.0 * 128 * 2 * 2 * (32 + 8 + 8));
}

TEST_CASE("repeated in place, fused_add_rmsnorm stays finite with the weights that are timed") {
  const auto largest_after = [](int repeats, std::vector<Half> x, std::vector<Half> residual) {
    const auto d = static_cast<std::int64_t>(x.size());
    std::vector<Half> weight = norm_weights(static_cast<std::int32_t>(d), 3);
    for (int i = 0; i < repeats; ++i) {
      reference::fused_add_rmsnorm(contiguous(x.data(), DType::f16, {1, d}), contiguous(residual.data(), DType::f16, {1, d}),
                                   contiguous(weight.data(), DType::f16, {d}), 1e-6f);
    }
    float largest = 0;
    for (const Half r : residual) largest = std::max(largest, std::abs(static_cast<float>(r)));
    for (const Half y : x) CHECK(std::isfinite(static_cast<float>(y)));
    return largest;
  };
  for (const std::size_t d : {std::size_t{128}, std::size_t{8192}}) {
    const float most = 513 * std::sqrt(static_cast<float>(d));
    ladder::Random random(1);
    std::vector<Half> x(d), residual(d), one(d, Half(0.0f)), level(d, Half(511.0f));
    for (std::size_t i = 0; i < d; ++i) x[i] = Half(static_cast<float>(random.normal())), residual[i] = x[i];
    CHECK(largest_after(d == 128 ? 6000 : 400, x, residual) < most);
    one[7] = Half(508 * std::sqrt(static_cast<float>(d)));  // all of a row's power in one number
    CHECK(largest_after(400, x, one) < most);
    CHECK(largest_after(400, x, level) < most);
  }
}

TEST_CASE("rotating caches are more than an L2 and the graph has 20 launches or nearly") {
  CHECK(rotation_for(4194304).caches == 48);    // B1 kv1024
  CHECK(rotation_for(4194304).turns == 1);
  CHECK(rotation_for(268435456).caches == 2);   // B32 kv2048
  CHECK(rotation_for(268435456).turns == 10);
  CHECK(rotation_for(1 << 20).caches == 64);
}

TEST_CASE("the A100's targets, there and as a fraction of this GPU's peak") {
  Measurement line{.family = "decode", .work = "B32 kv2048 32/8 p16", .backend = "x", .us = 68, .tera_bytes_per_s = 3.9};
  CHECK(a100_target(line, 4.8)->there == 1.6);
  CHECK(a100_target(line, 4.8)->here == doctest::Approx(3.7666).epsilon(1e-4));
  line.family = "graph";
  line.work = "rmsnorm 64x4096 cold";
  CHECK(a100_target(line, 4.8)->there == 1.8);
  line.work = "rope 64 tokens 32/8 neox cold";
  CHECK(a100_target(line, 4.8)->there == 1.5);
  line.us = 12;  // 47 MB: 9.75 us at the peak
  CHECK_FALSE(a100_target(line, 4.8));
  CHECK(a100_target(line, 4.6));
  line.us = 68;
  line.work = "chain B1 kv1024 32/8 p16 cold";
  CHECK_FALSE(a100_target(line, 4.8));
  line = {.family = "plan", .work = "B32 kv2048 32/8 p16", .backend = "x", .us = 1};
  CHECK_FALSE(a100_target(line, 4.8));
  CHECK(peak_tera_bytes_per_s("NVIDIA H200", 4.9) == 4.8);
  CHECK(peak_tera_bytes_per_s("NVIDIA H100 80GB HBM3", 3.4) == 3.35);
  CHECK(peak_tera_bytes_per_s("NVIDIA H100 PCIe", 2.04) == 2.04);  // whose memory is another one
  CHECK(peak_tera_bytes_per_s("a later one", 8) == 8);
}

TEST_CASE("peaks of tensor cores are those of data sheets") {
  CHECK(peak_tera_flops("NVIDIA H200") == 989.4);
  CHECK(peak_tera_flops("NVIDIA A100-SXM4-80GB") == 312.0);
  CHECK_FALSE(peak_tera_flops("a later one"));
}

// CPU rungs stand in for those of a GPU, which a build without CUDA does not have.
TEST_CASE("a ladder's rows say what each rung gained against the nearest rung below that was timed") {
  const auto line = [](const char* work, const char* backend, double us, double tera_flops) {
    return Measurement{.family = "prefill-ladder", .work = work, .backend = backend, .us = us, .tera_flops = tera_flops};
  };
  const std::vector<Measurement> lines{
      line("short", "flashladder C1", 100, 10), line("short", "flashladder C2", 80, 12.5),
      line("short", "flashladder C4", 20, 50), line("long", "flashladder C4", 300, 60),
      {.family = "prefill", .work = "short", .backend = "flashladder fa3", .us = 1}};
  const std::vector<LadderRow> rows = ladder_rows(lines, 200.0);
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].below == "");
  CHECK_FALSE(rows[0].gain);
  CHECK(rows[0].share_of_peak == doctest::Approx(0.05));
  CHECK(rows[1].gain == doctest::Approx(1.25));
  CHECK(rows[2].below == "C2");  // C3 was not timed
  CHECK(rows[2].gain == doctest::Approx(4));
  CHECK(rows[2].idea == ladder::rung("C4").idea);
  CHECK_FALSE(rows[3].gain);  // on this case nothing below was timed
  CHECK_FALSE(ladder_rows(lines, std::nullopt)[0].share_of_peak);
}

TEST_CASE("cases of attention have the case strings of their families as names") {
  for (const Family family : {Family::decode, Family::prefill, Family::prefill_ladder, Family::plan}) {
    Names names;
    for (const ladder::CaseSpec& spec : attention_cases(family)) names.push_back(spec.name);
    CHECK(names == case_strings(family));
  }
  CHECK(attention_cases(Family::graph).empty());
}

TEST_CASE("a plug-in is on the ladder beside the fastest rung that it outruns, whatever it is called") {
  const auto line = [](const char* work, const char* backend, double us) {
    return Measurement{.family = "prefill-ladder", .work = work, .backend = backend, .us = us, .tera_flops = 1};
  };
  const std::vector<Measurement> lines{line("short", "flashladder C1", 100), line("short", "flashladder C4", 20),
                                       line("short", "plug-in C2", 50), line("short", "plug-in slow", 200),
                                       line("short", "flashladder C3", 60), line("long", "flashladder C1", 55)};
  const std::vector<LadderRow> rows = ladder_rows(lines, std::nullopt);
  REQUIRE(rows.size() == 6);
  CHECK(rows[2].rung == "plug-in C2");
  CHECK(rows[2].below == "C3");
  CHECK(rows[2].gain == doctest::Approx(1.2));
  CHECK_FALSE(rows[3].gain);       // it outruns nobody
  CHECK(rows[1].below == "C3");    // and is no rung that others are measured by
  CHECK(rows[4].below == "C1");
}

TEST_CASE("a plug-in's place is among the lines of its family and case") {
  const auto line = [](const char* family, const char* work, const char* backend, double us) {
    return Measurement{.family = family, .work = work, .backend = backend, .us = us};
  };
  const std::vector<Measurement> lines{line("decode", "a", "flashladder D6", 10), line("decode", "a", "plug-in mine", 40),
                                       line("decode", "a", "flashladder D1", 100), line("read", "a", "flashladder", 1),
                                       line("decode", "b", "flashladder D6", 1), line("decode", "c", "plug-in mine", 1)};
  const std::vector<Place> places = places_of(lines);
  REQUIRE(places.size() == 2);
  CHECK(places[0].work == "a");
  CHECK(places[0].place == 2);
  CHECK(places[0].of == 3);
  REQUIRE(places[0].faster);
  CHECK(places[0].faster->backend == "flashladder D6");
  CHECK(places[0].faster->times == doctest::Approx(4));
  REQUIRE(places[0].slower);
  CHECK(places[0].slower->times == doctest::Approx(2.5));
  CHECK(places[1].of == 1);
  CHECK_FALSE(places[1].faster);
  CHECK_FALSE(places[1].slower);
}

TEST_CASE("arithmetic's ceiling is computed from clock and SMs where a cycle's products are known") {
  CHECK(*computed_tera_flops(90, 132, 1830) == doctest::Approx(989.4).epsilon(0.001));  // the data sheet's H100 SXM
  CHECK(*computed_tera_flops(80, 108, 1410) == doctest::Approx(312.0).epsilon(0.001));  // A100
  CHECK(*computed_tera_flops(89, 58, 2040) == doctest::Approx(121.0).epsilon(0.01));    // L4
  CHECK(!computed_tera_flops(75, 40, 1590));
}

TEST_CASE("a cost model that is right but for a factor and a constant fits exactly; CTAs without work have no say") {
  CtaProfile p{.work = "case", .policy = "none", .predicted = {1000, 0, 3000, 2000}, .begin_us = {0, 0, 1, 0}, .end_us = {}};
  for (std::size_t i = 0; i < 4; ++i) p.end_us.push_back(p.begin_us[i] + 2 + 0.01 * p.predicted[i]);
  p.end_us[1] = 500;
  const CtaFit f = fit(p);
  CHECK(f.ctas == 3);
  CHECK(f.ns_per_key == doctest::Approx(10));
  CHECK(f.fixed_us == doctest::Approx(2));
  CHECK(f.correlation == doctest::Approx(1));
  CHECK(f.mean_us == doctest::Approx(22));
  CHECK(f.longest_us == doctest::Approx(32));
  CHECK(f.kernel_us == doctest::Approx(33));
  CHECK(f.predicted_imbalance == doctest::Approx(1.5));
  CHECK(f.predicted_us(1000) == doctest::Approx(12));
  CHECK(text(p, f).starts_with("case, none: 3 CTAs, kernel 33.0 us"));
  CHECK(cta_page({p}, "a machine").find("<svg") != std::string::npos);
}

TEST_CASE("costs that are all alike give a mean, not a slope; no work gives nothing") {
  const CtaProfile level{.work = "", .policy = "", .predicted = {1000, 1001, 999}, .begin_us = {0, 0, 0},
                         .end_us = {11, 10, 9}};
  CHECK(fit(level).ns_per_key == doctest::Approx(10));
  CHECK(fit(level).fixed_us == 0);
  CHECK(fit({.work = "", .policy = "", .predicted = {0}, .begin_us = {0}, .end_us = {0}}).ctas == 0);
}
