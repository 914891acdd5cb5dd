// The ends of what a rung may be given: numbers that are not finite, and a sequence as long as int32 can count.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(), quiet_nan = std::numeric_limits<float>::quiet_NaN();

std::span<float> values_of(OwnedTensor& t) { return {t.view().data_as<float>(), static_cast<std::size_t>(t.size())}; }

// One request, one head of 8 features, causal with a window of 150 keys: query i of 5 sees keys 195 + i - 150 .. 195 + i.
Case causal_window() {
  CaseSpec s{.name = "extremes", .qo_lens = {5}, .kv_lens = {200}};
  s.params = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = 0.5f,
              .mask = MaskMode::causal, .window_left = 149};
  s.combined_cache = false;
  return draw_case(s);
}

// The 8 features of key j in one of the caches.
std::span<float> token(Case& c, OwnedTensor& cache, std::int32_t j) {
  return values_of(cache).subspan((static_cast<std::size_t>(c.paged_kv_indices[j / 16]) * 16 + j % 16) * 8, 8);
}

// Which of the 5 rows may differ from what the case gives without the change: those have to be NaN in all of o and lse_log2,
// or, if `feature` is not -1, not finite in that feature of o alone. All others have to be as they were.
void check_spread(const Case& clean, const Case& changed, const std::set<int>& rows, int feature = -1) {
  const Oracle oracle = make_oracle(clean);
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::cpu) continue;
    INFO(rung.name);
    const RunResult got = run_rung(rung, changed, {.threads = 1});
    for (int row = 0; row < 5; ++row) {
      INFO("query ", row);
      const bool reached = rows.contains(row);
      if (reached && feature < 0) CHECK(std::isnan(got.lse_log2[row]));
      else CHECK(std::abs(got.lse_log2[row] - oracle.lse_log2[row]) <= oracle.tolerance[row].lse_log2);
      for (int d = 0; d < 8; ++d) {
        const float o = got.o[row * 8 + d];
        if (reached && feature < 0) CHECK(std::isnan(o));
        else if (reached && d == feature) CHECK_FALSE(std::isfinite(o));
        else CHECK(std::abs(o - oracle.o[row * 8 + d]) <= oracle.tolerance[row].o);
      }
    }
  }
}

}  // namespace

TEST_CASE("NaN and infinity reach the rows that see them and no other") {
  const Case clean = causal_window();
  for (const float bad : {quiet_nan, infinity, -infinity}) {
    INFO("value ", bad);
    Case hidden = clean;  // key 40 is outside of every window, 199 is seen by the last query, 47 by the first two
    for (OwnedTensor* cache : {&hidden.k_cache, &hidden.v_cache}) {
      for (float& x : token(hidden, *cache, 40)) x = bad;
    }
    check_spread(clean, hidden, {});
    Case value = clean;
    token(value, value.v_cache, 199)[3] = bad;
    check_spread(clean, value, {4}, 3);
    value = clean;
    token(value, value.v_cache, 47)[3] = bad;
    check_spread(clean, value, {0, 1}, 3);
    Case first = clean, last = clean;
    for (float& x : token(first, first.k_cache, 47)) x = bad;  // features of both signs: inf - inf is NaN
    check_spread(clean, first, {0, 1});
    for (float& x : token(last, last.k_cache, 199)) x = bad;
    check_spread(clean, last, {4});
    Case query = clean;
    for (std::size_t d = 0; d < 8; ++d) values_of(query.q)[2 * 8 + d] = bad;
    check_spread(clean, query, {2});
  }
  Case overflow = clean;  // a logit of +inf
  for (std::size_t d = 0; d < 8; ++d) {
    token(overflow, overflow.k_cache, 199)[d] = std::copysign(infinity, values_of(overflow.q)[4 * 8 + d]);
  }
  check_spread(clean, overflow, {4});
}

TEST_CASE("a mask byte that is not 0 lets the key be seen, whatever else it is") {
  Case c = causal_window();
  c.spec.params.mask = MaskMode::custom, c.spec.custom_mask = CustomMask::given;
  for (std::size_t i = 0; i < 5 * 200; ++i) c.custom_mask.push_back(i % 3 == 0);
  Case others = c;
  for (std::size_t i = 0; i < others.custom_mask.size(); ++i) others.custom_mask[i] *= i % 2 == 0 ? 2 : 255;
  check_spread(c, others, {});
}

TEST_CASE("a logit of -inf weighs nothing") {
  Case c = causal_window(), without = c;
  for (std::size_t d = 0; d < 8; ++d) {
    token(c, c.k_cache, 199)[d] = std::copysign(infinity, -values_of(c.q)[4 * 8 + d]);
    token(without, without.k_cache, 199)[d] = std::copysign(1e4f, -values_of(c.q)[4 * 8 + d]);  // 2^-1000 and less
  }
  check_spread(without, c, {});
}

TEST_CASE("a sequence of 2^31 - 1 keys: only those in the window are touched") {
  constexpr std::int32_t n = std::numeric_limits<std::int32_t>::max();
  float q[2] = {1, 2}, k = 0.5f, v = 3;  // one page of n tokens that are all one token: its strides are 0
  const std::vector<std::int32_t> qo_indptr{0, 2}, kv_indptr{0, 1}, indices{0}, last{n};
  CaseSpec spec{.name = "longest", .qo_lens = {2}, .kv_lens = {n}, .page_size = n};
  spec.params = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 1, .head_dim_vo = 1, .sm_scale = 1, .window_left = 99};
  AttentionProblem problem;
  problem.params = spec.params;
  problem.q = contiguous(q, DType::f32, {2, 1, 1});
  problem.kv = {.k = &k, .v = &v, .k_strides = {}, .v_strides = {}, .num_pages = 1, .page_size = n,
                .num_kv_heads = 1, .head_dim_qk = 1, .head_dim_vo = 1};
  problem.qo_indptr = qo_indptr;
  problem.paged_kv_indptr = kv_indptr;
  problem.paged_kv_indices = indices;
  problem.paged_kv_last_page_len = last;
  for (const MaskMode mask : {MaskMode::none, MaskMode::causal}) {
    problem.params.mask = spec.params.mask = mask;
    for (const char* name : {"C3", "C4"}) {  // the rungs below gather the whole request
      INFO(name);
      float o[2] = {}, lse[2] = {};
      const Settings settings{.threads = 1};
      std::vector<float> workspace(rung(name).workspace_bytes(spec, settings) / sizeof(float) + 1);
      const Buffers buffers{problem, {contiguous(o, DType::f32, {2, 1, 1}), lse},
                            std::as_writable_bytes(std::span(workspace))};
      rung(name).prepare(buffers, spec, settings)(nullptr);
      const double keys = mask == MaskMode::none ? 101 : 100;  // of query 0, whose diagonal is the last key but one
      CHECK(o[0] == doctest::Approx(3));
      CHECK(o[1] == doctest::Approx(3));
      CHECK(lse[0] == doctest::Approx(0.5 / std::log(2.0) + std::log2(keys)));
      CHECK(lse[1] == doctest::Approx(1 / std::log(2.0) + std::log2(100.0)));
    }
  }
}
