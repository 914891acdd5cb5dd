// What the program prints of times that only a GPU can give, held without one: the table of rates and shares, that of CTAs,
// numbers and their units; and the weights that the climb's page draws.
#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <vector>

#include "cli/attention_weights.hpp"
#include "cli/console.hpp"
#include "cli/roofline_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "reference/gather.hpp"

using namespace flashladder;
using namespace flashladder::cli;
using bench::Measurement;

namespace {

// Words with one blank between them: cells too wide for the terminal are set in several lines.
std::string words(const std::string& text) {
  std::istringstream stream(text);
  std::string all, word;
  while (stream >> word) all += word + " ";
  return all;
}
bool has(const std::string& text, const std::string& row) { return text.find(row) != text.npos; }

const bench::GpuMachine h200{.gpu = "NVIDIA H200", .driver = "580", .cuda = "13.0", .sm_mhz = 1980,
                             .peak_tera_bytes_per_s = 4.8, .peak_tera_flops = 989.4, .date = "", .commit = "", .note = ""};

Measurement timed(const char* family, const char* work, const char* backend, double us, double tera_bytes_per_s, int run = 1) {
  return {.family = family, .work = work, .backend = backend, .us = us, .tera_bytes_per_s = tera_bytes_per_s, .run = run};
}

}  // namespace

TEST_CASE("rates on a GPU: the median of the runs, shares of copy and read, the floor, and both verdicts") {
  const std::vector<Measurement> lines{
      timed("copy", "copy 4 GiB", "x", 2863, 3.0), timed("read", "read 4 GiB", "x", 1074, 4.0),
      timed("read", "B1", "x", 60, 3.5), timed("copy", "B1", "x", 70, 3.2), timed("copy", "4 rows", "x", 9, 1),
      timed("decode", "B1", "D6", 120, 1.5), timed("decode", "B1", "D6", 80, 2.5, 2), timed("decode", "B1", "D6", 100, 2, 3),
      timed("norm", "4 rows", "N", 50, 3.8), {.family = "plan", .work = "B1", .backend = "P", .us = 7}};
  const std::string text = words(roofline_report(h200, lines, {{"decode", "a", "all rows"}, {"decode", "b", "all rows"},
                                                               {"norm", "c", "64 rows"}}));
  INFO(text);
  CHECK(has(text, "decode B1 D6 100 2.00 66.7 % 50.0 % 60.0 > 1.60 "));
  CHECK((has(text, "> 1.60 yes > 3.77 no ") || has(text, "> 1.60 > 3.77 yes no ")));
  CHECK(has(text, "norm 4 rows N 50.0 3.80 127 % 95.0 % 9.00 > 1.80 "));
  CHECK((has(text, "> 1.80 yes > 4.24 no ") || has(text, "> 1.80 > 4.24 yes no ")));
  CHECK(has(text, "plan B1 P 7.00 - - - - - - "));
  CHECK(has(text, "a copy of 4 GiB moves 3.00 TB/s, a read 4.00; the data sheet's peak is 4.80. "));
  CHECK(has(text, "decode 2 all rows norm 1 64 rows "));
}

TEST_CASE("CTAs of a kernel: how long the longest took, by the clock and by the plan") {
  const std::vector<bench::CtaProfile> profiles{{.work = "B1", .policy = "none", .predicted = {1000, 0, 3000, 2000},
                                                 .begin_us = {1, 0, 1, 2}, .end_us = {11, 0, 31, 22}, .backend = "D6"}};
  CHECK(has(words(cta_report(profiles)), "B1 none 3 30.0 20.0 30.0 1.50 1.50 "));
}

TEST_CASE("numbers in columns keep three digits, and times their unit") {
  CHECK(three_digits(0) == "0.00");
  CHECK(three_digits(0.09934) == "0.0993");
  CHECK(three_digits(4) == "4.00");
  CHECK(three_digits(63.94) == "63.9");
  CHECK(three_digits(1206.4) == "1206");
  CHECK(short_number(2.123e-7) == "2.12e-07");
  CHECK(milliseconds(0.01234) == "0.012 ms");
  CHECK(milliseconds(12.345) == "12.35 ms");
  CHECK(milliseconds(1234.5) == "1234 ms");
  CHECK(counted(1, "case") == "1 case");
  CHECK(counted(0, "case") == "0 cases");
}

TEST_CASE("drawn weights give the oracle's o with the head's own values, and are NaN where nothing is seen") {
  ladder::CaseSpec spec{.name = "weights", .seed = 3, .qo_lens = {2, 5}, .kv_lens = {9, 20}, .page_size = 4,
                        .dtype = DType::f32};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = 0.4f,
                 .mask = MaskMode::causal, .window_left = 11};
  const ladder::Case c = draw_case(spec);
  const AttentionProblem problem = c.problem();
  const ladder::Oracle oracle = make_oracle(c);
  for (std::int32_t b = 0; b < 2; ++b) {
    for (std::int32_t h = 0; h < 6; ++h) {
      const std::vector<float> weights = attention_weights(problem, b, h);
      reference::Matrix<double> v;
      reference::load_values(problem, b, h / 3, {0, spec.kv_lens[b]}, v);
      for (std::int32_t i = 0; i < spec.qo_lens[b]; ++i) {
        const std::int32_t token = spec.kv_lens[b] - spec.qo_lens[b] + i;
        Eigen::RowVectorXd o = Eigen::RowVectorXd::Zero(8);
        for (std::int32_t j = 0; j < spec.kv_lens[b]; ++j) {
          const float weight = weights[static_cast<std::size_t>(i * spec.kv_lens[b] + j)];
          REQUIRE((weight == weight) == (j <= token && j >= token - 11));
          if (weight == weight) o += double{weight} * v.row(j);
        }
        const std::int64_t row = (std::int64_t{problem.qo_indptr[b]} + i) * 6 + h;
        for (int d = 0; d < 8; ++d) CHECK(o[d] == doctest::Approx(oracle.o[row * 8 + d]).epsilon(1e-5));
      }
    }
  }
}
