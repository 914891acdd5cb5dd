// ALiBi where its term is large: in a long sequence slope * (j - i) reaches 10^5 and more, and float must not lose the
// logits over it. What the rungs give is held against the formula written out once more here, in double, key by key.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/score_transform.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

CaseSpec alibi(std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens, std::int32_t heads, MaskMode mask) {
  CaseSpec s{.name = "alibi", .qo_lens = std::move(qo_lens), .kv_lens = std::move(kv_lens)};
  s.params = {.num_qo_heads = heads, .num_kv_heads = 1, .head_dim_qk = 16, .head_dim_vo = 16, .sm_scale = 0.25f,
              .mask = mask, .pos_encoding_mode = PosEncodingMode::ALIBI};
  return s;
}

const float* row_of_cache(const Case& c, const AttentionProblem& problem, std::int32_t b, std::int32_t j, bool value) {
  const std::int32_t size = c.spec.page_size, page = c.paged_kv_indices[c.paged_kv_indptr[b] + j / size];
  const KvStrides& strides = value ? problem.kv.v_strides : problem.kv.k_strides;
  return static_cast<const float*>(value ? problem.kv.v : problem.kv.k) + page * strides.page + j % size * strides.entry;
}

struct Exact {
  std::vector<double> o;
  double lse_log2 = 0;
};

// One row by hand, one KV head: natural logits q . k * sm_scale + slope * (j - i) of the keys that it sees, and its sink.
Exact exact(const Case& c, std::int32_t b, std::int32_t i, std::int32_t head) {
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = c.spec.qo_lens[b], kv_len = c.spec.kv_lens[b];
  std::size_t mask = static_cast<std::size_t>(i) * kv_len;  // where its row of a custom mask begins
  for (std::int32_t r = 0; r < b; ++r) mask += static_cast<std::size_t>(c.spec.qo_lens[r]) * c.spec.kv_lens[r];
  const float* q = problem.q.data_as<const float>() + (problem.qo_indptr[b] + i) * problem.q.strides[0] +
                   head * problem.q.strides[1];
  std::vector<double> logits(kv_len, -INFINITY);
  for (std::int32_t j = 0; j < kv_len; ++j) {
    const bool hidden = p.mask == MaskMode::causal   ? j > i + kv_len - qo_len
                        : p.mask == MaskMode::custom ? c.custom_mask[mask + j] == 0
                                                     : false;
    if (hidden) continue;
    double dot = 0;
    for (std::int32_t d = 0; d < p.head_dim_qk; ++d) dot += double{q[d]} * row_of_cache(c, problem, b, j, false)[d];
    logits[j] = dot * p.sm_scale + alibi_slope(head, p.num_qo_heads) * (double{1} * j - i);
  }
  double m = p.sinks ? c.sinks[head] : -INFINITY;
  for (const double x : logits) m = std::max(m, x);
  Exact row{std::vector<double>(p.head_dim_vo), 0};
  double sum = p.sinks ? std::exp(c.sinks[head] - m) : 0;
  for (std::int32_t j = 0; j < kv_len; ++j) {
    const double weight = std::exp(logits[j] - m);
    sum += weight;
    for (std::int32_t d = 0; d < p.head_dim_vo; ++d) row.o[d] += weight * row_of_cache(c, problem, b, j, true)[d];
  }
  for (double& x : row.o) x /= sum;
  row.lse_log2 = (m + std::log(sum)) / std::log(2.0);
  return row;
}

constexpr double limit = 4e-6;

// Every row of the case, in the order of the output: [nnz_qo, num_qo_heads].
std::vector<Exact> exact(const Case& c) {
  std::vector<Exact> rows;
  for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
    for (std::int32_t i = 0; i < c.spec.qo_lens[b]; ++i) {
      for (std::int32_t h = 0; h < c.spec.params.num_qo_heads; ++h) rows.push_back(exact(c, b, i, h));
    }
  }
  return rows;
}

// The worst error of each rung's o, and of its lse_log2 against 1 + |lse_log2|.
void check_rungs(const Case& c) {
  const std::size_t dim = c.spec.params.head_dim_vo;
  const std::vector<Exact> want = exact(c);
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::cpu) continue;
    const RunResult result = run_rung(rung, c, {.threads = 2});
    double worst_o = 0, worst_lse = 0;
    for (std::size_t row = 0; row < want.size(); ++row) {
      for (std::size_t d = 0; d < dim; ++d) {
        const double error = std::abs(result.o[row * dim + d] - want[row].o[d]);
        if (!(error <= worst_o)) worst_o = error;
      }
      const double lse = want[row].lse_log2, error = std::abs(result.lse_log2[row] - lse) / (1 + std::abs(lse));
      if (!(error <= worst_lse)) worst_lse = error;
    }
    CHECK_MESSAGE(worst_o <= limit, rung.name, ": o is off by ", worst_o);
    CHECK_MESSAGE(worst_lse <= limit, rung.name, ": lse_log2 is off by ", worst_lse, " of 1 + |lse_log2|");
  }
}

}  // namespace

TEST_CASE("ALiBi loses nothing at 131072 and at a million keys") {
  check_rungs(draw_case(alibi({1}, {131072}, 8, MaskMode::none)));
  check_rungs(draw_case(alibi({1}, {1000000}, 8, MaskMode::none)));
}

TEST_CASE("ALiBi loses nothing in prefills: causal and full and with more queries than keys") {
  check_rungs(draw_case(alibi({3, 40}, {60000, 40}, 6, MaskMode::causal)));
  check_rungs(draw_case(alibi({700}, {700}, 1, MaskMode::none)));
  check_rungs(draw_case(alibi({900}, {30}, 2, MaskMode::none)));
}

TEST_CASE("ALiBi loses nothing with a mask that hides the last keys") {
  Case c = draw_case(alibi({2}, {50000}, 4, MaskMode::none));
  c.spec.params.mask = MaskMode::custom;
  c.spec.custom_mask = CustomMask::given;
  c.custom_mask.assign(100000, 0);
  for (std::size_t j = 0; j < 300; ++j) c.custom_mask[j] = c.custom_mask[50000 + 7 * j] = 1;
  check_rungs(c);
}

TEST_CASE("ALiBi reckons from the mask of its own request, where partials are merged too") {
  Case c = draw_case(alibi({1, 2}, {40000, 30000}, 4, MaskMode::none));
  c.spec.params.mask = MaskMode::custom;
  c.spec.custom_mask = CustomMask::given;
  c.custom_mask.assign(100000, 0);
  for (std::size_t j = 0; j < 300; ++j) {
    for (const std::size_t at : {70 * j, 40000 + 9 * j, 70000 + 5 * j}) c.custom_mask[at] = 1;
  }
  check_rungs(c);
}

TEST_CASE("ALiBi with sinks: the sink is a logit of the contract, whichever side outweighs the other") {
  for (const float sink : {-300.0f, 0.0f, 300.0f, 2000.0f}) {
    Case c = draw_case(alibi({1, 900, 3}, {4000, 30, 0}, 2, MaskMode::none));
    c.spec.params.sinks = true;
    c.sinks = {sink, sink + 1};
    check_rungs(c);
  }
}
