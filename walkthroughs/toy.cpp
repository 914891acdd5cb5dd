#include "walkthroughs/toy.hpp"

#include <cmath>
#include <cstdio>

#include "core/error.hpp"
#include "core/score_transform.hpp"
#include "core/visibility.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/draw_case.hpp"
#include "reference/c1_online_softmax.hpp"

namespace flashladder::walkthroughs {
namespace {

void round_to_quarters(ladder::OwnedTensor& tensor) {
  float* values = tensor.view().data_as<float>();
  for (std::int64_t i = 0; i < tensor.size(); ++i) values[i] = std::nearbyint(values[i] * 4) / 4;
}

}  // namespace

ladder::Case toy_case(const ladder::CaseSpec& spec) {
  require(spec.dtype == DType::f32, "dtype", name_of(spec.dtype), "must be f32 in a toy case");
  ladder::Case c = ladder::draw_case(spec);
  for (ladder::OwnedTensor* tensor : {&c.q, &c.kv_cache, &c.k_cache, &c.v_cache}) round_to_quarters(*tensor);
  return c;
}

ToyRow::ToyRow(std::uint64_t seed)
    : c(toy_case({.name = "toy", .seed = seed, .qo_lens = {1}, .kv_lens = {10},
                  .params = {.head_dim_qk = 4, .head_dim_vo = 4, .sm_scale = 0.5f}, .page_size = 4})) {
  const AttentionProblem problem = c.problem();
  reference::load_query_tile(problem, 0, reference::rows_of_head(0, {0, 1}), 0, tile);
  reference::load_keys(problem, 0, 0, tile.keys, k);
  reference::load_values(problem, 0, 0, tile.keys, v);
  x = tile.q * k.transpose();
  tile.rows[0].to_logits(x, 0);
  lse_rounding = 8 * unit_roundoff(DType::f32) * (1 + x.cwiseAbs().maxCoeff());
  o_rounding = lse_rounding * v.cwiseAbs().maxCoeff();
}

reference::c2::Partial ToyRow::attend(Range keys) const {
  reference::Accumulator acc;
  acc.reset(1, c.spec.params.head_dim_vo);
  reference::c1::online_softmax(tile, k, v, keys, acc);
  return reference::c2::finish(acc);
}

Head::Head(const AttentionProblem& problem, std::int32_t qo_head) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(0), kv_len = problem.kv_len(0), kv_head = qo_head / p.group_size();
  reference::load_queries(problem, 0, reference::rows_of_head(qo_head, {0, qo_len}), q);
  reference::load_keys(problem, 0, kv_head, {0, kv_len}, k);
  reference::load_values(problem, 0, kv_head, {0, kv_len}, v);
  scores = logits = q * k.transpose();
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() : nullptr;
  const ScoreTransform<double> transform(p, qo_head);
  for (std::int32_t i = 0; i < qo_len; ++i) {
    for (std::int32_t j = 0; j < kv_len; ++j) {
      const bool seen = visible(p, qo_len, kv_len, i, j, mask);
      logits(i, j) = seen ? transform(scores(i, j), i, j) : SoftmaxState<double>::nothing;
    }
  }
}

void prove_rung(Narrator& narrator, const std::string& name, const ladder::Case& c, const std::string& on) {
  const ladder::Rung& rung = ladder::rung(name);
  const ladder::RunResult below = run_rung(ladder::rung(rung.must_equal), c);
  const ladder::Comparison worst = agree(c, run_rung(rung, c), &below, ladder::make_oracle(c, rung.p_rounding(c.spec)));
  narrator.check_that(name + " equals " + rung.must_equal + " and the oracle " + on + ": o and lse_log2", worst.ok(),
                      worst.ok() ? text("%.2g of the tolerance", worst.ratio()) : worst.message());
}

std::string number_text(double value, const char* format) {
  char buffer[64];
  const int width = std::snprintf(buffer, sizeof buffer, format, 0.0);
  std::string out;
  if (std::isfinite(value)) {
    std::snprintf(buffer, sizeof buffer, format, value == 0 ? 0.0 : value);  // no "-0.00"
    out = buffer;
  } else {
    out = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  return out.size() < static_cast<std::size_t>(width) ? std::string(width - out.size(), ' ') + out : out;
}

}  // namespace flashladder::walkthroughs
