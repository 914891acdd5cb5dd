// A rung that rounds rotated q and k to 16 bits, as D6 and D7 do with ROPE_LLAMA: its tolerance has room for that, and none
// for a mistake. Plain arithmetic on the CPU, rounded where tensor cores need it.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/rope.hpp"
#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "reference/element_io.hpp"
#include "reference/gather.hpp"
#include "tests/gpu_cases.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

struct Mistake {
  const char* what;
  int key_shift = 0;           // of a key's position
  bool query_rotated = true;
  RopeStyle style = RopeStyle::neox;
};
constexpr Mistake no_mistake{.what = "none"};

float rounded(DType dtype, float x) {
  return reference::visit_dtype(dtype, [x]<class Element>(Element) { return static_cast<float>(Element(x)); });
}

void rotate_and_round(reference::Matrix<float>& m, Eigen::Index row, std::int64_t position, const CaseSpec& spec,
                      const Mistake& mistake) {
  const AttentionParams& p = spec.params;
  apply_rope(m.row(row).data(), mistake.style, position, p.head_dim_qk, p.rope_scale, p.rope_theta);
  m.row(row) = m.row(row).unaryExpr([&](float x) { return rounded(spec.dtype, x); });
}

// One query of each request.
RunResult decode_on_16_bits(const Case& c, const Mistake& mistake) {
  const AttentionProblem problem = c.problem();
  AttentionProblem plain = problem;
  plain.params.pos_encoding_mode = PosEncodingMode::NONE;
  const AttentionParams& p = problem.params;
  RunResult result{.o = std::vector<float>(c.spec.batch() * p.num_qo_heads * p.head_dim_vo), .lse_log2 = {}};
  const std::vector<std::int64_t> masks = mask_offsets(problem);
  for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
    const std::int32_t kv_len = problem.kv_len(b);
    for (std::int32_t h = 0; h < p.num_qo_heads; ++h) {
      reference::Matrix<float> q, k, v;
      reference::load_queries(plain, b, reference::rows_of_head(h, {0, 1}), q);
      reference::load_keys(plain, b, h / p.group_size(), {0, kv_len}, k);
      reference::load_values(plain, b, h / p.group_size(), {0, kv_len}, v);
      if (mistake.query_rotated && kv_len > 0) rotate_and_round(q, 0, kv_len - 1, c.spec, mistake);
      const ScoreTransform<float> transform(p, h);
      SoftmaxState<float> state;
      std::vector<float> logits(kv_len, SoftmaxState<float>::nothing);
      const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + masks[b] : nullptr;
      for (std::int32_t j = 0; j < kv_len; ++j) {
        rotate_and_round(k, j, j + mistake.key_shift, c.spec, mistake);
        if (!visible(p, 1, kv_len, 0, j, mask)) continue;
        logits[j] = transform(q.row(0).dot(k.row(j)), 0, j);
        state.m = std::max(state.m, logits[j]);
      }
      Eigen::RowVectorXf o = Eigen::RowVectorXf::Zero(p.head_dim_vo);
      for (std::int32_t j = 0; j < kv_len; ++j) {
        const float weight = SoftmaxState<float>::weight(logits[j], state.m);
        state.d += weight;
        if (weight > 0) o += rounded(c.spec.dtype, weight) * v.row(j);
      }
      const float sink = p.sinks ? SoftmaxState<float>::from_sink(problem.sinks[h]).m : SoftmaxState<float>::nothing;
      const auto [scale, lse_log2] = finish_row(state, sink, 0.0f);
      o *= scale;
      std::copy(o.begin(), o.end(), result.o.begin() + (std::int64_t{b} * p.num_qo_heads + h) * p.head_dim_vo);
      result.lse_log2.push_back(lse_log2);
    }
  }
  return result;
}

struct Answered {
  Case c;
  Oracle oracle;
};

// Few heads each: an oracle's rotations take long.
const std::vector<Answered>& rotated_cases() {
  static const std::vector<Answered> cases = [] {
    std::vector<Answered> list;
    const auto add = [&](CaseSpec spec) {
      spec.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
      spec.params.num_kv_heads = 1, spec.params.num_qo_heads = 2;
      const Case c = draw_case(spec);
      list.push_back({c, make_oracle(c, Rounding{spec.dtype, whole_row})});
    };
    for (std::uint64_t seed = 1; seed <= 40; ++seed) add(test::random_decode(seed));
    for (const CaseSpec& spec : case_table()) {
      if (spec.values == Values::large) continue;  // logits near 1e5 on 16 bits: undecided
      if (spec.params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) add(test::as_decode(spec, DType::f16));
      if (spec.name.starts_with("lengths") || spec.params.sinks) add(test::as_decode(spec, DType::bf16));
    }
    return list;
  }();
  return cases;
}

Comparison compared(const Answered& a, const Mistake& mistake) {
  return agree(a.c, decode_on_16_bits(a.c, mistake), nullptr, a.oracle);
}

}  // namespace

TEST_CASE("q and k may be rounded to 16 bits behind their rotation") {
  int undecided = 0, all = 0;
  double largest = 0;
  for (const Answered& a : rotated_cases()) {
    const Comparison comparison = compared(a, no_mistake);
    CHECK_MESSAGE(comparison.verdict() != Verdict::fail, a.c.spec.name, ": ", comparison.message());
    undecided += comparison.verdict() == Verdict::undecided;
    if (comparison.ok()) largest = std::max(largest, comparison.ratio());
    ++all;
  }
  MESSAGE("at most ", largest, " of a tolerance, ", undecided, " of ", all, " undecided");
  CHECK(undecided <= all / 30);
}

TEST_CASE("a rung without tensor cores has no room for rounded keys") {
  int rejected = 0, all = 0;
  for (const Answered& a : rotated_cases()) {
    if (++all > 20) break;
    const Oracle oracle = make_oracle(a.c, Rounding{DType::f32, whole_row});
    rejected += agree(a.c, decode_on_16_bits(a.c, no_mistake), nullptr, oracle).verdict() == Verdict::fail;
  }
  CHECK(rejected > 10);
}

TEST_CASE("the room for rounding hides no mistake of a rotation") {
  const Mistake mistakes[] = {{.what = "keys rotated by the next one's position", .key_shift = 1},
                              {.what = "the query is not rotated", .query_rotated = false},
                              {.what = "neighbouring features are a pair", .style = RopeStyle::interleaved}};
  for (const Mistake& mistake : mistakes) {
    int rejected = 0, all = 0;
    for (const Answered& a : rotated_cases()) {
      rejected += compared(a, mistake).verdict() == Verdict::fail;
      ++all;
    }
    MESSAGE(std::string(mistake.what), ": ", rejected, " of ", all, " cases reject it");
    CHECK(rejected > all / 2);
  }
}
