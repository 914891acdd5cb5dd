// The shapes and page tables of the documents by which FlashLadder was asked for, with their workspace of 128 MB: batches
// over a paged cache. Each result equals the oracle, and with page ids in another order it does not.
#include <doctest/doctest.h>

#include "tests/api_documents.hpp"

namespace {

namespace fl = flashladder;
using fl::ladder::Case;
using fl::test::Document;
using fl::test::Indices;
using fl::test::Workspace128;
namespace documents = fl::test::documents;

// By the prefill class, and if each request has one query by the decode class too.
void check_document(const Document& d) {
  INFO(d.name);
  const Case c = case_of(d, 3);
  const fl::api::AttentionConfig config = fl::test::config_of(c.spec, fl::Device::cpu, fl::DType::f32);
  Workspace128 workspace;
  const auto check = [&](auto& attention) {
    fl::test::check_pages(c, c.paged_kv_indices, [&](const Indices& page_ids) {
      return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
        attention.run(c.q.view(), c.problem().kv, page_ids, out);
      });
    });
  };
  fl::api::BatchPrefillWithPagedKVCache prefill(config, workspace.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  check(prefill);
  if (!is_decode(d)) return;
  fl::api::BatchDecodeWithPagedKVCache decode(config, workspace.view());
  decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
  check(decode);
}

}  // namespace

TEST_CASE("the documents' decode of 7 requests: one plan for 32 layers, each with its own cache") {
  const Indices indptr{0, 17, 29, 44, 48, 66, 100, 128}, last_page_len{1, 7, 14, 4, 3, 1, 16};
  const Document& d = documents::seven_requests;
  Workspace128 workspace;
  const fl::ladder::CaseSpec spec = spec_of(d, 1);
  fl::api::BatchDecodeWithPagedKVCache decode(fl::test::config_of(spec, fl::Device::cpu, fl::DType::f32), workspace.view());
  decode.plan(indptr, last_page_len);
  constexpr std::uint64_t caches = 4, layers = 32;
  for (std::uint64_t cache = 0; cache < caches; ++cache) {
    const Case c = case_of(d, cache + 1);
    CHECK(c.paged_kv_indptr == indptr);
    CHECK(c.paged_kv_last_page_len == last_page_len);
    const auto layer = [&](const Indices& page_ids) {
      return fl::test::written(c, fl::DType::f32, [&](const fl::AttentionOutput& out) {
        decode.run(c.q.view(), c.problem().kv, page_ids, out);
      });
    };
    fl::test::check_pages(c, c.paged_kv_indices, layer);
    const fl::test::Result first = layer(c.paged_kv_indices);
    for (std::uint64_t l = 1; l < layers / caches; ++l) CHECK(layer(c.paged_kv_indices) == first);
  }
}

TEST_CASE("the documents' decode of 32 requests over pages of one token") { check_document(documents::pages_of_one); }

TEST_CASE("the documents' server: pages of one token, K and V in two tensors, prompts and then a decode") {
  check_document(documents::prompts);
  check_document(documents::decode_behind);
}

TEST_CASE("the documents' prefill of 8 requests: 64 queries on 32 whole pages each") {
  const Case c = case_of(documents::eight_prefills, 3);
  CHECK(c.paged_kv_indptr == Indices{0, 32, 64, 96, 128, 160, 192, 224, 256});
  CHECK(c.paged_kv_last_page_len == Indices(8, 16));
  check_document(documents::eight_prefills);
}

TEST_CASE("the documents' complete example: prompts of 10 and 15 tokens in HND pages of 16") {
  const Case c = case_of(documents::ten_and_fifteen, 3);
  CHECK(c.qo_indptr == Indices{0, 10, 25});
  CHECK(c.paged_kv_indptr == Indices{0, 1, 2});
  CHECK(c.paged_kv_last_page_len == Indices{10, 15});
  check_document(documents::ten_and_fifteen);
  Document two_tensors = documents::ten_and_fifteen;  // their 4-D format
  two_tensors.one_cache_tensor = false;
  check_document(two_tensors);
}

TEST_CASE("the documents' BatchAttention: 64 queries on 100 keys in each of three requests") {
  check_document(documents::batch_attention);
}
