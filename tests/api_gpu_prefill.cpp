// Many queries a request on the GPU through the public classes: every case of the table against the oracle, by page lists
// and by block tables, whole and in a graph that is planned again for each batch.
#include <doctest/doctest.h>

#include <cstring>

#include "api/attention_session.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_gpu.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

AttentionConfig prefill_config(const Case& c, DType o_dtype, SplitPolicy policy) {
  AttentionConfig config = config_of(c.spec, Device::gpu, o_dtype);
  config.execution.policy = policy;
  config.execution.chunk_size = 64;
  return config;
}

BatchLengths lengths_of(const Case& c) {
  const AttentionProblem problem = c.problem();
  BatchLengths lengths{.qo_indptr = problem.qo_indptr};
  if (problem.has_block_table()) {
    lengths.block_table = BlockTableLengths{problem.seq_lens, problem.max_pages()};
  } else {
    lengths.paged_kv_indptr = problem.paged_kv_indptr;
    lengths.paged_kv_last_page_len = problem.paged_kv_last_page_len;
  }
  return lengths;
}

Result prefill(const Case& c, DType o_dtype, SplitPolicy policy) {
  const AttentionConfig config = prefill_config(c, o_dtype, policy);
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionProblem& view = on_device.view();
  AttentionSession session(config, {.decode = false});
  GpuWorkspace memory(session.bytes_for(lengths_of(c)));
  session.attach(memory.view());
  session.plan(lengths_of(c), {}, Device::cpu, nullptr);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  session.run({.q = view.q, .kv = view.kv, .page_ids = view.has_block_table() ? view.block_tables : view.paged_kv_indices,
               .output = out.view(), .sinks = view.sinks, .custom_mask = view.custom_mask}, nullptr);
  Result result = out.result(nullptr);
  CHECK(memory.guards_intact());
  return result;
}

void check_prefill(const CaseSpec& spec, SplitPolicy policy) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c);
  const Result exact = prefill(c, DType::f32, policy);
  const Comparison comparison = compare(c, exact.floats(), exact.lse_log2, oracle.o, oracle.lse_log2, oracle.tolerance);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  if (spec.dtype == DType::f32) return;
  CHECK(prefill(c, spec.dtype, policy).o == rounded(exact.floats(), spec.dtype));
}

// A batch of some of the case's requests, in the case's order, on the case's cache.
struct Chosen {
  std::vector<std::int32_t> qo_indptr{0}, paged_kv_indptr{0}, paged_kv_indices, last_page_len;
  std::vector<std::byte> q;

  Chosen(const Case& c, const std::vector<std::int32_t>& requests) {
    const std::size_t row = c.q.bytes.size() / static_cast<std::size_t>(c.q.shape[0]);
    for (const std::int32_t b : requests) {
      const std::int32_t begin = c.qo_indptr[b], end = c.qo_indptr[b + 1];
      q.insert(q.end(), c.q.bytes.begin() + begin * row, c.q.bytes.begin() + end * row);
      qo_indptr.push_back(qo_indptr.back() + end - begin);
      paged_kv_indices.insert(paged_kv_indices.end(), c.paged_kv_indices.begin() + c.paged_kv_indptr[b],
                              c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1]);
      paged_kv_indptr.push_back(static_cast<std::int32_t>(paged_kv_indices.size()));
      last_page_len.push_back(c.paged_kv_last_page_len[b]);
    }
  }
  BatchLengths lengths() const {
    return {.qo_indptr = qo_indptr, .paged_kv_indptr = paged_kv_indptr, .paged_kv_last_page_len = last_page_len};
  }
};

}  // namespace

TEST_CASE("prefill on the GPU equals the oracle on the case table") {
  for (const CaseSpec& spec : case_table()) {
    for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) check_prefill(spec, policy);
  }
}

TEST_CASE("prefill on the GPU equals the oracle on random cases") {
  const int cases = options().cases > 0 ? options().cases : 100;
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const auto seed = options().seed + static_cast<std::uint64_t>(i);
    check_prefill(random_spec(seed), i % 3 ? SplitPolicy::balanced : SplitPolicy::fixed);
  }
}

TEST_CASE("a graph of a prefill is planned again for each batch") {
  CaseSpec spec{.name = "pool", .seed = 8, .qo_lens = {70, 1, 0, 200, 5, 33}, .kv_lens = {700, 900, 40, 200, 3, 1300},
                .dtype = DType::f16};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .mask = MaskMode::causal,
                 .window_left = 300, .pos_encoding_mode = PosEncodingMode::ALIBI};
  const Case c = draw_case(spec);
  const gpu::DeviceProblem on_device(c.problem());
  const PagedKvCache kv = on_device.view().kv;
  for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::balanced}) {
    const AttentionConfig config = prefill_config(c, DType::f16, policy);
    const AttentionLimits limits{.max_batch = 6, .max_pages = static_cast<std::int64_t>(c.paged_kv_indices.size()),
                                 .max_nnz_qo = c.q.shape[0]};
    AttentionSession graphed(config, {.decode = false, .graph = limits}), eager(config, {.decode = false});
    GpuWorkspace graph_memory(graphed.bytes_for(limits)), eager_memory(eager.bytes_for(limits));
    graphed.attach(graph_memory.view());
    eager.attach(eager_memory.view());
    const gpu::DeviceBuffer q(c.q.bytes.size());
    const GpuStream stream;
    GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
    const Tensor q_view = contiguous(q.data(), DType::f16, {c.q.shape[0], 6, 64});
    const Chosen first(c, {0});
    graphed.plan(first.lengths(), first.paged_kv_indices, Device::cpu, stream);
    const AttentionArguments arguments{.q = q_view, .kv = kv, .page_ids = {}, .output = out.view(), .sinks = {}};
    const GpuGraph graph(stream, [&] { graphed.run(arguments, stream); });
    for (const std::vector<std::int32_t>& requests :
         {std::vector<std::int32_t>{0, 1, 2, 3, 4, 5}, {5}, {}, {2}, {4, 4}, {1, 4, 5, 0}}) {
      const Chosen batch(c, requests);
      gpu::check(cudaMemcpy(q.data(), batch.q.data(), batch.q.size(), cudaMemcpyHostToDevice));
      const auto rows = static_cast<std::int64_t>(batch.qo_indptr.back());
      Tensor q_rows = q_view;
      q_rows.shape[0] = rows;
      // Rows beyond the batch keep the poison on both sides.
      GpuOutput expected(static_cast<std::int32_t>(c.q.shape[0]), config);
      AttentionOutput expected_rows = expected.view();
      expected_rows.o.shape[0] = rows;
      expected_rows.lse_log2 = expected_rows.lse_log2.first(static_cast<std::size_t>(rows) * 6);
      const gpu::DeviceBuffer indices(batch.paged_kv_indices.data(), batch.paged_kv_indices.size() * sizeof(std::int32_t));
      eager.plan(batch.lengths(), {}, Device::cpu, stream);
      eager.run({.q = q_rows, .kv = kv, .page_ids = {indices.as<std::int32_t>(), batch.paged_kv_indices.size()},
                 .output = expected_rows, .sinks = {}}, stream);
      const Result wanted = expected.result(stream);
      out.poison(stream);
      graphed.plan(batch.lengths(), batch.paged_kv_indices, Device::cpu, stream);
      for (int replay = 0; replay < 2; ++replay) graph.launch(stream);
      CHECK((out.result(stream) == wanted));
    }
    CHECK(graph_memory.guards_intact());
  }
}
