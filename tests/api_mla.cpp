// BatchMLAPagedAttention on the CPU: against the oracle on the case table, by lists and by blocks, planned again and again;
// and what it refuses.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

#include "api/batch_mla.hpp"
#include "core/error.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using api::BatchMLAPagedAttention;
using api::MlaConfig;

namespace {

constexpr float mla_unwritten = std::numeric_limits<float>::quiet_NaN();

MlaConfig mla_config_of(const CaseSpec& s, DType o_dtype = DType::f32) {
  const MlaParams p = s.mla_params();
  return {.num_heads = p.num_heads, .head_dim_ckv = p.head_dim_ckv, .head_dim_kpe = p.head_dim_kpe, .page_size = s.page_size,
          .causal = p.mask == MaskMode::causal, .sm_scale = p.sm_scale, .kv_dtype = s.cache_dtype(), .q_dtype = s.dtype,
          .o_dtype = o_dtype,
          .execution = {.threads = 2}};
}

api::AttentionLimits mla_limits_of(const CaseSpec& s) {
  return {.max_batch = s.batch(), .max_pages = std::max<std::int64_t>(1, s.batch() * s.max_pages()), .max_nnz_qo = s.nnz_qo()};
}

// An object with memory and outputs of its own, which begin as NaN.
struct MlaObject {
  std::vector<std::max_align_t> memory;
  BatchMLAPagedAttention attention;
  std::vector<float> o, lse;
  std::int64_t rows, heads, dim;

  explicit MlaObject(const CaseSpec& s)
      : memory(BatchMLAPagedAttention::workspace_bytes(mla_config_of(s), mla_limits_of(s)).device /
                   sizeof(std::max_align_t) + 1),
        attention(mla_config_of(s), mla_limits_of(s), {std::as_writable_bytes(std::span(memory))}), rows(s.nnz_qo()),
        heads(s.params.num_qo_heads), dim(s.params.head_dim_vo) {
    o.assign(static_cast<std::size_t>(rows * heads * dim), mla_unwritten);
    lse.assign(static_cast<std::size_t>(rows * heads), mla_unwritten);
  }
  void plan(const Case& c) {
    if (c.spec.block_table) {
      const std::int32_t max_pages = c.mla().frame().max_pages();
      attention.plan(c.qo_indptr, c.block_tables, api::BlockTableLengths{c.spec.kv_lens, max_pages});
    } else {
      attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
    }
  }
  AttentionOutput output() { return {contiguous(o.data(), DType::f32, {rows, heads, dim}), lse}; }
  void run(const Case& c) {
    const MlaProblem m = c.mla();
    attention.run(m.q_nope, m.q_pe, m.cache, output(), nullptr, m.scales);
  }
};

// The tensor with more rows, in memory of its own.
Tensor with_rows(const Tensor& t, std::int64_t rows, std::vector<std::byte>& memory) {
  const std::size_t element = size_of(t.dtype), row = static_cast<std::size_t>(t.strides[0]) * element;
  const std::size_t last = static_cast<std::size_t>((t.shape[1] - 1) * t.strides[1] + t.shape[2]) * element;
  memory.resize(static_cast<std::size_t>(rows) * row);
  if (t.shape[0] > 0) std::memcpy(memory.data(), t.data, static_cast<std::size_t>(t.shape[0] - 1) * row + last);
  Tensor more = t;
  more.data = memory.data(), more.shape[0] = rows;
  return more;
}

}  // namespace

TEST_CASE("BatchMLAPagedAttention on the CPU equals the oracle on the case table") {
  for (const CaseSpec& spec : mla_case_table()) {
    INFO(spec.name);
    const Case c = draw_case(spec);
    MlaObject object(spec);
    object.plan(c);
    object.run(c);
    const Comparison comparison = compare(c, object.o, object.lse, make_oracle(c, {DType::f32, 32}));
    CHECK_MESSAGE(comparison.ok(), comparison.message());
  }
}

TEST_CASE("BatchMLAPagedAttention: one object for batch after batch, of one tensor or of two") {
  CaseSpec large = mla_case_table().front();
  large.qo_lens = {3, 1, 4, 1, 2}, large.kv_lens = {300, 70, 64, 1, 500};
  CaseSpec small = large;
  small.qo_lens = {1, 4}, small.kv_lens = {65, 0}, small.combined_cache = true;
  MlaObject object(large);
  for (const CaseSpec& spec : {large, small, large}) {
    const Case c = draw_case(spec);
    object.plan(c);
    CHECK(object.attention.current_plan().batch == spec.batch());
    std::ranges::fill(object.o, mla_unwritten);
    const MlaProblem m = c.mla();
    // Of the limits' rows: those behind the batch's are not read.
    std::vector<std::byte> memory[2];
    Tensor q_nope = with_rows(m.q_nope, large.nnz_qo(), memory[0]), q_pe = with_rows(m.q_pe, large.nnz_qo(), memory[1]);
    object.attention.run(q_nope, q_pe, m.cache, object.output());
    const auto rows = static_cast<std::size_t>(spec.nnz_qo() * object.heads), dim = static_cast<std::size_t>(object.dim);
    const std::span<const float> o(object.o), lse(object.lse);
    const Comparison comparison = compare(c, o.first(rows * dim), lse.first(rows), make_oracle(c, {DType::f32, 32}));
    CHECK_MESSAGE(comparison.ok(), comparison.message());
    for (const float x : o.subspan(rows * dim)) REQUIRE(std::isnan(x));
  }
  CHECK(object.attention.explain().starts_with("L3 on the CPU"));
}

TEST_CASE("BatchMLAPagedAttention: o in 16 bits is the f32 answer rounded once, and lse may be natural") {
  CaseSpec spec = mla_case_table().front();
  spec.dtype = DType::bf16;
  const Case c = draw_case(spec);
  MlaObject f32(spec);
  f32.plan(c);
  f32.run(c);
  MlaConfig config = mla_config_of(spec, DType::bf16);
  std::vector<std::max_align_t> memory(BatchMLAPagedAttention::workspace_bytes(config, mla_limits_of(spec)).device / 16 + 1);
  BatchMLAPagedAttention attention(config, mla_limits_of(spec), {std::as_writable_bytes(std::span(memory))});
  attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
  std::vector<BFloat16> o(f32.o.size());
  std::vector<float> lse(f32.lse.size());
  const MlaProblem m = c.mla();
  attention.run(m.q_nope, m.q_pe, m.cache,
                {.o = contiguous(o.data(), DType::bf16, {f32.rows, f32.heads, f32.dim}), .lse_natural = lse});
  int wrong = 0;
  for (std::size_t i = 0; i < o.size(); ++i) wrong += o[i].bits != BFloat16(f32.o[i]).bits;
  CHECK(wrong == 0);
  CHECK(lse[20] == doctest::Approx(f32.lse[20] / log2_e));
}

TEST_CASE("BatchMLAPagedAttention: ckv and kpe may have scales of their own") {
  CaseSpec spec = mla_case_table()[2];
  spec.dtype = DType::f32, spec.kv_dtype = DType::f8_e4m3, spec.kv_scales = KvScaling::number;
  Case c = draw_case(spec);
  MlaObject apart(spec), doubled(spec);
  apart.plan(c), doubled.plan(c);
  MlaScales scales = c.mla().scales;
  scales.kpe *= 2;
  const MlaProblem m = c.mla();
  apart.attention.run(m.q_nope, m.q_pe, m.cache, apart.output(), nullptr, scales);
  auto* pe = c.q_pe.view().data_as<float>();
  for (std::int64_t i = 0; i < c.q_pe.size(); ++i) pe[i] *= 2;  // the same, exactly
  doubled.run(c);
  CHECK(apart.o == doubled.o);
  CHECK(apart.lse == doubled.lse);
  scales.kpe = 0;
  CHECK(test::refusal([&] { apart.attention.run(m.q_nope, m.q_pe, m.cache, apart.output(), nullptr, scales); }) ==
        "kpe_scale = 0: must be finite and greater than 0");
}

TEST_CASE("BatchMLAPagedAttention refuses what is wrong by its name") {
  const CaseSpec spec = mla_case_table().front();
  const Case c = draw_case(spec);
  const auto refused = [&](const auto& change) {
    MlaConfig config = mla_config_of(spec);
    change(config);
    return test::refusal([&] { BatchMLAPagedAttention::workspace_bytes(config, mla_limits_of(spec)); });
  };
  CHECK(refused([](MlaConfig& m) { m.sm_scale = 0; }).starts_with("sm_scale = 0: must be given"));
  CHECK(refused([](MlaConfig& m) { m.num_heads = 0; }).starts_with("num_heads = 0"));
  CHECK(refused([](MlaConfig& m) { m.head_dim_kpe = -1; }).starts_with("head_dim_kpe = -1"));
  CHECK(refused([](MlaConfig& m) { m.page_size = 0; }).starts_with("page_size = 0"));
  CHECK(refused([](MlaConfig& m) { m.kv_dtype = DType::u8; }).starts_with("dtype = u8"));
  CHECK(refused([](MlaConfig& m) { m.q_dtype = DType::f16; }).starts_with("q_dtype = f16"));
  CHECK(refused([](MlaConfig& m) { m.kv_dtype = m.q_dtype.emplace(DType::f8_e4m3); }).starts_with("q_dtype = f8_e4m3"));
  CHECK(refused([](MlaConfig& m) { m.execution.backend = api::Backend::fa2; }).starts_with("backend = fa2: must be auto"));
  const api::AttentionLimits decode{.max_batch = 5, .max_pages = 10};
  CHECK(test::refusal([&] { BatchMLAPagedAttention::workspace_bytes(mla_config_of(spec), decode); })
            .starts_with("max_nnz_qo"));

  MlaObject object(spec);
  CHECK(test::refusal([&] { object.run(c); }).starts_with("run(): must come after plan()"));
  std::vector<std::int32_t> lens = spec.kv_lens;
  lens[2] = 99;
  const auto plan = [&](const std::vector<std::int32_t>& kv_len_arr) {
    object.attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, kv_len_arr);
  };
  CHECK(test::refusal([&] { plan(lens); }).starts_with("kv_len_arr = 99 (request 2): must fill the request's pages"));
  CHECK(test::refusal([&] { object.run(c); }).starts_with("run(): must come after plan()"));
  object.plan(c);
  CHECK(test::refusal([&] { object.run(c); }) == "accepted");
  CHECK(test::refusal([&] { plan(lens); }) != "accepted");  // the plan before it is no longer in force
  CHECK(test::refusal([&] { object.run(c); }).starts_with("run(): must come after plan(); the last one was refused"));
  CaseSpec table_spec = spec;
  table_spec.block_table = true;
  const Case by_table = draw_case(table_spec);
  object.plan(by_table);  // nor is the refusal, after a plan of the other kind
  CHECK(test::refusal([&] { object.run(by_table); }) == "accepted");
  object.plan(c);
  const MlaProblem m = c.mla();
  const auto run = [&](const auto& change) {
    Tensor q_nope = m.q_nope, q_pe = m.q_pe;
    PagedMlaCache cache = m.cache;
    AttentionOutput output = object.output();
    change(q_nope, q_pe, cache, output);
    return test::refusal([&] { object.attention.run(q_nope, q_pe, cache, output); });
  };
  using T = Tensor;
  using P = PagedMlaCache;
  using O = AttentionOutput;
  CHECK(run([](T& q, T&, P&, O&) { q.shape[0] = 4; }).starts_with("q_nope shape[0] = 4: must be max_nnz_qo of the graph (5)"));
  CHECK(run([](T&, T& pe, P&, O&) { pe.shape[2] = 32; }).starts_with("q_pe shape[2] = 32: must be head_dim_kpe (64)"));
  CHECK(run([](T&, T& pe, P&, O&) { pe.dtype = DType::f16; }).starts_with("q_pe dtype = f16"));
  CHECK(run([](T&, T&, P& k, O&) { k.page_size = 16; }).starts_with("ckv cache page_size = 16"));
  CHECK(run([](T&, T&, P& k, O&) { k.head_dim_ckv = 64; }).starts_with("ckv cache head_dim = 64"));
  CHECK(run([](T&, T&, P& k, O&) { k.kpe = nullptr; }).starts_with("kpe cache = null"));
  CHECK(run([](T&, T&, P& k, O&) { k.dtype = DType::f16; }).starts_with("ckv cache dtype = f16"));
  CHECK(run([](T&, T&, P&, O& out) { out.o.shape[2] = 576; }).starts_with("o shape[2] = 576"));
  CHECK(run([](T&, T& pe, P&, O& out) { out.o.data = pe.data, out.lse_log2 = {}; }).starts_with("o = memory of q_"));
  CHECK(run([](T&, T&, P& k, O& out) { out.o.data = k.ckv; }).find("share memory with the ckv cache") != std::string::npos);
  const auto over = [](const void* data, O& out) {
    out.lse_log2 = {static_cast<float*>(const_cast<void*>(data)), out.lse_log2.size()};
  };
  CHECK(run([&](T&, T& pe, P&, O& out) { over(pe.data, out); }).find("share memory with q_") != std::string::npos);
  CHECK(run([&](T&, T&, P& k, O& out) { over(k.ckv, out); }).find("share memory with the ckv cache") != std::string::npos);
  CHECK(run([&](T&, T&, P& k, O& out) { over(k.kpe, out); }).find("share memory with the kpe cache") != std::string::npos);
  CHECK(run([&](T&, T&, P&, O& out) { over(out.o.data, out); }).find("share memory with o") != std::string::npos);
  CHECK(run([](T&, T&, P&, O& out) { out.lse_log2 = out.lse_log2.first(3); }).starts_with("lse_log2 size = 3"));
  CHECK(run([](T& q, T&, P&, O& out) { out.o = q; }) == "accepted");  // in place
}
