// Chapter 01: attention as it is defined. One query against five keys with all its numbers; why scores are scaled and the
// maximum is subtracted, which KV head serves which query head, where the causal corner lies; what models add (window, RoPE,
// soft cap, ALiBi, sinks); and a head of a real model.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "draw/heatmap.hpp"
#include "draw/mask_picture.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/input/json.hpp"
#include "reference/c0_naive.hpp"
#include "walkthroughs/model_features.hpp"
#include "walkthroughs/toy.hpp"
#include "walkthroughs/toy_row.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

ladder::CaseSpec toy_spec(std::int32_t qo_len, std::int32_t kv_len) {
  return {.name = "toy", .seed = 3, .qo_lens = {qo_len}, .kv_lens = {kv_len},
          .params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 4, .head_dim_vo = 4, .sm_scale = 0.5f,
                     .mask = MaskMode::causal}, .page_size = 4};
}

struct Softmax {
  SoftmaxState<double> state;
  Eigen::RowVectorXd p, weights;  // P = 2^(x - m); weights = P / d

  explicit Softmax(const Eigen::RowVectorXd& x) {
    state.m = x.maxCoeff();
    p = x.unaryExpr([&](double logit) { return SoftmaxState<double>::weight(logit, state.m); });
    state.d = p.sum();
    weights = p * state.inverse_d();
  }
  // 2^entropy: 1 where one key has all the weight, n where n keys share it.
  double keys_that_count() const {
    return std::exp2(-weights.unaryExpr([](double w) { return w > 0 ? w * std::log2(w) : 0; }).sum());
  }
};

void one_row(Narrator& n) {
  n.section("One query of one head");
  const ladder::Case c = toy_case(toy_spec(3, 5));
  const Head head(c.problem(), 0);
  const auto c0 = reference::c0::naive_head<double>(c.problem(), 0, 0, 0);
  const Eigen::Index last = 2;
  const double scale = c.spec.params.sm_scale;
  const Softmax softmax(head.logits.row(last));
  const auto [m, d] = softmax.state;
  n.step("Head 0, the last of 3 queries; it sees all 5 keys. q = (%s), head_dim = 4, sm_scale = 1 / sqrt(4) = %g.",
         row_text(head.q.row(last), "%.2f").c_str(), scale);
  std::vector<std::vector<std::string>> rows;
  for (Eigen::Index j = 0; j < head.k.rows(); ++j) {
    rows.push_back({text("%td", j), row_text(head.k.row(j), "%5.2f"), number_text(head.scores(last, j), "%.4f"),
                    number_text(head.scores(last, j) * scale, "%.4f"), number_text(head.logits(last, j), "%.4f"),
                    number_text(softmax.p[j], "%.4f"), number_text(softmax.weights[j], "%.4f"),
                    row_text(head.v.row(j), "%5.2f")});
  }
  n.table({"j", "k[j]", "q.k", "logit", "x", "P", "weight", "v[j]"}, rows);
  n.say("logit = q.k * sm_scale. x = logit * log2(e) = logit * %.4f, so that 2^x is e^logit. P = 2^(x - m), where m = %.4f "
        "is the largest x. weight = P / d, where d = %.4f is the sum of P.", log2_e, m, d);
  const Eigen::RowVectorXd o = softmax.weights * head.v;
  n.step("o = sum of weight * v[j] = (%s): a mean of the rows of V.", row_text(o, "%.4f").c_str());
  n.step("lse_log2 = m + log2(d) = %.4f holds m and d in one number: weight = 2^(x - lse_log2). In natural units it is "
         "lse_log2 / log2(e) = %.4f. Every lse in FlashLadder is base 2, and its name says so.", softmax.state.lse_log2(),
         lse_natural_from_log2(softmax.state.lse_log2()));
  const double rounding = 8 * unit_roundoff(DType::f64) * (1 + head.logits.row(last).cwiseAbs().maxCoeff());  // oracle.hpp
  n.check("this row of o equals C0's", (o - c0.o.row(last)).cwiseAbs().maxCoeff(), rounding * head.v.cwiseAbs().maxCoeff());
  n.check("its lse_log2 equals C0's", std::abs(softmax.state.lse_log2() - c0.lse_log2[last]), rounding);
}

void scale_and_maximum(Narrator& n) {
  n.section("Why the scale, why the maximum");
  const ladder::Case c = ladder::draw_case({.name = "random", .qo_lens = {1}, .kv_lens = {256}, .params = {.sm_scale = 1}});
  const Head head(c.problem(), 0);
  n.step("Each of the head_dim products in q.k adds to its variance, so scores of %d features spread %.0f times as far as "
         "those of one: of 256 random keys the root mean square is %.1f. Their softmax is nearly a choice: %.1f keys count "
         "(2^entropy of the weights). With sm_scale = 1 / 8, %.0f of them do.", c.spec.params.head_dim_qk,
         std::sqrt(c.spec.params.head_dim_qk), std::sqrt(head.scores.squaredNorm() / 256),
         Softmax(head.logits.row(0)).keys_that_count(), Softmax(head.logits.row(0) / 8).keys_that_count());
  const Eigen::RowVector3f logits(100, 99, 98), plain = logits.array().exp(), kept = (logits.array() - 100).exp();
  n.step("Three logits in float: %s. Their exponentials: %s, because float ends at e^%.1f. The weights, inf / inf: %s.",
         row_text(logits, "%.0f").c_str(), row_text(plain, "%.0f").c_str(), std::log(std::numeric_limits<float>::max()),
         row_text(plain / plain.sum(), "%g").c_str());
  n.step("With the maximum subtracted: %s; weights %s. Numerator and denominator were both divided by e^m, so the result "
         "cannot depend on m; only the range of the numbers does. The largest P is 1, so d lies between 1 and the number "
         "of keys.", row_text(kept, "%.3f").c_str(), row_text(kept / kept.sum(), "%.3f").c_str());
  n.check_that("without the maximum every weight is nan", (plain / plain.sum()).array().isNaN().all());
}

void groups(Narrator& n, const ladder::CaseSpec& real) {
  n.section("Grouped queries (GQA)");
  const AttentionParams toy = toy_spec(3, 5).params, model = real.params;
  std::string heads;
  for (std::int32_t h = 0; h < toy.num_qo_heads; ++h) heads += text("  %d -> %d", h, h / toy.group_size());
  n.step("The toy has %d query heads and %d KV heads, so groups of %d. Query head h reads KV head h / group_size:%s. Each "
         "query head keeps a softmax of its own; only K and V are shared.", toy.num_qo_heads, toy.num_kv_heads,
         toy.group_size(), heads.c_str());
  const auto cache = [&](const char* name, std::int32_t kv_heads) -> std::vector<std::string> {
    const std::size_t bytes = 2 * static_cast<std::size_t>(kv_heads) * model.head_dim_qk * size_of(real.dtype);
    return {name, text("%d", model.num_qo_heads), text("%d", kv_heads), text("%zu", bytes), text("%.2f", bytes / 256.0)};
  };
  n.step("What that saves is cache. One layer of SmolLM2-135M, head_dim %d, %s:", model.head_dim_qk, name_of(real.dtype));
  n.table({"", "query heads", "KV heads", "bytes per token", "MiB for 4096 tokens"},
          {cache("a KV head for each (MHA)", model.num_qo_heads), cache("as the model is (GQA)", model.num_kv_heads),
           cache("one for all (MQA)", 1)});
}

void corner(Narrator& n) {
  n.section("The causal corner");
  const ladder::Case longer = toy_case(toy_spec(3, 5)), shorter = toy_case(toy_spec(5, 3));
  const AttentionParams& p = longer.spec.params;
  std::string masks = "           bottom-right   top-left (wrong)\n";
  for (std::int32_t i = 0; i < 3; ++i) {
    std::string right, wrong;
    for (std::int32_t j = 0; j < 5; ++j) {
      right += visible(p, 3, 5, i, j, nullptr) ? "# " : ". ";
      wrong += j <= i ? "# " : ". ";
    }
    wrong.pop_back();
    masks += text("query %d    %s     %s\n", i, right.c_str(), wrong.c_str());
  }
  n.step("3 queries, 5 keys: the queries are the last 3 tokens of 5, so query i stands on key i + kv_len - qo_len and sees "
         "the keys up to there. The corner of the triangle is at the bottom right.");
  n.block(masks);
  n.say("The top-left corner would hide its own key from every query here. For one query, as in decode, it would hide all "
        "keys but the first. With qo_len = kv_len both agree, which is how the mistake survives tests.");
  n.figure("causal_corner", draw::mask_picture(p, 3, 5, {}, {"3 queries, 5 keys", "causal: j <= i + kv_len - qo_len"}),
           "Causal, 3 queries on 5 keys: the last query stands on the last key.");

  const Head top(shorter.problem(), 0);
  const auto c0 = reference::c0::naive_head<double>(shorter.problem(), 0, 0, 0);
  n.step("5 queries, 3 keys is legal too: the first two queries stand left of key 0 and see nothing. C0 then gives o = 0 "
         "and lse_log2 = -inf, the log of an empty sum: no nan, and no mean of V, which a finite mask value would give.");
  std::vector<std::vector<std::string>> rows;
  for (Eigen::Index i = 0; i < 5; ++i) {
    rows.push_back({text("%td", i), text("%td", (top.logits.row(i).array() > SoftmaxState<double>::nothing).count()),
                    row_text(c0.o.row(i), "%7.4f"), number_text(c0.lse_log2[i], "%.4f")});
  }
  n.table({"query", "keys seen", "o", "lse_log2"}, rows);
  n.figure("empty_rows", draw::mask_picture(p, 5, 3, {}, {"5 queries, 3 keys", "two rows see nothing: o = 0, lse = -inf"}),
           "Causal, 5 queries on 3 keys: two empty rows.");
  n.check_that("the two empty rows are exactly o = 0 and lse_log2 = -inf",
               c0.o.topRows(2).isZero(0) && (c0.lse_log2.head(2).array() == SoftmaxState<double>::nothing).all());
}

void what_models_add(Narrator& n) {
  n.section("What models add");
  ladder::CaseSpec spec = toy_spec(3, 5);
  const ladder::Case plain_case = toy_case(spec);
  spec.params.pos_encoding_mode = PosEncodingMode::ALIBI;
  const ladder::Case alibi_case = toy_case(spec);
  const Head plain(plain_case.problem(), 0), alibi(alibi_case.problem(), 0);
  tell_window(n);
  tell_rope(n);
  tell_soft_cap(n);
  tell_alibi(n, plain, alibi, spec.params.num_qo_heads);
  tell_sink(n, plain);
}

void real_head(Narrator& n, const ladder::Case& real, std::int32_t h) {
  n.section("A head of a real model");
  const Head head(real.problem(), h);
  const auto c0 = reference::c0::naive_head<double>(real.problem(), 0, h, 0);
  const Eigen::Index tokens = head.k.rows(), shown = std::min<Eigen::Index>(tokens, 32);
  const Eigen::Index heads = real.spec.params.num_qo_heads;
  const double* expected = real.expected_o.view().data_as<double>();
  double error = 0, previous = 0;
  for (Eigen::Index i = 0; i < tokens; ++i) {
    const Eigen::Map<const Eigen::RowVectorXd> o(expected + (i * heads + h) * head.v.cols(), head.v.cols());
    error = std::max(error, (c0.o.row(i) - o).cwiseAbs().maxCoeff());
    if (i > 0) previous += std::exp2(head.logits(i, i - 1) - c0.lse_log2[i]) / static_cast<double>(tokens - 1);
  }
  n.step("%s: %td queries on %td keys, %td heads. C0 computes head %d; on average a token gives %.0f %% of its attention "
         "to the token before it.", real.spec.name.c_str(), head.q.rows(), tokens, heads, h, 100 * previous);
  reference::Matrix<float> weights(shown, shown);
  for (Eigen::Index i = 0; i < shown; ++i) {
    for (Eigen::Index j = 0; j < shown; ++j) {
      weights(i, j) = j > i ? -INFINITY : static_cast<float>(std::exp2(head.logits(i, j) - c0.lse_log2[i]));
    }
  }
  std::vector<std::string> words;
  const ladder::Json texts = ladder::parse_json(real.notes.at("x-tokens"), "x-tokens", 1);
  for (const ladder::Json& token : *texts.list()) words.push_back(*token.text());
  words.resize(static_cast<std::size_t>(shown));
  std::ranges::replace(words, "\n", "\\n");
  const auto side = static_cast<std::int32_t>(shown);
  n.figure("real_head", draw::heatmap(side, side, {weights.data(), static_cast<std::size_t>(weights.size())},
                                      {.caption = {text("Head %d, first %td tokens", h, shown), "weight of each key"},
                                       .row_labels = words, .column_labels = words}),
           "Attention weights of a real head: a line below the diagonal.");
  const double rounding = 8 * unit_roundoff(DType::f64) * (1 + c0.lse_log2.cwiseAbs().maxCoeff());
  n.check("o of this head equals what numpy computed in float64", error, rounding * head.v.cwiseAbs().maxCoeff());
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{.number = 1, .title = "Naive attention",
                        .idea = "Every query takes a mean of V, weighted by the softmax of its scores with K."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    const ladder::Case real = ladder::read_case(FLASHLADDER_SOURCE_ROOT "/data/smollm2_layer02.safetensors");
    one_row(n);
    scale_and_maximum(n);
    groups(n, real.spec);
    corner(n);
    what_models_add(n);
    real_head(n, real, 1);
    n.question("C0 keeps all qo_len * kv_len scores of a head at once. How many bytes is that for 131072 tokens in float, "
               "and which of them does a row of o still need once its weights are summed?");
  });
}
