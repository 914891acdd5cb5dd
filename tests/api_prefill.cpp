// Many queries a request on the CPU, through every form that a cache may have: page lists against the oracle, and the others
// against page lists, bit for bit. And one call without a plan.
#include <doctest/doctest.h>

#include "ladder/case_table.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

Result by_block_table(const Case& c, DType o_dtype) {
  const AttentionConfig config = prefill_config(c, o_dtype);
  const Dense dense(c);
  Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, dense.lengths));
  BatchPrefillWithPagedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, dense.lengths);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, dense.block_tables, out, nullptr, c.sinks, c.custom_mask,
                c.problem().scales);
  });
}

Result by_tokens(const Case& c, DType o_dtype, bool single) {
  AttentionConfig config = prefill_config(c, o_dtype);
  config.cache.page_size = 1;
  const PagedKvCache kv = c.problem().kv;
  Tokens k(c, kv.k, kv.k_strides, kv.head_dim_qk), v(c, kv.v, kv.v_strides, kv.head_dim_vo);
  if (single) {
    return written(c, o_dtype, [&](const AttentionOutput& out) {
      single_prefill_with_kv_cache(c.q.view(), k.tensor(), v.tensor(), out,
                                   {.logits = config.logits, .sinks = c.sinks, .custom_mask = c.custom_mask,
                                    .scales = c.problem().scales});
    });
  }
  std::vector<std::int32_t> kv_indptr{0};
  for (const std::int32_t len : c.spec.kv_lens) kv_indptr.push_back(kv_indptr.back() + len);
  Memory memory(BatchPrefillWithRaggedKVCache::workspace_bytes(config, c.qo_indptr, kv_indptr));
  BatchPrefillWithRaggedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, kv_indptr);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), k.tensor(), v.tensor(), out, nullptr, c.sinks, c.custom_mask, c.problem().scales);
  });
}

void check_prefill(const CaseSpec& spec) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c);
  const Result exact = by_page_lists(c, DType::f32);
  const Comparison comparison = compare(c, exact.o, exact.lse_log2, oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  CHECK(by_block_table(c, DType::f32) == exact);
  CHECK(by_tokens(c, DType::f32, false) == exact);
  if (spec.dtype != DType::f32) {
    const Result narrow = by_page_lists(c, spec.dtype);
    CHECK(rounded(narrow.o, spec.dtype) == rounded(exact.o, spec.dtype));
    CHECK(narrow.lse_log2 == exact.lse_log2);
  }
}

}  // namespace

TEST_CASE("prefill equals the oracle on the case table and all forms of a cache give the same bits") {
  for (const CaseSpec& spec : case_table()) check_prefill(spec);
}

TEST_CASE("prefill equals the oracle on random cases and all forms of a cache give the same bits") {
  const int cases = options().cases_or(60);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) check_prefill(random_spec(options().seed + static_cast<std::uint64_t>(i)));
}

TEST_CASE("single_prefill_with_kv_cache equals the oracle") {
  for (const CaseSpec& spec : case_table()) {
    if (spec.batch() != 1) continue;
    INFO("case: ", spec.name);
    const Case c = draw_case(spec);
    const Oracle oracle = make_oracle(c);
    const Result result = by_tokens(c, DType::f32, true);
    const Comparison comparison = compare(c, result.o, result.lse_log2, oracle);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
  }
}
