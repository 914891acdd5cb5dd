// What run() may be given: block tables in every class, a graph's rows, strided q and o, o on q's memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "ladder/case_table.hpp"
#include "tests/api_prefill.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

TEST_CASE("a graph's object takes many queries too, and any batch within its limits") {
  const AttentionLimits limits{.max_batch = 9, .max_pages = 400, .max_nnz_qo = 200};
  const AttentionConfig config = prefill_config(causal_case(DType::f32), DType::f32);
  Memory memory(CUDAGraphBatchPrefillWithPagedKVCache::workspace_bytes(config, limits));
  CUDAGraphBatchPrefillWithPagedKVCache graph(config, limits, memory.view());
  for (const std::uint64_t seed : {7, 9, 11, 13}) {
    const Case c = causal_case(DType::f32, seed);
    const Dense dense(c);
    if (seed % 4 == 1) {
      graph.plan(c.qo_indptr, dense.lengths, dense.block_tables);
    } else {
      graph.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len);
    }
    GuardedOutput out(200, 6, 64);
    std::vector<std::byte> q(200 * 6 * 64 * sizeof(float), std::byte{0xff});
    std::copy(c.q.bytes.begin(), c.q.bytes.end(), q.begin());
    const AttentionOutput view = out.view();
    graph.run(contiguous(q.data(), DType::f32, {200, 6, 64}), c.problem().kv, view);
    const Result expected = by_page_lists(c, DType::f32);
    const auto* o = view.o.data_as<const float>();
    CHECK(std::equal(expected.o.begin(), expected.o.end(), o));
    CHECK(std::all_of(o + expected.o.size(), o + view.o.size(), [](float x) { return x != x; }));
    CHECK(out.guards_intact());
  }
}

TEST_CASE("equal lengths give equal plans, whatever holds the page ids") {
  const Case c = causal_case(DType::f32);
  const AttentionConfig config = prefill_config(c, DType::f32);
  const Dense dense(c);
  std::vector<std::byte> memory(1 << 20);
  BatchPrefillWithPagedKVCache lists(config, {.device = memory}), table(config, {.device = memory});
  lists.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  table.plan(c.qo_indptr, dense.lengths);
  const Plan &a = lists.current_plan(), &b = table.current_plan();
  CHECK(a.kv_lens == b.kv_lens);
  CHECK(a.qo_lens == b.qo_lens);
  CHECK(a.cta_cost == b.cta_cost);
  CHECK(a.partial_rows == b.partial_rows);
}

TEST_CASE("decode takes block tables, in a graph's object too") {
  for (const CaseSpec& table_spec : case_table()) {
    const CaseSpec spec = one_query_each(table_spec);
    INFO("case: ", spec.name);
    const Case c = draw_case(spec);
    const Dense dense(c);
    const AttentionConfig config = prefill_config(c, DType::f32);
    const AttentionLimits limits{spec.batch(), static_cast<std::int64_t>(dense.block_tables.size())};
    Memory list_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len));
    Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, dense.lengths));
    Memory graph_memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
    BatchDecodeWithPagedKVCache lists(config, list_memory.view()), decode(config, memory.view());
    CUDAGraphBatchDecodeWithPagedKVCache graph(config, limits, graph_memory.view());
    const PagedKvCache kv = c.problem().kv;
    lists.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
    decode.plan(dense.lengths);
    graph.plan(dense.lengths, dense.block_tables);
    const Result expected = written(c, DType::f32, [&](const AttentionOutput& out) {
      lists.run(c.q.view(), kv, c.paged_kv_indices, out, nullptr, c.sinks, {}, c.problem().scales);
    });
    CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
            decode.run(c.q.view(), kv, dense.block_tables, out, nullptr, c.sinks, {}, c.problem().scales);
          }));
    CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
            graph.run(c.q.view(), kv, out, nullptr, c.sinks, c.problem().scales);
          }));
  }
}

TEST_CASE("q may be a slice of a fused QKV tensor and o may have any strides") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Case c = causal_case(dtype);
    const AttentionConfig config = prefill_config(c, dtype);
    const Result dense = by_page_lists(c, dtype);
    const std::int64_t nnz = c.q.shape[0], heads = 6, dim = 64, wide = heads + 2 * 2;
    const std::size_t bytes = static_cast<std::size_t>(dim) * size_of(dtype);
    // q [nnz, 6 + 2 + 2 heads, dim], the slice of the first 6; o [6, nnz, dim], a head's tokens together.
    std::vector<std::byte> fused(static_cast<std::size_t>(nnz * wide) * bytes, std::byte{0xff}), turned(fused.size());
    for (std::int64_t row = 0; row < nnz; ++row) {
      std::memcpy(fused.data() + static_cast<std::size_t>(row * wide) * bytes,
                  c.q.bytes.data() + static_cast<std::size_t>(row * heads) * bytes, static_cast<std::size_t>(heads) * bytes);
    }
    Tensor q = contiguous(fused.data(), dtype, {nnz, heads, dim}), o = contiguous(turned.data(), dtype, {nnz, heads, dim});
    q.strides = {wide * dim, dim, 1};
    o.strides = {dim, nnz * dim, 1};
    BatchPrefillWithPagedKVCache prefill(config, {});
    std::vector<std::byte> memory(
        BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len)
            .device);
    prefill = BatchPrefillWithPagedKVCache(config, {.device = memory});
    prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
    prefill.run(q, c.problem().kv, c.paged_kv_indices, {o, {}});
    std::vector<float> row(static_cast<std::size_t>(dim));
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < nnz * heads; ++i) {
      reference::load_row(o, i / heads * o.strides[0] + i % heads * o.strides[1], dim, row.data());
      wrong += !std::equal(row.begin(), row.end(), dense.o.begin() + i * dim);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("o may be q itself") {
  for (const DType dtype : {DType::f32, DType::f16}) {
    Case c = causal_case(dtype);
    const Result apart = by_page_lists(c, dtype);
    const AttentionConfig config = prefill_config(c, dtype);
    std::vector<std::byte> memory(
        BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len)
            .device);
    BatchPrefillWithPagedKVCache prefill(config, {.device = memory});
    prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, {c.q.view(), {}});
    std::vector<float> o(apart.o.size());
    reference::load_row(c.q.view(), 0, static_cast<std::int64_t>(o.size()), o.data());
    CHECK(o == apart.o);
  }
}
