// Lengths and names in the short form of a command line, and lengths from a trace.
#include <algorithm>
#include <cmath>

#include "ladder/cases/specs/short_form.hpp"
#include "ladder/cases/specs/trace.hpp"
#include "tests/cases_helpers.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

TEST_CASE("short form: lists of lengths and repeats and draws") {
  CHECK(parse_lengths("--kv", "512,1024") == Lengths{512, 1024});
  CHECK(parse_lengths("--kv", "2048x3,0,7x1") == Lengths{2048, 2048, 2048, 0, 7});
  const Lengths a = parse_lengths("--kv", "lognormal:64"), b = parse_lengths("--kv", "lognormal:64:1");
  CHECK(a.size() == 64);
  CHECK(a == b);
  CHECK(a != parse_lengths("--kv", "lognormal:64:2"));
  CHECK(Lengths(a.begin(), a.begin() + 4) == Lengths{643, 6695, 4417, 224});
  Lengths many = parse_lengths("--kv", "lognormal:10001:5");
  std::sort(many.begin(), many.end());
  CHECK(many.front() == 16);
  CHECK(many.back() == 32768);
  CHECK(std::abs(many[5000] / std::exp(6.9) - 1) < 0.07);  // the median is e^mu, give or take 4 * 1.25 * sigma / 100
  CHECK(std::abs(many[8413] / std::exp(6.9 + 1.3) - 1) < 0.12);
}

TEST_CASE("short form: errors show the text") {
  const auto kv = [](const char* text) { return refusal([&] { parse_lengths("--kv", text); }); };
  check_refused(kv(""), {"--kv = \"\""});
  check_refused(kv("512,,3"), {"--kv = \"\"", "length"});
  check_refused(kv("512,-1"), {"\"-1\""});
  check_refused(kv("12a"), {"\"12a\""});
  check_refused(kv("99999999999"), {"\"99999999999\""});
  check_refused(kv("8x0"), {"\"8x0\"", "1 .. 1048576 requests"});
  check_refused(kv("8x1048576,1"), {"at most 1048576"});
  check_refused(kv("lognormal:"), {"\"lognormal:\""});
  check_refused(kv("lognormal:3:x"), {"\"lognormal:3:x\"", "seed"});
  check_refused(kv("normal:3"), {"\"normal:3\"", "lognormal, azure-conv or azure-code"});
  check_refused(kv("@/nowhere/lens.txt"), {"/nowhere/lens.txt", "no such file"});
  check_refused(kv("@/"), {"regular file"});
}

TEST_CASE("short form: heads and dims and names") {
  CHECK(parse_heads("--heads", "32/8").num_kv_heads == 8);
  CHECK(parse_heads("--heads", "32").num_kv_heads == 32);
  CHECK(parse_head_dims("--dim", "192/128").vo == 128);
  CHECK(parse_dtype("--dtype", "bf16") == DType::bf16);
  CHECK(parse_kv_layout("--layout", "HND") == KvLayout::HND);
  for (const char* bad : {"", "/", "8/", "/8", "0", "8/0", "-8", "8/3", "32/8/2", "4294967296"}) {
    check_refused(refusal([&] { parse_heads("--heads", bad); }), {"--heads", bad});
  }
  check_refused(refusal([] { parse_dtype("--dtype", "f64"); }), {"--dtype = \"f64\"", "f32, f16 or bf16"});
  check_refused(refusal([] { parse_kv_layout("--layout", "nhd"); }), {"--layout = \"nhd\""});
  CHECK(qo_lens_for({}, 2) == Lengths{1, 1});
  CHECK(qo_lens_for({5}, 3) == Lengths{5, 5, 5});
  CHECK(qo_lens_for({5, 6}, 2) == Lengths{5, 6});
  check_refused(refusal([] { qo_lens_for({5, 6}, 3); }), {"qo_lens", "each of the 3"});
}

TEST_CASE("traces: consecutive requests; context plus part of what was generated") {
  std::string csv = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";
  for (int i = 0; i < 100; ++i) {
    csv += "2023-11-16 18:17:03.9799600," + std::to_string(1000 * i) + "," + std::to_string(i) + "\r\n";
  }
  const auto trace = parse_trace(csv, "t.csv");
  REQUIRE(trace.size() == 100);
  CHECK(trace[7].context_tokens == 7000);
  CHECK(trace[7].generated_tokens == 7);
  const Lengths lens = draw_kv_lens(trace, 64, 3);
  CHECK(lens == draw_kv_lens(trace, 64, 3));
  CHECK(lens != draw_kv_lens(trace, 64, 4));
  bool varies = false;
  for (int i = 0; i < 64; ++i) {
    const int request = lens[0] / 1000 + i, part = lens[i] % 1000;
    CHECK(lens[i] / 1000 == request);
    CHECK(part <= request);
    varies = varies || (part != 0 && part != request);
  }
  CHECK(varies);
  const LengthSources data{.data_dir = FLASHLADDER_SOURCE_ROOT "/data", .trace = "", .seed = 1};
  CHECK(parse_lengths("--kv", "7,azure-code:64:2,azure-conv:64", data).size() == 129);
  check_refused(refusal([&] { draw_kv_lens(trace, 101, 1); }), {"101", "the trace has 100"});
  const std::string header = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  for (const char* line : {"", "a", "a,1", "a,1,2,3", ",1,2", "a,-1,2", "a,1,x", "a,1.5,2", "a,2147483647,1"}) {
    check_refused(refusal([&] { parse_trace(header + "a,1,2\n" + line + "\na,1,2\n", "t.csv"); }), {"t.csv line 3", line});
  }
  check_refused(refusal([&] { parse_trace("Time,A,B\n", "t.csv"); }), {"t.csv line 1", "TIMESTAMP,"});
}

