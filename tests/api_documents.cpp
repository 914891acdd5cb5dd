// The shapes and page tables of the documents by which FlashLadder was asked for, with their workspace of 128 MB: their
// decode, prefill and index arrays. Each result equals the oracle.
#include <doctest/doctest.h>

#include <numeric>

#include "api/flashladder.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_cases.hpp"
#include "tests/api_prefill.hpp"

namespace {

namespace fl = flashladder;
using fl::ladder::Case;
using fl::ladder::CaseSpec;
using Indices = std::vector<std::int32_t>;

struct Document {
  const char* name;
  Indices qo_lens, kv_lens;
  std::int32_t num_qo_heads, num_kv_heads, page_size;
  fl::MaskMode mask = fl::MaskMode::none;
  fl::KvLayout layout = fl::KvLayout::NHD;
};

CaseSpec spec_of(const Document& d, std::uint64_t seed) {
  CaseSpec spec{.name = d.name, .seed = seed, .qo_lens = d.qo_lens, .kv_lens = d.kv_lens,
                .page_size = d.page_size, .dtype = fl::DType::f16, .kv_layout = d.layout};
  spec.params = {.num_qo_heads = d.num_qo_heads, .num_kv_heads = d.num_kv_heads, .head_dim_qk = 128, .head_dim_vo = 128,
                 .sm_scale = fl::default_sm_scale(128), .mask = d.mask};
  return spec;
}

// The documents give every wrapper 128 MB.
struct Workspace128 {
  std::vector<std::byte> memory = std::vector<std::byte>(128u << 20);
  fl::api::Workspace view() { return {.device = memory}; }
};

void check_result(const Case& c, const fl::test::Result& result) {
  const fl::ladder::Oracle oracle = make_oracle(c);
  const fl::ladder::Comparison comparison = compare(c, result.o, result.lse_log2, oracle.o, oracle.lse_log2,
                                                    oracle.tolerance);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
}

void check_document(const Document& d) {
  INFO(d.name);
  const Case c = draw_case(spec_of(d, 3));
  Workspace128 workspace;
  fl::api::BatchPrefillWithPagedKVCache prefill(fl::test::config_of(c.spec, fl::Device::cpu, fl::DType::f32),
                                                workspace.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  check_result(c, fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out);
  }));
}

}  // namespace

TEST_CASE("the documents' decode of 7 requests: one plan for 32 layers, each with its own cache") {
  // 64 query heads on 8 KV heads, pages of 16: their table of pages and last lengths, as tokens.
  const Indices indptr{0, 17, 29, 44, 48, 66, 100, 128}, last_page_len{1, 7, 14, 4, 3, 1, 16};
  Indices kv_lens;
  for (std::size_t b = 0; b < last_page_len.size(); ++b) {
    kv_lens.push_back((indptr[b + 1] - indptr[b] - 1) * 16 + last_page_len[b]);
  }
  const Document d{"7 requests", Indices(7, 1), kv_lens, 64, 8, 16};
  Workspace128 workspace;
  const CaseSpec spec = spec_of(d, 1);
  fl::api::BatchDecodeWithPagedKVCache decode(fl::test::config_of(spec, fl::Device::cpu, fl::DType::f32), workspace.view());
  decode.plan(indptr, last_page_len);
  constexpr std::uint64_t caches = 4, layers = 32;
  for (std::uint64_t cache = 0; cache < caches; ++cache) {
    const Case c = draw_case(spec_of(d, cache + 1));
    CHECK(c.paged_kv_indptr == indptr);
    CHECK(c.paged_kv_last_page_len == last_page_len);
    const auto layer = [&] {
      return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
        decode.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out);
      });
    };
    const fl::test::Result first = layer();
    check_result(c, first);
    for (std::uint64_t l = 1; l < layers / caches; ++l) CHECK(layer() == first);
  }
}

TEST_CASE("the documents' decode of 32 requests over pages of one token") {
  check_document({"32 x 64 tokens, page 1", Indices(32, 1), Indices(32, 64), 32, 32, 1});
}

TEST_CASE("the documents' prefill of 8 requests: 64 queries on 32 whole pages each") {
  check_document({"8 x 64 of 512", Indices(8, 64), Indices(8, 512), 32, 8, 16, fl::MaskMode::causal});
}

TEST_CASE("the documents' complete example: prompts of 10 and 15 tokens in HND pages of 16") {
  check_document({"10 and 15, HND", {10, 15}, {10, 15}, 32, 8, 16, fl::MaskMode::causal, fl::KvLayout::HND});
}

TEST_CASE("the documents' BatchAttention: 64 queries on 100 keys in each of three requests") {
  check_document({"3 x 64 of 100", Indices(3, 64), Indices(3, 100), 32, 8, 1, fl::MaskMode::causal});
}

TEST_CASE("the documents' index arrays: qo_indptr of 5, 3 and 7; positions of appended tokens") {
  const Indices qo_indptr{0, 5, 8, 15}, paged_kv_indptr{0, 1, 3, 4}, last_page_len{5, 3, 7};
  Indices seq_lens(3), batch_indices(15), positions(15), want(15);
  fl::api::get_seq_lens(paged_kv_indptr, last_page_len, 16, seq_lens);
  CHECK(seq_lens == Indices{5, 19, 7});
  fl::api::get_batch_indices_positions(qo_indptr, seq_lens, batch_indices, positions);
  CHECK(batch_indices == Indices{0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2});
  std::iota(want.begin(), want.begin() + 5, 0), std::iota(want.begin() + 5, want.begin() + 8, 16);
  std::iota(want.begin() + 8, want.end(), 0);
  CHECK(positions == want);
}
