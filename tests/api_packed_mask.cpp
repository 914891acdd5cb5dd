// A custom mask as bits, on the CPU: what every class that takes it computes has the bits of the same mask as bytes.
#include <doctest/doctest.h>

#include "core/error.hpp"
#include "ladder/case_table.hpp"
#include "tests/api_prefill.hpp"
#include "tests/packed_mask.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

struct Bits : std::vector<std::uint8_t> {
  explicit Bits(const Case& c)
      : std::vector<std::uint8_t>(packed_mask(c.custom_mask, c.spec.qo_lens, c.spec.kv_lens)) {}
};

Result by_page_lists(const Case& c, const Bits& bits) {
  const AttentionConfig config = prefill_config(c, DType::f32);
  using Prefill = BatchPrefillWithPagedKVCache;
  Memory memory(Prefill::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len));
  Prefill prefill(config, memory.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out, nullptr, c.sinks, {}, c.problem().scales, bits);
  });
}

template <class Graph>
Result by_graph(const Case& c, const Bits& bits) {
  const AttentionConfig config = prefill_config(c, DType::f32);
  const AttentionLimits limits{.max_batch = c.spec.batch(), .max_pages = std::ssize(c.paged_kv_indices),
                               .max_nnz_qo = c.q.shape[0]};
  Memory memory(Graph::workspace_bytes(config, limits));
  Graph graph(config, limits, memory.view());
  if constexpr (std::is_same_v<Graph, BatchAttention>) {
    graph.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
  } else {
    graph.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len);
  }
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    graph.run(c.q.view(), c.problem().kv, out, nullptr, c.sinks, {}, c.problem().scales, bits);
  });
}

// One form of the mask; the other is empty.
Result by_single_call(const Case& c, std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> bits) {
  const PagedKvCache kv = c.problem().kv;
  Tokens k(c, kv.k, kv.k_strides, kv.head_dim_qk), v(c, kv.v, kv.v_strides, kv.head_dim_vo);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    single_prefill_with_kv_cache(c.q.view(), k.tensor(), v.tensor(), out,
                                 {.logits = prefill_config(c, DType::f32).logits, .sinks = c.sinks, .custom_mask = bytes,
                                  .packed_custom_mask = bits, .scales = c.problem().scales});
  });
}

Result by_tokens(const Case& c, const Bits& bits) {
  AttentionConfig config = prefill_config(c, DType::f32);
  config.cache.page_size = 1;
  const PagedKvCache kv = c.problem().kv;
  Tokens k(c, kv.k, kv.k_strides, kv.head_dim_qk), v(c, kv.v, kv.v_strides, kv.head_dim_vo);
  std::vector<std::int32_t> kv_indptr{0};
  for (const std::int32_t len : c.spec.kv_lens) kv_indptr.push_back(kv_indptr.back() + len);
  Memory memory(BatchPrefillWithRaggedKVCache::workspace_bytes(config, c.qo_indptr, kv_indptr));
  BatchPrefillWithRaggedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, kv_indptr);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), k.tensor(), v.tensor(), out, nullptr, c.sinks, {}, c.problem().scales, bits);
  });
}

// What a run with this mask is refused with.
std::string refusal(const Case& c, std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> bits) {
  const AttentionConfig config = prefill_config(c, DType::f32);
  using Prefill = BatchPrefillWithPagedKVCache;
  Memory memory(Prefill::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len));
  Prefill prefill(config, memory.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  GuardedOutput out(c.q.shape[0], c.spec.params.num_qo_heads, c.spec.params.head_dim_vo, DType::f32);
  try {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out.view(), nullptr, c.sinks, bytes, {}, bits);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("bits of a custom mask give what its bytes give, in every class") {
  int masked = 0;
  for (const CaseSpec& spec : case_table()) {
    if (spec.params.mask != MaskMode::custom) continue;
    ++masked;
    INFO("case: ", spec.name);
    const Case c = draw_case(spec);
    const Bits bits(c);
    const Result wanted = flashladder::test::by_page_lists(c, DType::f32);
    CHECK(by_page_lists(c, bits) == wanted);
    CHECK(by_graph<CUDAGraphBatchPrefillWithPagedKVCache>(c, bits) == wanted);
    CHECK(by_graph<BatchAttention>(c, bits) == wanted);
    CHECK(by_tokens(c, bits) == wanted);
    CaseSpec alone = spec;
    alone.qo_lens.resize(1), alone.kv_lens.resize(1);
    const Case one = draw_case(alone);
    CHECK(by_single_call(one, {}, Bits(one)) == by_single_call(one, one.custom_mask, {}));
  }
  CHECK(masked > 8);
}

TEST_CASE("bits of a custom mask are refused where they do not fit") {
  CaseSpec spec{.name = "refused", .seed = 3, .qo_lens = {3, 2}, .kv_lens = {9, 5}};
  spec.params.mask = MaskMode::custom, spec.custom_mask = CustomMask::random;
  const Case c = draw_case(spec);
  const Bits bits(c);
  REQUIRE(bits.size() == 4 + 2);
  CHECK(refusal(c, {}, bits) == "accepted");
  CHECK(refusal(c, {}, std::span(bits).first(5)) ==
        "packed_custom_mask size = 5: must be the sum of ceil(qo_len * kv_len / 8) (6)");
  CHECK(refusal(c, c.custom_mask, bits) ==
        "custom_mask size = 37: must be 0: packed_custom_mask is given, and one form is enough");
  CHECK(refusal(c, {}, std::span(static_cast<const std::uint8_t*>(nullptr), 6)) ==
        "packed_custom_mask = null: must point to data, since its size is not 0");
  spec.params.mask = MaskMode::causal, spec.custom_mask = CustomMask::none;
  CHECK(refusal(draw_case(spec), {}, bits) ==
        "packed_custom_mask size = 6: must be 0, since logits.mask is not custom (0)");
}
