// The documents' batches on the GPU, in their workspace of 128 MB: each equals the oracle, and with page ids in another
// order it does not.
#include <doctest/doctest.h>

#include <algorithm>

#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"
#include "tests/documents.hpp"

namespace {

namespace fl = flashladder;
using fl::test::Indices;

// The rung that computes a batch, by what the object says of itself.
const fl::ladder::Rung& rung_of_document(const fl::api::BatchPrefillWithPagedKVCache& prefill) {
  const std::string why = prefill.explain();
  return fl::ladder::rung(why.starts_with("fa3: P11") ? "P11" : why.starts_with("fa2: P5") ? "P5" : "D6");
}

template <class Attention>
void check_document_on_gpu(const fl::ladder::Case& c, const fl::api::AttentionConfig& config, Attention& attention,
                           const fl::ladder::Rung& rung) {
  const fl::gpu::DeviceProblem on_device(c.problem());
  const fl::ladder::Oracle oracle = make_oracle(c, rung.rounding(c.spec));
  const auto run = [&](const Indices& ids) {
    const fl::gpu::DeviceBuffer page_ids(ids.data(), ids.size() * sizeof(std::int32_t));
    fl::test::GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
    attention.run(on_device.view().q, on_device.view().kv, {page_ids.as<std::int32_t>(), ids.size()}, out.view());
    const fl::test::Result result = out.result(nullptr);
    return compare(c, result.floats(), result.lse_log2, oracle);
  };
  Indices ids = c.paged_kv_indices;
  const fl::ladder::Comparison right = run(ids);
  CHECK_MESSAGE(right.ok(), right.message());
  std::ranges::rotate(ids, ids.begin() + 1);
  CHECK_FALSE(run(ids).ok());
}

// What a plan takes fits the documents' 128 MB, which are then handed over.
fl::api::WorkspaceBytes in_128_mb(const fl::api::WorkspaceBytes& wanted) {
  CHECK(wanted.device <= 128u << 20);
  return {.device = 128u << 20, .staging = wanted.staging};
}

}  // namespace

TEST_CASE("the documents' batches on the GPU") {
  namespace documents = fl::test::documents;
  for (const fl::test::Document& d :
       {documents::seven_requests, documents::pages_of_one, documents::eight_prefills, documents::ten_and_fifteen,
        documents::batch_attention, documents::prompts, documents::decode_behind}) {
    INFO(d.name);
    const fl::ladder::Case c = case_of(d, 3);
    const fl::api::AttentionConfig config = fl::test::config_of(c.spec, fl::Device::gpu, fl::DType::f32);
    using Prefill = fl::api::BatchPrefillWithPagedKVCache;
    const auto wanted = Prefill::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
    const fl::test::GpuWorkspace memory(in_128_mb(wanted));
    Prefill prefill(config, memory.view());
    prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
    check_document_on_gpu(c, config, prefill, rung_of_document(prefill));
    CHECK(memory.guards_intact());
    if (!is_decode(d)) continue;
    using Decode = fl::api::BatchDecodeWithPagedKVCache;
    const auto wanted_by_decode = Decode::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len);
    const fl::test::GpuWorkspace other(in_128_mb(wanted_by_decode));
    Decode decode(config, other.view());
    decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
    check_document_on_gpu(c, config, decode, fl::ladder::rung("D6"));
    CHECK(other.guards_intact());
  }
}
