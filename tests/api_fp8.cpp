// fp8 caches and scales through the classes and calls of api/, on the CPU: what is not already in the case table, by which the
// tests of decode, prefill and graphs hold fp8 too. And what is refused.
#include <doctest/doctest.h>

#include <cmath>

#include "api/operations.hpp"
#include "ladder/oracle.hpp"
#include "reference/append.hpp"
#include "reference/layernorm.hpp"
#include "reference/norm.hpp"
#include "reference/rope_append.hpp"
#include "tests/api_prefill.hpp"
#include "tests/cascade_case.hpp"
#include "tests/ops_data.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace fp8 {
namespace {

CaseSpec fp8_spec(KvScaling scales, std::vector<std::int32_t> qo_lens = {1, 1, 1, 1}) {
  CaseSpec spec{.name = "fp8", .seed = 5, .qo_lens = std::move(qo_lens), .kv_lens = {300, 0, 129, 33}, .page_size = 16,
                .dtype = DType::bf16, .kv_dtype = DType::f8_e4m3, .kv_scales = scales};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f};
  return spec;
}

Result by_class(const Case& c, const Dense& dense, const KvScales& scales) {
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  config.execution.threads = 0;
  Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, dense.lengths));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  decode.plan(dense.lengths);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    decode.run(c.q.view(), c.problem().kv, dense.block_tables, out, nullptr, {}, {}, scales);
  });
}

template <class Call, class Run>
Result by_call(const Case& c, Call call, AttentionOutput Call::*out_member, Run run) {
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    call.*out_member = out;
    Memory memory(workspace_bytes(call));
    call.workspace_buffer = memory.view();
    run(call);
  });
}

}  // namespace

TEST_CASE("fp8: the serving calls' scales are those of the classes") {
  const Case c = draw_case(fp8_spec(KvScaling::number));
  const Dense dense(c);
  const KvScales scales = c.problem().scales;
  const Result expected = by_class(c, dense, scales);
  const Comparison comparison = compare(c, expected.o, expected.lse_log2, make_oracle(c));
  CHECK_MESSAGE(comparison.ok(), comparison.message());

  // bmm1_scale has the scale of K in it: sm_scale * k_scale, rounded as the rungs round it.
  const TrtllmBatchDecode decode{.query = c.q.view(), .kv_cache = c.problem().kv, .workspace_buffer = {},
                                 .block_tables = dense.block_tables, .seq_lens = dense.lengths.seq_lens, .max_seq_len = 304,
                                 .bmm1_scale = 0.2f * scales.k, .bmm2_scale = scales.v, .out = {}};
  CHECK(expected == by_call(c, decode, &TrtllmBatchDecode::out,
                            [](const TrtllmBatchDecode& call) { trtllm_batch_decode_with_kv_cache(call); }));
  // xqa has one scale for both.
  std::vector<std::uint32_t> lens(c.spec.kv_lens.begin(), c.spec.kv_lens.end());
  const Xqa call{.q = c.q.view(), .kv_cache = c.problem().kv, .page_table = dense.block_tables, .seq_lens = lens,
                 .output = {}, .workspace_buffer = {}, .q_scale = 0.2f * 8, .kv_scale = 0.03f};
  CHECK(by_class(c, dense, {.k = 0.03f, .v = 0.03f}) ==
        by_call(c, call, &Xqa::output, [](const Xqa& xqa_call) { xqa(xqa_call); }));

  const Case prompt = draw_case([] {
    CaseSpec spec = fp8_spec(KvScaling::number, {70, 0, 1, 33});
    spec.params.mask = MaskMode::causal;
    return spec;
  }());
  const Dense pages(prompt);
  const KvScales s = prompt.problem().scales;
  const TrtllmBatchContext context{.query = prompt.q.view(), .kv_cache = prompt.problem().kv, .workspace_buffer = {},
                                   .block_tables = pages.block_tables, .seq_lens = pages.lengths.seq_lens, .max_q_len = 70,
                                   .max_kv_len = 300, .bmm1_scale = 0.2f * s.k, .bmm2_scale = s.v, .batch_size = 4,
                                   .cum_seq_lens_q = prompt.qo_indptr, .cum_seq_lens_kv = {}, .out = {}};
  const Result got = by_call(prompt, context, &TrtllmBatchContext::out,
                             [](const TrtllmBatchContext& b) { trtllm_batch_context_with_kv_cache(b); });
  const Comparison of_context = compare(prompt, got.o, got.lse_log2, make_oracle(prompt));
  CHECK_MESSAGE(of_context.ok(), of_context.message());
}

TEST_CASE("fp8: BatchAttention with a sink and a cascade equal the oracle") {
  for (const KvScaling scaling : {KvScaling::number, KvScaling::per_head}) {
    CaseSpec spec = fp8_spec(scaling, {3, 1, 20, 1});
    spec.params.sinks = true;
    const Case c = draw_case(spec);
    const AttentionConfig config = config_of(spec, Device::cpu, DType::f32);
    const AttentionLimits limits{.max_batch = 4, .max_pages = 40, .max_nnz_qo = 25};
    Memory memory(BatchAttentionWithAttentionSink::workspace_bytes(config, limits));
    BatchAttentionWithAttentionSink attention(config, limits, memory.view());
    attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
    const Result result = written(c, DType::f32, [&](const AttentionOutput& out) {
      attention.run(c.q.view(), c.problem().kv, c.sinks, out, nullptr, c.problem().scales);
    });
    const Comparison comparison = compare(c, result.o, result.lse_log2, make_oracle(c));
    CHECK_MESSAGE(comparison.ok(), comparison.message());

    CaseSpec shared = fp8_spec(scaling, {3, 1, 20, 1});
    shared.kv_lens = {40, 7, 33, 16}, shared.params.mask = MaskMode::causal;
    const CascadeCase given(shared, {{{4, 5}}, {{2, 3}, {2, 0}}});
    const AttentionConfig of_cascade = config_of(given.c.spec, Device::cpu, DType::f32);
    Memory room(MultiLevelCascadeAttention::workspace_bytes(of_cascade, given.lengths()));
    MultiLevelCascadeAttention cascade(3, of_cascade, room.view());
    cascade.plan(given.lengths());
    const Result joined = written(given.c, DType::f32, [&](const AttentionOutput& out) {
      cascade.run(given.c.q.view(), given.c.problem().kv, given.page_ids(), out, nullptr, {}, given.c.problem().scales);
    });
    const Comparison of_levels = compare(given.c, joined.o, joined.lse_log2, make_oracle(given.c));
    CHECK_MESSAGE(of_levels.ok(), of_levels.message());
  }
}

TEST_CASE("fp8: what a config and run() refuse") {
  const Case c = draw_case(fp8_spec(KvScaling::number));
  const auto made = [&](const std::function<void(AttentionConfig&)>& change) {
    AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
    change(config);
    return refusal([&] { BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len); });
  };
  CHECK(made([](AttentionConfig&) {}) == "accepted");
  CHECK(made([](AttentionConfig& a) { a.cache.dtype = DType::f8_e5m2, a.q_dtype = DType::f32; }) == "accepted");
  CHECK(made([](AttentionConfig& a) { a.q_dtype.reset(); }) ==
        "q_dtype = f8_e4m3: must be f32, f16 or bf16, and be given, since the cache is fp8");
  CHECK(made([](AttentionConfig& a) { a.q_dtype = DType::i32; }).starts_with("q_dtype = i32: must be f32, f16 or bf16"));
  CHECK(made([](AttentionConfig& a) { a.o_dtype = DType::f8_e4m3; }) ==
        "o_dtype = f8_e4m3: must be f32 or q's dtype (bf16)");
  CHECK(made([](AttentionConfig& a) { a.cache.dtype = DType::f16; }) == "q_dtype = bf16: must be the cache's dtype (f16)");

  const Dense dense(c);
  std::vector<float> three(3, 1.0f), two{0.5f, 2.0f}, bad{1.0f, NAN};
  const auto ran = [&](const KvScales& scales) { return refusal([&] { by_class(c, dense, scales); }); };
  CHECK(ran({.k = 0.5f, .v = 2}) == "accepted");
  CHECK(ran({.k_per_head = two, .v_per_head = two}) == "accepted");
  CHECK(ran({.k = 0}) == "k_scale = 0: must be finite and greater than 0");
  CHECK(ran({.v = -1}) == "v_scale = -1: must be finite and greater than 0");
  CHECK(ran({.k = 3e38f}) == "accepted");
  CHECK(ran({.k = 1e-44f}) == "accepted");
  CHECK(ran({.k_per_head = three}) == "k_scale_per_head = 3: must be num_kv_heads, or 0 (2)");
  CHECK(ran({.v = 2, .v_per_head = two}) ==
        "v_scale = 2: must be 1 where scales per head are given: they are not multiplied");
  CHECK(ran({.v_per_head = bad}) == "v_scale_per_head[1] = nan: must be finite and greater than 0");

  // What is written lies apart from the scales.
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, dense.lengths));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  decode.plan(dense.lengths);
  GuardedOutput out(4, 6, 64);
  const KvScales inside{.k_per_head = out.view().lse_log2.first(2)};
  CHECK(refusal([&] { decode.run(c.q.view(), c.problem().kv, dense.block_tables, out.view(), nullptr, {}, {}, inside); })
            .starts_with("lse_log2 = memory of k_scale_per_head"));
  const KvScales inside_o{.v_per_head = {out.view().o.data_as<const float>() + 7, 2}};
  CHECK(refusal([&] { decode.run(c.q.view(), c.problem().kv, dense.block_tables, out.view(), nullptr, {}, {}, inside_o); })
            .starts_with("o = memory of v_scale_per_head"));
}

TEST_CASE("fp8: the operations are the references") {
  using ops_test::Padded;
  std::mt19937 random(3);
  Padded key(DType::f16, {3, 2, 8}), value(DType::f16, {3, 2, 6}), q(DType::f16, {3, 4, 8}), w(DType::f16, {8});
  for (Padded* p : {&key, &value, &q, &w}) p->fill(random, -2, 2);
  const std::vector<std::int64_t> slots{5, 0, 7};
  const std::vector<std::int32_t> positions{1, 0, 1}, requests{0, 0, 1}, indptr{0, 2, 3}, indices{2, 0, 3}, last{2, 2};
  const std::vector<float> per_head{0.5f, 0.03f};
  const KvScales scales{.k = 0.02f, .v_per_head = per_head};
  const auto same = [&](const std::function<void(const PagedKvCache&, const Tensor&)>& a,
                        const std::function<void(const PagedKvCache&, const Tensor&)>& b) {
    Padded k1(DType::f8_e4m3, {4, 2, 2, 8}), v1(DType::f8_e4m3, {4, 2, 2, 6}), k2(DType::f8_e4m3, {4, 2, 2, 8});
    Padded v2(DType::f8_e4m3, {4, 2, 2, 6}), q1(DType::f16, {3, 4, 8}), q2(DType::f16, {3, 4, 8});
    q1.copy(q), q2.copy(q);
    a(paged_kv_cache(k1.t(), v1.t(), KvLayout::NHD), q1.t());
    b(paged_kv_cache(k2.t(), v2.t(), KvLayout::NHD), q2.t());
    return k1.bytes() == k2.bytes() && v1.bytes() == v2.bytes() && q1.bytes() == q2.bytes();
  };
  namespace ref = reference;
  using Cache = const PagedKvCache&;
  CHECK(same([&](Cache c, const Tensor&) { append_paged_kv_cache(key.t(), value.t(), slots, c, {}, scales); },
             [&](Cache c, const Tensor&) { ref::append_paged_kv_cache(key.t(), value.t(), slots, c, scales); }));
  CHECK_FALSE(same([&](Cache c, const Tensor&) { append_paged_kv_cache(key.t(), value.t(), slots, c, {}, scales); },
                   [&](Cache c, const Tensor&) { ref::append_paged_kv_cache(key.t(), value.t(), slots, c); }));
  CHECK(same([&](Cache c, const Tensor&) {
               append_paged_kv_cache(key.t(), value.t(), requests, positions, c, indptr, indices, last, {}, scales);
             },
             [&](Cache c, const Tensor&) {
               ref::append_paged_kv_cache(key.t(), value.t(), requests, positions, c, indptr, indices, last, scales);
             }));
  const std::vector<float> table = make_cos_sin_cache(8, 8);
  const ConstTensor angles = contiguous(table.data(), DType::f32, {8, 8});
  CHECK(same([&](Cache c, const Tensor& t) {
               rope_pos_ids_append_paged_kv_cache(t, key.t(), value.t(), requests, positions, c, indptr, indices, last, {},
                                                  {}, scales);
             },
             [&](Cache c, const Tensor& t) {
               ref::rope_pos_ids_append_paged_kv_cache(t, key.t(), value.t(), 0, false, 1, 10000, requests, positions, c,
                                                       {indptr, indices, last}, {}, scales);
             }));
  CHECK(same([&](Cache c, const Tensor& t) {
               rope_pos_ids_append_paged_kv_cache(t, key.t(), value.t(), positions, slots, c, {}, {}, scales);
             },
             [&](Cache c, const Tensor& t) {
               ref::rope_pos_ids_append_paged_kv_cache(t, key.t(), value.t(), 0, false, 1, 10000, positions, slots, c, {},
                                                       scales);
             }));
  CHECK(same([&](Cache c, const Tensor& t) {
               rope_with_cos_sin_cache_append_paged_kv_cache(t, key.t(), value.t(), angles, requests, positions, c, indptr,
                                                             indices, last, true, {}, scales);
             },
             [&](Cache c, const Tensor& t) {
               ref::rope_with_cos_sin_cache_append_paged_kv_cache(t, key.t(), value.t(), angles, true, requests, positions,
                                                                  c, {indptr, indices, last}, scales);
             }));
  CHECK(same([&](Cache c, const Tensor& t) {
               rope_with_cos_sin_cache_append_paged_kv_cache(t, key.t(), value.t(), angles, positions, slots, c, true, {},
                                                             scales);
             },
             [&](Cache c, const Tensor& t) {
               ref::rope_with_cos_sin_cache_append_paged_kv_cache(t, key.t(), value.t(), angles, true, positions, slots, c,
                                                                  scales);
             }));
  Padded x(DType::f16, {3, 8}), r1(DType::f16, {3, 8}), r2(DType::f16, {3, 8}), o1(DType::f8_e5m2, {3, 8});
  Padded o2(DType::f8_e5m2, {3, 8});
  x.fill(random, -2, 2), r1.fill(random, -2, 2), r2.copy(r1);
  const float stored = 0.04f;
  rmsnorm_quant(x.t(), w.t(), o1.t(), {.stored = &stored}, 1e-5f);
  ref::rmsnorm_quant(x.t(), w.t(), o2.t(), {.number = 0.04f}, 1e-5f);
  CHECK(o1.bytes() == o2.bytes());
  fused_add_rmsnorm_quant(x.t(), r1.t(), w.t(), o1.t(), {.number = 0.3f}, 1e-5f);
  ref::fused_add_rmsnorm_quant(x.t(), r2.t(), w.t(), o2.t(), {.number = 0.3f}, 1e-5f);
  CHECK(o1.bytes() == o2.bytes());
  CHECK(r1.bytes() == r2.bytes());
  const Tensor beta = contiguous(r1.t().data, DType::f16, {8});
  layernorm_quant(x.t(), w.t(), beta, o1.t(), {.stored = &stored}, 1e-5f);
  ref::layernorm_quant(x.t(), w.t(), beta, o2.t(), {.number = 0.04f}, 1e-5f);
  CHECK(o1.bytes() == o2.bytes());
}

}  // namespace fp8
