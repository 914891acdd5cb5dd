// What models add to the plain logit, each with its numbers: a window, RoPE, a soft cap, ALiBi, sinks. Chapter 01 tells it;
// the rules are those of docs/conventions.md, and every number comes from the function that the rungs call.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "core/rope.hpp"
#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "draw/mask_picture.hpp"
#include "walkthroughs/toy.hpp"
#include "walkthroughs/toy_row.hpp"

namespace flashladder::walkthroughs {

inline void tell_window(Narrator& n) {
  constexpr std::int32_t qo_len = 8, kv_len = 12;
  const AttentionParams p{.mask = MaskMode::causal, .window_left = 3};
  const AttentionParams long_window{.mask = MaskMode::causal, .window_left = 4095};
  n.step("A window, window_left = %d: a query sees the key it stands on and the %d before it. %d queries on %d keys, "
         "causal:", p.window_left, p.window_left, qo_len, kv_len);
  std::string rows;
  std::int32_t most = 0;
  for (std::int32_t i = 0; i < qo_len; ++i) {
    std::string row;
    for (std::int32_t j = 0; j < kv_len; ++j) row += visible(p, qo_len, kv_len, i, j, nullptr) ? " #" : " .";
    const Range keys = visible_keys(p, qo_len, kv_len, i);
    rows += text("query %d  at key %2d  %s   keys %d to %d\n", i, i + kv_len - qo_len, row.c_str(), keys.begin,
                 keys.end - 1);
    most = std::max(most, keys.size());
  }
  n.block(rows);
  const std::int32_t seen = visible_keys(long_window, 1, 131072, 0).size();
  n.say("A decode step with window_left = %d on 131072 keys reads %d of them, %.1f %%.", long_window.window_left, seen,
        100.0 * seen / 131072);
  n.figure("window", draw::mask_picture(p, qo_len, kv_len, {}, {"A window of 4 keys", "causal, window_left = 3: the "
                                                               "diagonal key and 3 before it"}),
           "A window: 8 queries on 12 keys, window_left = 3, causal.");
  n.check_that("no query sees more than window_left + 1 keys", most == p.window_left + 1);
}

inline void tell_rope(Narrator& n) {
  constexpr std::array<float, 4> q{-0.25f, 0, 1.5f, 0}, k{0.25f, -0.5f, 0.75f, 0.5f};  // q and key 1 of the first table
  const auto rotated_dot = [&](std::int64_t at_q, std::int64_t at_k) {
    std::array<double, 4> a{}, b{};
    std::ranges::copy(q, a.begin());
    std::ranges::copy(k, b.begin());
    apply_rope(a.data(), RopeStyle::neox, at_q, 4, 1, 10000);
    apply_rope(b.data(), RopeStyle::neox, at_k, 4, 1, 10000);
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
  };
  n.step("RoPE with head_dim 4 rotates features (0, 2) by position * 1 and features (1, 3) by position * 10000^(-2 / 4) = "
         "position / 100, in radians. The query and key 1 of step 1 at several positions:");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [at_q, at_k] : {std::pair{0, 0}, {4, 1}, {104, 101}, {100004, 100001}, {4, 2}}) {
    rows.push_back({text("%d", at_q), text("%d", at_k), text("%d", at_q - at_k),
                    number_text(rotated_dot(at_q, at_k), "%.4f")});
  }
  n.table({"position of q", "position of k", "distance", "q.k after RoPE"}, rows);
  n.check("the same distance gives the same q.k", std::abs(rotated_dot(100004, 100001) - rotated_dot(4, 1)), 1e-9);
}

inline void tell_soft_cap(Narrator& n) {
  const ScoreTransform<double> capped(AttentionParams{.sm_scale = 1, .logits_soft_cap = 30}, 0);
  std::vector<std::string> before{"logit"}, after{"30 tanh(logit / 30)"};
  double largest = 0;
  for (const double logit : {1.0, 10.0, 30.0, 60.0, 100.0, -100.0}) {
    const double result = capped(logit, 0, 0) / log2_e;
    before.push_back(number_text(logit, "%.0f"));
    after.push_back(number_text(result, "%.3f"));
    largest = std::max(largest, std::abs(result));
  }
  n.step("A soft cap of c = 30 turns a logit into c * tanh(logit / c):");
  n.table(before, {after});
  n.check_that("no logit is larger than the cap", largest <= 30);
}

// head: of the first table of the chapter, with ALiBi in place of nothing.
inline void tell_alibi(Narrator& n, const Head& plain, const Head& alibi, std::int32_t num_qo_heads) {
  const Eigen::Index last = plain.logits.rows() - 1;
  std::string slopes;
  for (std::int32_t h = 0; h < 8; ++h) slopes += text(" %g", alibi_slope(h, 8));
  n.step("ALiBi adds slope * (j - i): a key that lies further behind loses more. Slopes of 8 heads:%s. The row of step 1 "
         "(its head is the first of %d, so its slope is %g):", slopes.c_str(), num_qo_heads, alibi_slope(0, num_qo_heads));
  const auto row = [&](const char* name, const Head& head) {
    const Eigen::RowVectorXd x = head.logits.row(last);
    SoftmaxState<double> state{x.maxCoeff(), 0};
    const Eigen::RowVectorXd p = x.unaryExpr([&](double l) { return SoftmaxState<double>::weight(l, state.m); });
    return std::vector<std::string>{name, row_text(x / log2_e, "%7.4f"), row_text(p / p.sum(), "%6.4f")};
  };
  n.table({"", "logits of keys 0 to 4", "weights"}, {row("without", plain), row("with ALiBi", alibi)});
  const Eigen::RowVectorXd shift = (alibi.logits.row(last) - plain.logits.row(last)) / log2_e;
  n.check("two neighbouring keys differ by one slope", std::abs(shift[1] - shift[0] - alibi_slope(0, num_qo_heads)), 1e-9);
}

inline void tell_sink(Narrator& n, const Head& head) {
  const Eigen::RowVectorXd x = head.logits.row(head.logits.rows() - 1);
  SoftmaxState<double> state{x.maxCoeff(), 0};
  state.d = x.unaryExpr([&](double l) { return SoftmaxState<double>::weight(l, state.m); }).sum();
  const double before = state.lse_log2();
  merge(state, SoftmaxState<double>::from_sink(1.0));
  const double share = std::exp2(before - state.lse_log2());
  n.step("A sink of 1.0 is one more logit in the sum, without a value. The row of step 1 then has lse_log2 = %.4f instead "
         "of %.4f; the weights of its five keys add up to %.4f, and o is %.4f of what it was.", state.lse_log2(), before,
         share, share);
  n.check("what the sink takes is its own weight", std::abs(1 - share - std::exp2(log2_e - state.lse_log2())),
          1e-12);
}

}  // namespace flashladder::walkthroughs
