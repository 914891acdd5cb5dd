// Many queries a request on the CPU, through every form that a cache may have: page lists against the oracle, and the others
// against page lists, bit for bit. Strided q and o, o on q's memory, one call without a plan.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "api/flashladder.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/draw_case.hpp"
#include "ladder/cases/guarded_output.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_cases.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

struct Result {
  std::vector<float> o, lse_log2;
  // Bit by bit, so that equal NaN are equal.
  friend bool operator==(const Result& a, const Result& b) {
    const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
    };
    return same(a.o, b.o) && same(a.lse_log2, b.lse_log2);
  }
};

// What `run(output)` writes into rows that start as NaN between guard bands.
Result written(const Case& c, DType o_dtype, const std::function<void(const AttentionOutput&)>& run) {
  GuardedOutput out(c.q.shape[0], c.spec.params.num_qo_heads, c.spec.params.head_dim_vo, o_dtype);
  const AttentionOutput view = out.view();
  run(view);
  CHECK(out.guards_intact());
  Result result{.o = std::vector<float>(static_cast<std::size_t>(view.o.size())),
                .lse_log2 = {view.lse_log2.begin(), view.lse_log2.end()}};
  reference::load_row(view.o, 0, view.o.size(), result.o.data());
  return result;
}

AttentionConfig prefill_config(const Case& c, DType o_dtype) {
  AttentionConfig config = config_of(c.spec, Device::cpu, o_dtype);
  config.execution.policy = c.spec.seed % 2 ? SplitPolicy::balanced : SplitPolicy::fixed;
  config.execution.chunk_size = 64;
  return config;
}

// Exactly the workspace that was asked for, between guard bands, all bits set.
struct Memory {
  GuardedBytes bytes;
  explicit Memory(const WorkspaceBytes& size) : bytes(size.device) {
    std::fill_n(bytes.data(), bytes.size(), std::byte{0xff});
    CHECK(size.staging == 0);
  }
  ~Memory() { CHECK(bytes.guards_intact()); }
  Workspace view() { return {.device = {bytes.data(), bytes.size()}}; }
};

Result by_page_lists(const Case& c, DType o_dtype) {
  const AttentionConfig config = prefill_config(c, o_dtype);
  using Prefill = BatchPrefillWithPagedKVCache;
  Memory memory(Prefill::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len));
  Prefill prefill(config, memory.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out, nullptr, c.sinks, c.custom_mask);
  });
}

// The case's pages as a dense table with two entries to spare in each row; what is beyond a length is no page at all.
struct Dense {
  std::vector<std::int32_t> block_tables;
  BlockTableLengths lengths;

  explicit Dense(const Case& c) : lengths{c.spec.kv_lens, 2} {
    for (const std::int32_t len : c.spec.kv_lens) {
      lengths.max_pages = std::max(lengths.max_pages, pages_for(len, c.spec.page_size) + 2);
    }
    block_tables.assign(c.spec.kv_lens.size() * static_cast<std::size_t>(lengths.max_pages), -1);
    for (std::size_t b = 0; b < c.spec.kv_lens.size(); ++b) {
      std::copy(c.paged_kv_indices.begin() + c.paged_kv_indptr[b], c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1],
                block_tables.begin() + static_cast<std::ptrdiff_t>(b) * lengths.max_pages);
    }
  }
};

Result by_block_table(const Case& c, DType o_dtype) {
  const AttentionConfig config = prefill_config(c, o_dtype);
  const Dense dense(c);
  Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, dense.lengths));
  BatchPrefillWithPagedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, dense.lengths);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, dense.block_tables, out, nullptr, c.sinks, c.custom_mask);
  });
}

// The case's keys or values, token by token, each row found by walking the pages.
struct Tokens {
  std::vector<std::byte> bytes;
  std::int64_t count = 0, heads, dim;
  DType dtype;

  Tokens(const Case& c, const void* base, const KvStrides& strides, std::int32_t head_dim)
      : heads(c.spec.params.num_kv_heads), dim(head_dim), dtype(c.spec.dtype) {
    const std::size_t row = static_cast<std::size_t>(dim) * size_of(dtype);
    for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
      for (std::int32_t t = 0; t < c.spec.kv_lens[b]; ++t, ++count) {
        const std::int32_t page = c.paged_kv_indices[c.paged_kv_indptr[b] + t / c.spec.page_size];
        for (std::int32_t h = 0; h < heads; ++h) {
          const std::int64_t at = strides.page * page + strides.entry * (t % c.spec.page_size) + strides.head * h;
          const auto* from = static_cast<const std::byte*>(base) + at * static_cast<std::int64_t>(size_of(dtype));
          bytes.insert(bytes.end(), from, from + row);
        }
      }
    }
  }
  Tensor tensor() { return contiguous(bytes.data(), dtype, {count, heads, dim}); }
};

Result by_tokens(const Case& c, DType o_dtype, bool single) {
  AttentionConfig config = prefill_config(c, o_dtype);
  config.cache.page_size = 1;
  const PagedKvCache kv = c.problem().kv;
  Tokens k(c, kv.k, kv.k_strides, kv.head_dim_qk), v(c, kv.v, kv.v_strides, kv.head_dim_vo);
  if (single) {
    return written(c, o_dtype, [&](const AttentionOutput& out) {
      single_prefill_with_kv_cache(c.q.view(), k.tensor(), v.tensor(), out,
                                   {.logits = config.logits, .sinks = c.sinks, .custom_mask = c.custom_mask});
    });
  }
  std::vector<std::int32_t> kv_indptr{0};
  for (const std::int32_t len : c.spec.kv_lens) kv_indptr.push_back(kv_indptr.back() + len);
  Memory memory(BatchPrefillWithRaggedKVCache::workspace_bytes(config, c.qo_indptr, kv_indptr));
  BatchPrefillWithRaggedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, kv_indptr);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), k.tensor(), v.tensor(), out, nullptr, c.sinks, c.custom_mask);
  });
}

void check_case(const CaseSpec& spec) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c);
  const Result exact = by_page_lists(c, DType::f32);
  const Comparison comparison = compare(c, exact.o, exact.lse_log2, oracle.o, oracle.lse_log2, oracle.tolerance);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  CHECK(by_block_table(c, DType::f32) == exact);
  CHECK(by_tokens(c, DType::f32, false) == exact);
  if (spec.dtype != DType::f32) {
    const Result narrow = by_page_lists(c, spec.dtype);
    CHECK(rounded(narrow.o, spec.dtype) == rounded(exact.o, spec.dtype));
    CHECK(narrow.lse_log2 == exact.lse_log2);
  }
}

Case causal_case(DType dtype, std::uint64_t seed = 7) {
  CaseSpec spec{.name = "causal", .seed = seed, .qo_lens = {70, 0, 1, 33}, .kv_lens = {300, 5, 129, 33}, .dtype = dtype};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f,
                 .mask = MaskMode::causal};
  return draw_case(spec);
}

}  // namespace

TEST_CASE("prefill equals the oracle on the case table and all forms of a cache give the same bits") {
  for (const CaseSpec& spec : case_table()) check_case(spec);
}

TEST_CASE("prefill equals the oracle on random cases and all forms of a cache give the same bits") {
  const int cases = options().cases > 0 ? options().cases : 60;
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) check_case(random_spec(options().seed + static_cast<std::uint64_t>(i)));
}

TEST_CASE("single_prefill_with_kv_cache equals the oracle") {
  for (const CaseSpec& spec : case_table()) {
    if (spec.batch() != 1) continue;
    INFO("case: ", spec.name);
    const Case c = draw_case(spec);
    const Oracle oracle = make_oracle(c);
    const Result result = by_tokens(c, DType::f32, true);
    const Comparison comparison = compare(c, result.o, result.lse_log2, oracle.o, oracle.lse_log2, oracle.tolerance);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
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
    CaseSpec spec = table_spec;
    spec.qo_lens.assign(spec.kv_lens.size(), 1);
    spec.custom_mask = CustomMask::none;
    if (spec.params.mask == MaskMode::custom) spec.params.mask = MaskMode::none;
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
      lists.run(c.q.view(), kv, c.paged_kv_indices, out, nullptr, c.sinks);
    });
    CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
            decode.run(c.q.view(), kv, dense.block_tables, out, nullptr, c.sinks);
          }));
    CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
            graph.run(c.q.view(), kv, out, nullptr, c.sinks);
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
