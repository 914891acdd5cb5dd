// What else the documents do with pages: a graph's limits, a request cut into four chunks, a block table whose pages are
// drawn with repetition, and tokens that are appended. Each result equals the oracle, and with a wrong table it does not.
#include <doctest/doctest.h>

#include <numeric>
#include <random>

#include "tests/api_documents.hpp"

namespace {

namespace fl = flashladder;
using fl::ladder::Case;
using fl::test::Document;
using fl::test::Indices;
using fl::test::Result;
using fl::test::Workspace128;

fl::api::AttentionConfig in_f32(const Case& c) { return fl::test::config_of(c.spec, fl::Device::cpu, fl::DType::f32); }

// Row by row what append_paged_kv_cache takes: the last tokens of each request, as many as it has queries, out of all.
std::vector<std::byte> last_tokens(const Case& c, const std::vector<std::byte>& tokens) {
  const std::size_t row = static_cast<std::size_t>(c.spec.params.num_kv_heads) * 128 * sizeof(fl::Half);
  std::vector<std::byte> rows;
  std::size_t end = 0;
  for (std::size_t b = 0; b < c.spec.kv_lens.size(); ++b) {
    end += static_cast<std::size_t>(c.spec.kv_lens[b]);
    const auto last = tokens.begin() + static_cast<std::ptrdiff_t>(end * row);
    rows.insert(rows.end(), last - static_cast<std::ptrdiff_t>(static_cast<std::size_t>(c.spec.qo_lens[b]) * row), last);
  }
  return rows;
}

}  // namespace

TEST_CASE("the documents' graph: made for 128 requests and 8192 pages, it replays a batch of 32") {
  const Case c = fl::test::case_of({"graph", Indices(32, 1), Indices(32, 64), 32, 8, 1}, 4);
  Workspace128 workspace;
  fl::api::CUDAGraphBatchDecodeWithPagedKVCache graph(in_f32(c), {.max_batch = 128, .max_pages = 8192}, workspace.view());
  fl::ladder::OwnedTensor q(fl::DType::f16, {128, 32, 128});
  std::ranges::copy(c.q.bytes, q.bytes.begin());
  fl::test::check_pages(c, c.paged_kv_indices, [&](const Indices& page_ids) {
    fl::ladder::GuardedOutput out(128, 32, 128);
    graph.plan(c.paged_kv_indptr, page_ids, c.paged_kv_last_page_len);
    graph.run(q.view(), c.problem().kv, out.view());
    CHECK(out.guards_intact());
    const fl::AttentionOutput all = out.view();
    const auto* o = all.o.data_as<const float>();
    constexpr std::ptrdiff_t rows = 32 * 32;  // (request, head)
    CHECK(std::all_of(o + rows * 128, o + all.o.size(), [](float x) { return x != x; }));
    return Result{.o = {o, o + rows * 128}, .lse_log2 = {all.lse_log2.begin(), all.lse_log2.begin() + rows}};
  });
  CHECK_THROWS_AS(graph.plan(Indices(130, 0), c.paged_kv_indices, Indices(129, 0)), fl::InputError);
}

TEST_CASE("the documents' split-K: 4096 keys in four chunks of 1024, and their merge") {
  const Case c = fl::test::case_of({"split-K", {1}, {4096}, 32, 8, 1}, 5);
  fl::api::AttentionConfig config = in_f32(c);
  config.execution.policy = fl::SplitPolicy::fixed;
  config.execution.chunk_size = 1024;
  Workspace128 workspace;
  fl::api::BatchDecodeWithPagedKVCache decode(config, workspace.view());
  decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
  const fl::Plan& plan = decode.current_plan();
  REQUIRE(plan.num_work() == 4 * 8);
  REQUIRE(plan.parts.size() == 1);
  for (std::int32_t chunk = 0; chunk < 4; ++chunk) {
    CHECK(plan.parts[0].items[static_cast<std::size_t>(chunk)].keys == fl::Range{chunk * 1024, (chunk + 1) * 1024});
  }
  CHECK(plan.num_merges() == 8);
  const auto run = [&] {
    return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
      decode.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out);
    });
  };
  fl::test::check_result(c, run());
  decode.plan(Indices{0, 3072}, Indices{1});  // three of the four
  CHECK_FALSE(against(c, run(), make_oracle(c)).ok());
}

TEST_CASE("the documents' XQA: a block table for 32 requests whose pages are drawn from 128, V a copy of K") {
  // One request draws the pool: 128 full pages. The batch reads any of them, also several times.
  const Case pool = fl::test::case_of({"pool", {1}, {2048}, 32, 8, 16}, 7);
  std::mt19937 random(8);
  Indices seq_lens(32);
  for (std::int32_t& len : seq_lens) len = 100 + static_cast<std::int32_t>(random() % 1948);
  Case c = fl::test::case_of({"XQA", Indices(32, 1), seq_lens, 32, 8, 16}, 7);
  c.kv_cache = pool.kv_cache;
  const auto page_bytes = static_cast<std::ptrdiff_t>(c.kv_cache.bytes.size()) / c.kv_cache.shape[0];
  for (auto page = c.kv_cache.bytes.begin(); page != c.kv_cache.bytes.end(); page += page_bytes) {
    std::copy(page, page + page_bytes / 2, page + page_bytes / 2);  // [2, page_size, num_kv_heads, head_dim]
  }
  for (std::int32_t& page : c.paged_kv_indices) page = pool.paged_kv_indices[random() % 128];
  const fl::test::Dense dense(c);
  Workspace128 workspace;
  fl::api::BatchDecodeWithPagedKVCache decode(in_f32(c), workspace.view());
  decode.plan(dense.lengths);
  fl::test::check_pages(c, dense.block_tables, [&](const Indices& block_tables) {
    return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
      Indices readable = block_tables;  // of the shifted one, entries that were beyond a length and are not now
      std::ranges::replace(readable, -1, pool.paged_kv_indices[0]);
      decode.run(c.q.view(), c.problem().kv, readable, out);
    });
  });
}

TEST_CASE("the documents' index arrays: qo_indptr of 5, 3 and 7; their tokens appended to HND pages, and attention") {
  const Indices qo_indptr{0, 5, 8, 15}, paged_kv_indptr{0, 1, 3, 4}, last_page_len{5, 3, 7};
  Indices seq_lens(3), batch_indices(15), positions(15), want(15);
  fl::api::get_seq_lens(paged_kv_indptr, last_page_len, 16, seq_lens);
  CHECK(seq_lens == Indices{5, 19, 7});
  fl::api::get_batch_indices_positions(qo_indptr, seq_lens, batch_indices, positions);
  CHECK(batch_indices == Indices{0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2});
  std::iota(want.begin(), want.begin() + 5, 0), std::iota(want.begin() + 5, want.begin() + 8, 16);
  std::iota(want.begin() + 8, want.end(), 0);
  CHECK(positions == want);

  const Document d{"5, 3 and 7 appended", {5, 3, 7}, seq_lens, 32, 8, 16, fl::MaskMode::causal, fl::KvLayout::HND};
  Case c = case_of(d, 9);
  CHECK(c.paged_kv_indptr == paged_kv_indptr);
  const fl::PagedKvCache kv = c.problem().kv;
  std::vector<std::byte> keys = last_tokens(c, fl::test::Tokens(c, kv.k, kv.k_strides, 128).bytes);
  std::vector<std::byte> values = last_tokens(c, fl::test::Tokens(c, kv.v, kv.v_strides, 128).bytes);
  const fl::Tensor append_key = fl::contiguous(keys.data(), fl::DType::f16, {15, 8, 128});
  const fl::Tensor append_value = fl::contiguous(values.data(), fl::DType::f16, {15, 8, 128});
  const fl::ladder::Oracle oracle = make_oracle(c);
  const std::vector<std::byte> whole = c.kv_cache.bytes;
  // Request 1 keeps its first page, and no other token is in the cache: appended where they belong, the 15 make it whole.
  const auto page_bytes = static_cast<std::ptrdiff_t>(whole.size()) / c.kv_cache.shape[0];
  std::ranges::fill(c.kv_cache.bytes, std::byte{0xff});
  std::copy_n(whole.begin() + c.paged_kv_indices[1] * page_bytes, page_bytes,
              c.kv_cache.bytes.begin() + c.paged_kv_indices[1] * page_bytes);
  Workspace128 workspace;
  fl::api::BatchPrefillWithPagedKVCache prefill(in_f32(c), workspace.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  const auto attend = [&] {
    const Result result = fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
      prefill.run(c.q.view(), kv, c.paged_kv_indices, out);
    });
    return against(c, result, oracle);
  };
  const auto append = [&](const Indices& where) {
    fl::api::append_paged_kv_cache(append_key, append_value, batch_indices, where, kv, c.paged_kv_indptr, c.paged_kv_indices,
                                   c.paged_kv_last_page_len);
  };
  CHECK_FALSE(attend().ok());
  Indices swapped = positions;
  std::swap(swapped[0], swapped[4]);
  append(swapped);
  CHECK_FALSE(attend().ok());
  append(positions);
  const fl::ladder::Comparison right = attend();
  CHECK_MESSAGE(right.ok(), right.message());
}
