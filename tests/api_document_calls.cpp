// The calls of the documents that need no wrapper, at their shapes: one request's decode and prefill, 2048 keys of 32 heads.
// Each is right, and the same call without its mask or its RoPE is not.
#include <doctest/doctest.h>

#include "tests/api_documents.hpp"

namespace {

namespace fl = flashladder;
using fl::ladder::Case;
using fl::test::Result;

const fl::api::LogitsConfig plain{}, causal{.mask = fl::MaskMode::causal};

// One request of the document's heads and 2048 keys, and its cache token by token as the single calls take it.
struct Single {
  Case c;
  fl::test::Tokens k, v;

  Single(const char* name, std::int32_t qo_len, const fl::api::LogitsConfig& logits)
      : c(fl::test::case_of({.name = name, .qo_lens = {qo_len}, .kv_lens = {2048}, .num_qo_heads = 32, .num_kv_heads = 32,
                             .page_size = 1, .mask = logits.mask, .one_cache_tensor = false,
                             .pos_encoding_mode = logits.pos_encoding_mode}, 6)),
        k(c, c.problem().kv.k, c.problem().kv.k_strides, 128), v(c, c.problem().kv.v, c.problem().kv.v_strides, 128) {}

  Result prefill(const fl::api::LogitsConfig& logits) {
    return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
      single_prefill_with_kv_cache(c.q.view(), k.tensor(), v.tensor(), out, {.logits = logits});
    });
  }
  Result decode(const fl::api::LogitsConfig& logits) {
    return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
      const fl::Tensor o = fl::contiguous(out.o.data, fl::DType::f32, {32, 128});
      const fl::Tensor q = fl::contiguous(c.q.view().data, fl::DType::f16, {32, 128});
      single_decode_with_kv_cache(q, k.tensor(), v.tensor(), {o, out.lse_log2}, {.logits = logits});
    });
  }
};

// The same request as a batch of one over its pages.
Result by_batch(const Case& c, fl::api::AttentionConfig config) {
  fl::test::Workspace128 workspace;
  config.o_dtype = fl::DType::f32;
  fl::api::BatchPrefillWithPagedKVCache prefill(config, workspace.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out);
  });
}

}  // namespace

TEST_CASE("the documents' single decode of 2048 keys, without RoPE and with it") {
  const fl::api::LogitsConfig rope{.pos_encoding_mode = fl::PosEncodingMode::ROPE_LLAMA};
  for (const fl::api::LogitsConfig& logits : {plain, rope}) {
    const bool rotated = logits.pos_encoding_mode == rope.pos_encoding_mode;
    INFO("RoPE: ", rotated);
    Single one("single decode", 1, logits);
    const fl::ladder::Oracle oracle = make_oracle(one.c);
    const fl::ladder::Comparison comparison = against(one.c, one.decode(logits), oracle);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
    CHECK_FALSE(against(one.c, one.decode(rotated ? plain : rope), oracle).ok());
  }
}

TEST_CASE("the documents' single append: 128 queries behind 1920 keys, causal, with RoPE") {
  const fl::api::LogitsConfig rope{.mask = fl::MaskMode::causal, .pos_encoding_mode = fl::PosEncodingMode::ROPE_LLAMA};
  fl::api::LogitsConfig all = rope;
  all.mask = fl::MaskMode::none;
  Single one("single append", 128, rope);
  const fl::ladder::Oracle oracle = make_oracle(one.c);
  const fl::ladder::Comparison comparison = against(one.c, one.prefill(rope), oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  CHECK_FALSE(against(one.c, one.prefill(causal), oracle).ok());
  CHECK_FALSE(against(one.c, one.prefill(all), oracle).ok());
}

// The oracle of all heads would take longer than all other tests of the suite. It judges four of them; the others must be
// the batch class's, bit for bit, whose heads the other tests judge.
TEST_CASE("the documents' single prefill of 2048 tokens, with all keys visible and causal") {
  Single one("single prefill", 2048, plain);
  const auto judged = [](std::int32_t, std::int32_t head) { return head % 9 == 4; };
  const auto comparison = [&](const Result& result, fl::ladder::Oracle oracle) {
    const std::size_t heads = 32;
    for (std::size_t row = 0; row < oracle.lse_log2.size(); ++row) {
      if (judged(0, static_cast<std::int32_t>(row % heads))) continue;
      oracle.lse_log2[row] = result.lse_log2[row];
      for (std::size_t i = row * 128; i < (row + 1) * 128; ++i) oracle.o[i] = result.o[i];
    }
    return against(one.c, result, oracle);
  };
  std::vector<Result> results;
  std::vector<fl::ladder::Oracle> oracles;
  for (const fl::api::LogitsConfig& logits : {plain, causal}) {
    one.c.spec.params.mask = logits.mask;
    results.push_back(one.prefill(logits));
    oracles.push_back(make_oracle(one.c, {}, judged));
    CHECK(results.back() == by_batch(one.c, fl::api::config_for(one.c.spec.params, {.page_size = 1})));
  }
  for (std::size_t i : {0, 1}) {
    const fl::ladder::Comparison right = comparison(results[i], oracles[i]);
    CHECK_MESSAGE(right.ok(), right.message());
    CHECK_FALSE(comparison(results[1 - i], oracles[i]).ok());
  }
}
