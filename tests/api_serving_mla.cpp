// FlashInfer's calls of latent attention over a block table, on the CPU: against the oracle, which knows of no table of these,
// and against BatchMLAPagedAttention; scales; and what is refused. tests/api_gpu_serving_mla.cpp has the GPU's.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// q_len queries in each request, causal if several.
CaseSpec latent_spec(std::int32_t q_len, DType dtype = DType::bf16) {
  CaseSpec spec{.name = "latent serving", .op = Op::mla, .seed = 31, .qo_lens = std::vector<std::int32_t>(4, q_len),
                .kv_lens = {300, 0, 129, 33}, .page_size = 16, .dtype = dtype, .block_table = true};
  const MaskMode mask = q_len > 1 ? MaskMode::causal : MaskMode::none;
  spec.params = MlaParams{.num_heads = 6, .sm_scale = 0.07f, .mask = mask}.attention();
  return spec;
}

// What the case's query is in these calls: [batch, q_len, heads, features], and its o.
struct Queries {
  Tensor query, o;
  Queries(const Case& c, const AttentionOutput& out) {
    const std::int64_t batch = c.spec.batch(), q_len = c.spec.qo_lens.front(), heads = c.spec.params.num_qo_heads;
    query = contiguous(c.q.view().data, c.q.dtype, {batch, q_len, heads, c.spec.params.head_dim_qk});
    o = contiguous(out.o.data, out.o.dtype, {batch, q_len, heads, c.spec.params.head_dim_vo});
  }
};

TrtllmBatchDecodeMla latent_call(const Case& c, const AttentionOutput& out) {
  const Queries queries(c, out);
  AttentionOutput output = out;
  output.o = queries.o;
  return {.query = queries.query, .kv_cache = c.mla().cache, .workspace_buffer = {}, .block_tables = c.block_tables,
          .seq_lens = c.spec.kv_lens, .max_seq_len = 304, .bmm1_scale = c.spec.params.sm_scale, .out = output};
}

// In exactly the memory that the call asks for, between guard bands, twice: on the object that is kept.
void run_latent(TrtllmBatchDecodeMla call) {
  Memory memory(workspace_bytes(call));
  call.workspace_buffer = memory.view();
  trtllm_batch_decode_with_kv_cache_mla(call);
  trtllm_batch_decode_with_kv_cache_mla(call);
}

Result by_latent_call(const Case& c) {
  return written(c, DType::f32, [&](const AttentionOutput& out) { run_latent(latent_call(c, out)); });
}

}  // namespace

TEST_CASE("trtllm_batch_decode_with_kv_cache_mla equals the oracle, with one query a request and with several") {
  for (const std::int32_t q_len : {1, 3}) {
    for (const bool one_tensor : {true, false}) {
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        CaseSpec spec = latent_spec(q_len, dtype);
        spec.combined_cache = one_tensor;
        const Case c = draw_case(spec);
        const Result result = by_latent_call(c);
        const Comparison comparison = compare(c, result.o, result.lse_log2, make_oracle(c, {DType::f32, 32}));
        CHECK_MESSAGE(comparison.ok(), q_len, name_of(dtype), comparison.message());
      }
    }
  }
}

TEST_CASE("xqa_mla and queries of rank 3 give the bits of the trtllm call, and scales are those of the result") {
  const Case c = draw_case(latent_spec(1));
  const Result expected = by_latent_call(c);
  const std::vector<std::uint32_t> lens(c.spec.kv_lens.begin(), c.spec.kv_lens.end());
  const auto by_xqa = [&](float q_scale, float kv_scale) {
    return written(c, DType::f32, [&](const AttentionOutput& out) {
      AttentionOutput output = out;
      output.o = Queries(c, out).o;
      XqaMla call{.q = c.q.view(), .kv_cache = c.mla().cache, .page_table = c.block_tables, .seq_lens = lens, .output = output,
                  .workspace_buffer = {}, .q_scale = q_scale, .kv_scale = kv_scale};
      Memory memory(workspace_bytes(call));
      call.workspace_buffer = memory.view();
      xqa_mla(call);
    });
  };
  CHECK(expected == by_xqa(0.07f, 1));
  Result doubled = expected;  // by a power of two: exactly
  for (float& x : doubled.o) x *= 2;
  CHECK(doubled == by_xqa(0.035f, 2));
  CHECK(doubled == written(c, DType::f32, [&](const AttentionOutput& out) {
          TrtllmBatchDecodeMla call = latent_call(c, out);
          call.bmm2_scale = 2;
          call.query = c.q.view(), call.out.o = out.o;  // of rank 3
          run_latent(call);
        }));
}

TEST_CASE("latent serving calls: query and o may be parts of larger tensors") {
  const Case c = draw_case(latent_spec(3, DType::f32));
  const Result expected = by_latent_call(c);
  const std::int64_t batch = 4, q_len = 3, heads = 6, dim = 576, wide = heads + 2;
  std::vector<float> fused(static_cast<std::size_t>(batch * q_len * wide * dim), std::numeric_limits<float>::quiet_NaN());
  const auto* from = c.q.view().data_as<const float>();
  for (std::int64_t row = 0; row < batch * q_len; ++row) {
    std::copy_n(from + row * heads * dim, heads * dim, fused.data() + row * wide * dim);
  }
  CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
          TrtllmBatchDecodeMla call = latent_call(c, out);
          Tensor query = contiguous(fused.data(), DType::f32, {batch, q_len, heads, dim});
          query.strides = {q_len * wide * dim, wide * dim, dim, 1};
          call.query = query;
          run_latent(call);
        }));
}

TEST_CASE("latent serving calls: of one query a request the stride from request to request counts, whatever its q_len's is") {
  const Case c = draw_case(latent_spec(1, DType::f32));
  const Result expected = by_latent_call(c);
  const std::int64_t batch = 4, heads = 6, row = heads * 576, gap = 3 * row;
  std::vector<float> fused(static_cast<std::size_t>(batch * gap), std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t b = 0; b < batch; ++b) std::copy_n(c.q.view().data_as<const float>() + b * row, row, &fused[b * gap]);
  CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
          TrtllmBatchDecodeMla call = latent_call(c, out);
          Tensor query = contiguous(fused.data(), DType::f32, {batch, 1, heads, 576});
          query.strides[0] = gap;
          call.query = query;
          run_latent(call);
        }));
}

TEST_CASE("latent serving calls: attention of the same sizes on the same memory is another object") {
  const Case c = draw_case(latent_spec(1, DType::f32));
  const Result expected = by_latent_call(c);
  std::vector<std::byte> memory(1 << 22);
  const auto attention = [&](const AttentionOutput& out) {
    trtllm_batch_decode_with_kv_cache({.query = c.q.view(), .kv_cache = c.problem().kv, .workspace_buffer = {.device = memory},
                                       .block_tables = c.block_tables, .seq_lens = c.spec.kv_lens, .max_seq_len = 304,
                                       .bmm1_scale = c.spec.params.sm_scale, .out = out});
  };
  for (int layer = 0; layer < 3; ++layer) {
    written(c, DType::f32, attention);
    CHECK(expected == written(c, DType::f32, [&](const AttentionOutput& out) {
            TrtllmBatchDecodeMla call = latent_call(c, out);
            call.workspace_buffer = {.device = memory};
            trtllm_batch_decode_with_kv_cache_mla(call);
          }));
  }
}

TEST_CASE("latent serving calls: what is refused, by its name in the call") {
  const auto refused_with = [](std::int32_t q_len, const auto& change) {
    const Case c = draw_case(latent_spec(q_len, DType::f32));
    GuardedOutput out(c.spec.nnz_qo(), 6, 512);
    std::vector<std::byte> memory(1 << 22);
    TrtllmBatchDecodeMla call = latent_call(c, out.view());
    call.workspace_buffer = {.device = memory};
    change(call);
    return refusal([&] { trtllm_batch_decode_with_kv_cache_mla(call); });
  };
  using L = TrtllmBatchDecodeMla;
  CHECK(refused_with(1, [](L&) {}) == "accepted");
  CHECK(refused_with(3, [](L&) {}) == "accepted");
  CHECK(refused_with(1, [](L& c) { c.bmm1_scale = 0; }) == "bmm1_scale = 0: must be finite and greater than 0");
  CHECK(refused_with(1, [](L& c) { c.bmm2_scale = -2; }) == "bmm2_scale = -2: must be finite and greater than 0");
  CHECK(refused_with(1, [](L& c) { c.max_seq_len = 299; }) == "kv_len = 300 (request 0): must be at most max_seq_len (299)");
  CHECK(refused_with(3, [](L& c) { c.max_seq_len = 299; }) ==
        "seq_lens[0] = 300 (request 0): must be at most max_seq_len (299)");
  CHECK(refused_with(1, [](L& c) { c.max_seq_len = -1; }) == "max_seq_len = -1: must not be negative");
  CHECK(refused_with(1, [](L& c) { c.block_tables = c.block_tables.first(7); }).starts_with("block_tables size = 7"));
  CHECK(refused_with(1, [](L& c) { c.query.shape[0] = 5; }) ==
        "query shape[0] = 5: must be the batch, the size of seq_lens (4)");
  CHECK(refused_with(3, [](L& c) { c.query.strides[0] += 576; })
            .starts_with("query stride[0] = 10944: must be q_len * stride[1]"));
  CHECK(refused_with(1, [](L& c) { c.query.shape[3] = 512; }) ==
        "query features = 512: must be those of a row of the cache (576)");
  CHECK(refused_with(3, [](L& c) { c.query.shape[1] = 0; })
            .starts_with("query shape[1] = 0: must be at least 1, and with the batch's requests 2^31 - 1 queries"));
  CHECK(refused_with(1, [](L& c) { c.query.rank = 2; }).starts_with("query rank = 2: must be 4"));
  CHECK(refused_with(3, [](L& c) { c.out.o.shape[1] = 2; }).starts_with("o "));
  CHECK(refused_with(1, [](L& c) { c.out.o.shape[3] = 576; }).starts_with("o shape[2] = 576: must be head_dim_ckv"));
  CHECK(refused_with(1, [](L& c) { c.query.dtype = DType::f16; }).starts_with("q_dtype = f16"));
  const Case c = draw_case(latent_spec(3, DType::f32));
  GuardedOutput out(12, 6, 512);
  const std::vector<std::uint32_t> lens(4, 5);
  XqaMla call{.q = latent_call(c, out.view()).query, .kv_cache = c.mla().cache, .page_table = c.block_tables, .seq_lens = lens,
              .output = out.view(), .workspace_buffer = {}};
  CHECK(refusal([&] { xqa_mla(call); }) == "q.shape[1] = 3: must be 1: one query a request, and no beams");
  call.q_scale = 0;
  CHECK(refusal([&] { xqa_mla(call); }) == "q_scale = 0: must be finite and greater than 0");
  call.q_scale = 1, call.kv_scale = 0;
  CHECK(refusal([&] { xqa_mla(call); }) == "kv_scale = 0: must be finite and greater than 0");
}
