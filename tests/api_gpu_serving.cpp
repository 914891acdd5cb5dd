// FlashInfer's calls over a block table on the GPU: the bits of the classes that they stand for, eager and in a graph whose
// lengths change in place. tests/api_serving_calls.cpp has what needs no GPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"
#include "tests/draft_mask.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/refusal.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

struct ServedCase {
  Case c;
  gpu::DeviceProblem problem;
  std::int32_t max_pages = 1;
  std::vector<std::int32_t> table;
  gpu::DeviceBuffer block_tables, seq_lens;

  explicit ServedCase(const CaseSpec& spec) : ServedCase(draw_case(spec)) {}
  explicit ServedCase(Case drawn) : c(std::move(drawn)), problem(c.problem()) {
    const CaseSpec& spec = c.spec;
    for (const std::int32_t len : spec.kv_lens) max_pages = std::max(max_pages, pages_for(len, spec.page_size));
    table.assign(spec.kv_lens.size() * static_cast<std::size_t>(max_pages), -1);
    for (std::size_t b = 0; b < spec.kv_lens.size(); ++b) {
      std::copy(c.paged_kv_indices.begin() + c.paged_kv_indptr[b], c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1],
                table.begin() + static_cast<std::ptrdiff_t>(b) * max_pages);
    }
    block_tables = gpu::DeviceBuffer(table.data(), table.size() * sizeof(std::int32_t));
    seq_lens = gpu::DeviceBuffer(spec.kv_lens.data(), spec.kv_lens.size() * sizeof(std::int32_t));
  }
  std::span<const std::int32_t> tables() const { return {block_tables.as<std::int32_t>(), table.size()}; }
  std::span<const std::int32_t> lens() const { return {seq_lens.as<std::int32_t>(), c.spec.kv_lens.size()}; }
};

CaseSpec served_spec(std::vector<std::int32_t> qo_lens, MaskMode mask) {
  CaseSpec spec{.name = "served", .seed = 21, .qo_lens = std::move(qo_lens), .kv_lens = {1700, 40, 900, 411}, .page_size = 16,
                .dtype = DType::bf16};
  spec.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.08f,
                 .mask = mask};
  return spec;
}

}  // namespace

TEST_CASE("trtllm and cudnn decode and xqa on the GPU: one plan and one result, in graphs too") {
  const ServedCase served(served_spec({1, 1, 1, 1}, MaskMode::none));
  const GpuStream stream;
  const AttentionConfig config = config_of(served.c.spec, Device::gpu, DType::bf16);
  const DeviceBlockTableLengths lengths{served.lens(), served.max_pages, served.max_pages * 16};
  GpuWorkspace class_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths));
  BatchDecodeWithPagedKVCache decode(config, class_memory.view());
  GpuOutput by_class(4, config), by_call(4, config);
  const On on{Device::gpu, stream};
  const Tensor q = served.problem.view().q;
  TrtllmBatchDecode trtllm{.query = q, .kv_cache = served.problem.view().kv, .workspace_buffer = {},
                           .block_tables = served.tables(), .seq_lens = served.lens(), .max_seq_len = lengths.max_seq_len,
                           .bmm1_scale = 0.08f, .out = by_call.view()};
  CudnnBatchDecode cudnn{.q = q, .kv_cache = trtllm.kv_cache, .scale = 0.08f, .workspace_buffer = {},
                         .max_sequence_kv = lengths.max_seq_len, .actual_seq_lens_kv = served.lens(),
                         .block_tables = served.tables(), .out = by_call.view()};
  Xqa of_xqa{.q = q, .kv_cache = trtllm.kv_cache, .page_table = served.tables(),
             .seq_lens = {served.seq_lens.as<std::uint32_t>(), 4}, .output = by_call.view(), .workspace_buffer = {},
             .q_scale = 0.08f / default_sm_scale(128)};
  GpuWorkspace memory(workspace_bytes(trtllm, on));
  CHECK(workspace_bytes(cudnn, on).device == workspace_bytes(trtllm, on).device);
  CHECK(workspace_bytes(of_xqa, on).device == workspace_bytes(trtllm, on).device);
  trtllm.workspace_buffer = cudnn.workspace_buffer = of_xqa.workspace_buffer = memory.view();
  const std::function<void()> calls[] = {[&] { trtllm_batch_decode_with_kv_cache(trtllm, on); },
                                         [&] { cudnn_batch_decode_with_kv_cache(cudnn, on); }, [&] { xqa(of_xqa, on); }};
  for (const auto& call : calls) {
    const GpuGraph graph(stream, call);
    for (const std::vector<std::int32_t>& lens : {served.c.spec.kv_lens, {3, 0, 900, 1}, {0, 0, 0, 0}, {1700, 40, 1, 2}}) {
      gpu::check(cudaMemcpyAsync(served.seq_lens.data(), lens.data(), served.seq_lens.size(), cudaMemcpyHostToDevice, stream));
      by_class.poison(stream);
      decode.plan(lengths, stream);
      decode.run(q, trtllm.kv_cache, served.tables(), by_class.view(), stream);
      const Result expected = by_class.result(stream);
      by_call.poison(stream);
      call();
      CHECK((by_call.result(stream) == expected));
      by_call.poison(stream);
      graph.launch(stream);
      CHECK((by_call.result(stream) == expected));
    }
  }
  CHECK(memory.guards_intact());
}

// Lengths on the host give the same cuts to the prefill class, which takes the same kernel for so few queries.
TEST_CASE("trtllm decode on the GPU with several queries a request gives the bits of the prefill class, in graphs too") {
  for (const std::int32_t queries : {2, 4}) {
    const ServedCase served(served_spec({queries, queries, queries, queries}, MaskMode::causal));
    const GpuStream stream;
    const AttentionConfig config = config_of(served.c.spec, Device::gpu, DType::bf16);
    const Tensor q = served.problem.view().q;
    const On on{Device::gpu, stream};
    GpuOutput by_class(4 * queries, config), by_call(4 * queries, config);
    TrtllmBatchDecode trtllm{.query = q, .kv_cache = served.problem.view().kv, .workspace_buffer = {},
                             .block_tables = served.tables(), .seq_lens = served.lens(),
                             .max_seq_len = served.max_pages * 16, .bmm1_scale = 0.08f, .out = by_call.view(),
                             .q_len_per_req = queries};
    GpuWorkspace memory(workspace_bytes(trtllm, on));
    trtllm.workspace_buffer = memory.view();
    const GpuGraph graph(stream, [&] { trtllm_batch_decode_with_kv_cache(trtllm, on); });
    for (const std::vector<std::int32_t>& lens : {served.c.spec.kv_lens, {3, 0, 900, 1}, {1700, 40, 1, 2}}) {
      gpu::check(cudaMemcpyAsync(served.seq_lens.data(), lens.data(), served.seq_lens.size(), cudaMemcpyHostToDevice, stream));
      const BlockTableLengths lengths{lens, served.max_pages};
      GpuWorkspace class_memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, served.c.qo_indptr, lengths));
      BatchPrefillWithPagedKVCache prefill(config, class_memory.view());
      prefill.plan(served.c.qo_indptr, lengths, stream);
      by_class.poison(stream);
      prefill.run(q, trtllm.kv_cache, served.tables(), by_class.view(), stream);
      const Result expected = by_class.result(stream);
      by_call.poison(stream);
      trtllm_batch_decode_with_kv_cache(trtllm, on);
      CHECK((by_call.result(stream) == expected));
      by_call.poison(stream);
      graph.launch(stream);
      CHECK((by_call.result(stream) == expected));
    }
    CHECK(memory.guards_intact());
    trtllm.q_len_per_req = 5;
    CHECK(refusal([&] { workspace_bytes(trtllm, on); }) ==
          "q_len_per_req = 5: must be at most 4 on the GPU: more of such heads are a prefill's");
  }
}

// Lengths and mask on the host; the mask's bits go to the end of the workspace.
TEST_CASE("xqa and trtllm decode on the GPU with a draft's mask equal the oracle") {
  for (const std::int32_t q_len : {1, 4, 33}) {
    for (const std::int32_t window_left : {-1, 20}) {
      const DraftCase d(q_len, window_left, true, DType::bf16, 128);
      INFO(q_len, " queries, window_left ", window_left);
      Rounding most;
      for (const char* name : {"P1", "P5", "P11"}) most = std::max(most, rung(name).rounding(d.c.spec));
      const Oracle oracle = make_oracle(d.c, most);
      const ServedCase served(d.c);
      const AttentionConfig config = config_of(d.c.spec, Device::gpu, DType::f32);
      GpuOutput output(static_cast<std::int32_t>(d.c.q.shape[0]), config);
      const GpuStream stream;
      const On on{Device::gpu, stream};
      const AttentionProblem& view = served.problem.view();
      Xqa of_xqa{.q = view.q, .kv_cache = view.kv, .page_table = served.tables(), .seq_lens = d.lens,
                 .output = output.view(), .workspace_buffer = {}, .sinks = view.sinks,
                 .q_scale = d.c.spec.params.sm_scale / default_sm_scale(128), .sliding_win_size = window_left + 1,
                 .q_seq_len = q_len, .mask = d.words};
      TrtllmBatchDecode trtllm{.query = view.q, .kv_cache = view.kv, .workspace_buffer = {},
                               .block_tables = served.tables(), .seq_lens = d.c.spec.kv_lens,
                               .max_seq_len = served.max_pages * 16, .bmm1_scale = d.c.spec.params.sm_scale,
                               .window_left = window_left, .out = output.view(), .sinks = view.sinks,
                               .q_len_per_req = q_len, .mask = d.words};
      GpuWorkspace memory(workspace_bytes(of_xqa, on));
      of_xqa.workspace_buffer = trtllm.workspace_buffer = memory.view();
      for (int turn = 0; turn < 6; ++turn) {  // more plans than the staging memory holds
        output.poison(stream);
        if (turn % 2 == 0) xqa(of_xqa, on);
        else trtllm_batch_decode_with_kv_cache(trtllm, on);
        const Result result = output.result(stream);
        const Comparison comparison = compare(d.c, result.floats(), result.lse_log2, oracle);
        CHECK_MESSAGE(comparison.ok(), comparison.message());
      }
      CHECK(memory.guards_intact());
      const GpuWorkspace small({.device = memory.view().device.size() - 16, .staging = memory.view().staging.size()});
      of_xqa.workspace_buffer = small.view();
      CHECK(refusal([&] { xqa(of_xqa, on); }).starts_with("workspace.device bytes = "));
      of_xqa.workspace_buffer = memory.view();
      gpu::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      const std::string captured = refusal([&] { xqa(of_xqa, on); });
      cudaGraph_t graph = nullptr;
      gpu::check(cudaStreamEndCapture(stream, &graph));
      gpu::check(cudaGraphDestroy(graph));
      CHECK(captured.starts_with("stream = capturing: can't plan a prefill"));
    }
  }
}

TEST_CASE("trtllm_batch_context and cudnn_batch_prefill on the GPU give the bits of the prefill class") {
  const ServedCase served(served_spec({130, 0, 1, 64}, MaskMode::causal));
  const GpuStream stream;
  const AttentionConfig config = config_of(served.c.spec, Device::gpu, DType::bf16);
  const BlockTableLengths lengths{served.c.spec.kv_lens, served.max_pages};
  GpuWorkspace class_memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, served.c.qo_indptr, lengths));
  BatchPrefillWithPagedKVCache prefill(config, class_memory.view());
  GpuOutput by_class(195, config), by_call(195, config);
  prefill.plan(served.c.qo_indptr, lengths, stream);
  prefill.run(served.problem.view().q, served.problem.view().kv, served.tables(), by_class.view(), stream);
  const Result expected = by_class.result(stream);
  const On on{Device::gpu, stream};
  TrtllmBatchContext context{.query = served.problem.view().q, .kv_cache = served.problem.view().kv, .workspace_buffer = {},
                             .block_tables = served.tables(), .seq_lens = served.c.spec.kv_lens, .max_q_len = 130,
                             .max_kv_len = 1700, .bmm1_scale = 0.08f, .batch_size = 4, .cum_seq_lens_q = served.c.qo_indptr,
                             .cum_seq_lens_kv = {}, .out = by_call.view()};
  CudnnBatchPrefill cudnn{.q = context.query, .kv_cache = context.kv_cache, .scale = 0.08f, .workspace_buffer = {},
                          .max_token_per_sequence = 130, .max_sequence_kv = 1700,
                          .actual_seq_lens_q = served.c.spec.qo_lens, .actual_seq_lens_kv = served.c.spec.kv_lens,
                          .block_tables = served.tables(), .causal = true, .out = by_call.view()};
  GpuWorkspace memory(workspace_bytes(context, on));
  context.workspace_buffer = cudnn.workspace_buffer = memory.view();
  for (int i = 0; i < 10; ++i) {  // more plans than the staging memory holds
    by_call.poison(stream);
    if (i % 2 == 0) trtllm_batch_context_with_kv_cache(context, on);
    else cudnn_batch_prefill_with_kv_cache(cudnn, on);
    if (i > 7) CHECK((by_call.result(stream) == expected));
  }
  CHECK(memory.guards_intact());
}

// So few queries a request that P11 packs heads whatever their sum is: the host's plan is then the device's.
TEST_CASE("trtllm_batch_context and cudnn_batch_prefill with lengths on the GPU give the bits of policy none, in graphs too") {
  const ServedCase served(served_spec({130, 0, 1, 64}, MaskMode::causal));
  const GpuStream stream;
  AttentionConfig config = config_of(served.c.spec, Device::gpu, DType::bf16);
  config.execution.policy = SplitPolicy::none;
  const Tensor q = served.problem.view().q;
  const On on{Device::gpu, stream};
  GpuOutput by_class(195, config), by_call(195, config);
  std::vector<std::int32_t> qo_lens = served.c.spec.qo_lens, qo_indptr = served.c.qo_indptr;
  const gpu::DeviceBuffer lens_q(qo_lens.data(), qo_lens.size() * sizeof(std::int32_t));
  const gpu::DeviceBuffer cum_q(qo_indptr.data(), qo_indptr.size() * sizeof(std::int32_t));
  TrtllmBatchContext context{.query = q, .kv_cache = served.problem.view().kv, .workspace_buffer = {},
                             .block_tables = served.tables(), .seq_lens = served.lens(), .max_q_len = 130,
                             .max_kv_len = served.max_pages * 16, .bmm1_scale = 0.08f, .batch_size = 4,
                             .cum_seq_lens_q = {cum_q.as<std::int32_t>(), 5}, .cum_seq_lens_kv = {}, .out = by_call.view(),
                             .lengths_on_device = true};
  CudnnBatchPrefill cudnn{.q = q, .kv_cache = context.kv_cache, .scale = 0.08f, .workspace_buffer = {},
                          .max_token_per_sequence = 130, .max_sequence_kv = served.max_pages * 16,
                          .actual_seq_lens_q = {lens_q.as<std::int32_t>(), 4}, .actual_seq_lens_kv = served.lens(),
                          .block_tables = served.tables(), .causal = true, .out = by_call.view(), .lengths_on_device = true};
  GpuWorkspace memory(workspace_bytes(context, on));
  CHECK(workspace_bytes(cudnn, on).device == workspace_bytes(context, on).device);
  context.workspace_buffer = cudnn.workspace_buffer = memory.view();
  const std::function<void()> calls[] = {[&] { trtllm_batch_context_with_kv_cache(context, on); },
                                         [&] { cudnn_batch_prefill_with_kv_cache(cudnn, on); }};
  const std::vector<std::int32_t> queries[] = {qo_lens, {3, 0, 90, 1}, {0, 0, 0, 0}, {64, 130, 0, 1}};
  const std::vector<std::int32_t> keys[] = {served.c.spec.kv_lens, {3, 0, 900, 1}, {7, 0, 0, 1}, {1700, 40, 1, 2}};
  for (const auto& call : calls) {
    const GpuGraph graph(stream, call);
    for (int i = 0; i < 4; ++i) {
      for (std::size_t b = 0; b < 4; ++b) qo_indptr[b + 1] = qo_indptr[b] + queries[i][b];
      gpu::check(cudaMemcpyAsync(lens_q.data(), queries[i].data(), lens_q.size(), cudaMemcpyHostToDevice, stream));
      gpu::check(cudaMemcpyAsync(cum_q.data(), qo_indptr.data(), cum_q.size(), cudaMemcpyHostToDevice, stream));
      gpu::check(cudaMemcpyAsync(served.seq_lens.data(), keys[i].data(), served.seq_lens.size(), cudaMemcpyHostToDevice,
                                 stream));
      const BlockTableLengths lengths{keys[i], served.max_pages};
      GpuWorkspace class_memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, qo_indptr, lengths));
      BatchPrefillWithPagedKVCache prefill(config, class_memory.view());
      prefill.plan(qo_indptr, lengths, stream);
      AttentionOutput rows = by_class.view();
      Tensor of_rows = q;
      of_rows.shape[0] = rows.o.shape[0] = qo_indptr.back();
      rows.lse_log2 = rows.lse_log2.first(static_cast<std::size_t>(qo_indptr.back() * config.heads.num_qo_heads));
      by_class.poison(stream);
      prefill.run(of_rows, context.kv_cache, served.tables(), rows, stream);
      const Result expected = by_class.result(stream);
      by_call.poison(stream);
      call();
      CHECK((by_call.result(stream) == expected));
      by_call.poison(stream);
      graph.launch(stream);
      CHECK((by_call.result(stream) == expected));
    }
  }
  CHECK(memory.guards_intact());
}
