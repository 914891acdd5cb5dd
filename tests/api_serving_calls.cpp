// FlashInfer's calls over a block table: each gives the bits of the batch class that it stands for, whose results the oracle
// holds; and what is refused. On the CPU; tests/api_gpu_serving.cpp has the GPU's.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ladder/oracle.hpp"
#include "tests/api_serving.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

TEST_CASE("trtllm_batch_decode, cudnn_batch_decode and xqa give the bits of the decode class") {
  for (const std::int32_t window_left : {-1, 40}) {
    for (const bool sinks : {false, true}) {
      const Case c = decode_case(window_left, sinks);
      const Dense dense(c);
      const Result expected = by_class(c, dense);
      CHECK(expected == by_call(c, trtllm(c, dense), &TrtllmBatchDecode::out,
                                [](const TrtllmBatchDecode& call) { trtllm_batch_decode_with_kv_cache(call); }));
      std::vector<std::uint32_t> lens(c.spec.kv_lens.begin(), c.spec.kv_lens.end());
      const Xqa call{.q = c.q.view(), .kv_cache = c.problem().kv, .page_table = dense.block_tables, .seq_lens = lens,
                     .output = {}, .workspace_buffer = {}, .sinks = c.sinks, .q_scale = 0.2f * 8,
                     .sliding_win_size = window_left + 1};
      CHECK(expected == by_call(c, call, &Xqa::output, [](const Xqa& xqa_call) { xqa(xqa_call); }));
      if (window_left >= 0 || sinks) continue;
      const CudnnBatchDecode decode{.q = c.q.view(), .kv_cache = c.problem().kv, .scale = 0.2f, .workspace_buffer = {},
                                    .max_sequence_kv = 300, .actual_seq_lens_kv = c.spec.kv_lens,
                                    .block_tables = dense.block_tables, .out = {}};
      CHECK(expected == by_call(c, decode, &CudnnBatchDecode::out,
                                [](const CudnnBatchDecode& d) { cudnn_batch_decode_with_kv_cache(d); }));
    }
  }
}

TEST_CASE("trtllm_batch_context and cudnn_batch_prefill give the bits of the prefill class") {
  Case c = causal_case(DType::f32, 7);
  const Dense dense(c);
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  config.execution.threads = 0;
  const auto by_prefill = [&](MaskMode mask, std::int32_t window_left) {
    config.logits.mask = mask;
    config.logits.window_left = window_left;
    Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, dense.lengths));
    BatchPrefillWithPagedKVCache prefill(config, memory.view());
    prefill.plan(c.qo_indptr, dense.lengths);
    return written(c, DType::f32, [&](const AttentionOutput& out) {
      prefill.run(c.q.view(), c.problem().kv, dense.block_tables, out);
    });
  };
  const auto run_context = [](const TrtllmBatchContext& call) { trtllm_batch_context_with_kv_cache(call); };
  const auto run_cudnn = [](const CudnnBatchPrefill& call) { cudnn_batch_prefill_with_kv_cache(call); };
  const Result causal = by_prefill(MaskMode::causal, -1);
  TrtllmBatchContext of_context = context(c, dense);
  CHECK(causal == by_call(c, of_context, &TrtllmBatchContext::out, run_context));
  const std::vector<std::int32_t> cum_seq_lens_kv{0, 300, 305, 434, 467};
  of_context.cum_seq_lens_kv = cum_seq_lens_kv;
  of_context.window_left = 20;
  CHECK(by_prefill(MaskMode::causal, 20) == by_call(c, of_context, &TrtllmBatchContext::out, run_context));
  CudnnBatchPrefill of_cudnn = cudnn(c, dense);
  CHECK(causal == by_call(c, of_cudnn, &CudnnBatchPrefill::out, run_cudnn));
  std::vector<std::int64_t> offsets;
  for (const std::int32_t row : c.qo_indptr) offsets.push_back(std::int64_t{row} * 6 * 64);
  of_cudnn.batch_offsets_q = of_cudnn.batch_offsets_o = offsets;
  of_cudnn.causal = false;
  CHECK(by_prefill(MaskMode::none, -1) == by_call(c, of_cudnn, &CudnnBatchPrefill::out, run_cudnn));
}

TEST_CASE("trtllm_batch_context and cudnn_batch_prefill with lengths on the device give the bits of the class, uncut") {
  const Case c = causal_case(DType::f32, 7);
  const Dense dense(c);
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  config.execution.threads = 0, config.execution.policy = SplitPolicy::none;
  Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, dense.lengths));
  BatchPrefillWithPagedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, dense.lengths);
  const Result expected = written(c, DType::f32, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, dense.block_tables, out);
  });
  TrtllmBatchContext of_context = context(c, dense);
  CudnnBatchPrefill of_cudnn = cudnn(c, dense);
  of_context.lengths_on_device = of_cudnn.lengths_on_device = true;
  const auto run_context = [](const TrtllmBatchContext& call) { trtllm_batch_context_with_kv_cache(call); };
  const auto run_cudnn = [](const CudnnBatchPrefill& call) { cudnn_batch_prefill_with_kv_cache(call); };
  CHECK(expected == by_call(c, of_context, &TrtllmBatchContext::out, run_context));
  CHECK(expected == by_call(c, of_cudnn, &CudnnBatchPrefill::out, run_cudnn));
  std::vector<std::byte> room(1 << 22);
  GuardedOutput rows(c.q.shape[0], 6, 64);
  of_context.workspace_buffer = of_cudnn.workspace_buffer = {.device = room};
  of_context.out = of_cudnn.out = rows.view();
  const auto refused = [&](auto change) {
    TrtllmBatchContext changed = of_context;
    CudnnBatchPrefill other = of_cudnn;
    change(changed, other);
    return refusal([&] { run_context(changed); }) + " | " + refusal([&] { run_cudnn(other); });
  };
  using T = TrtllmBatchContext;
  using N = CudnnBatchPrefill;
  const std::vector<std::int32_t> wrong_sums{0, 300, 306, 434, 467};
  const std::vector<std::int64_t> offsets(5);
  CHECK(refused([](T&, N&) {}) == "accepted | accepted");
  CHECK(refused([](T& t, N& n) { t.max_q_len = 69, n.max_token_per_sequence = 69; }) ==
        "qo_len = 70 (request 0): must be at most max_qo_len (69) | qo_len = 70 (request 0): must be at most max_qo_len (69)");
  CHECK(refused([](T& t, N& n) { t.max_kv_len = 299, n.max_sequence_kv = 299; }) ==
        "kv_len = 300 (request 0): must be at most max_seq_len (299) | "
        "kv_len = 300 (request 0): must be at most max_seq_len (299)");
  CHECK(refused([&](T& t, N& n) { t.cum_seq_lens_kv = wrong_sums, n.batch_offsets_o = offsets; }) ==
        "cum_seq_lens_kv[2] = 306 (request 2): must be the sum of the seq_lens before (305) | "
        "batch_offsets_q: and batch_offsets_o must be left out where lengths lie on the device");
  CHECK(refused([](T& t, N& n) { t.query.shape[0] = 103, n.actual_seq_lens_q = n.actual_seq_lens_q.first(3); })
            .starts_with("queries = 104: of all requests must be at most max_nnz_qo (103) | actual_seq_lens_q size = 3"));
}

TEST_CASE("serving calls with different configs on one memory do not mix") {
  const Case plain = decode_case(-1, false), windowed = decode_case(40, false);
  const Dense dense(plain), dense_windowed(windowed);
  const Result expected = by_class(plain, dense), expected_windowed = by_class(windowed, dense_windowed);
  GuardedOutput out(4, 6, 64);
  TrtllmBatchDecode a = trtllm(plain, dense), b = trtllm(windowed, dense_windowed);
  a.out = b.out = out.view();
  Memory memory(workspace_bytes(a));
  a.workspace_buffer = b.workspace_buffer = memory.view();
  for (int layer = 0; layer < 12; ++layer) {
    b.window_left = layer % 3 == 1 ? 40 : layer;  // more configs than are kept
    for (const bool window : {false, true}) {
      trtllm_batch_decode_with_kv_cache(window ? b : a);
      if (window && b.window_left != 40) continue;
      const auto* o = a.out.o.data_as<const float>();
      const Result& wanted = window ? expected_windowed : expected;
      CHECK(std::equal(wanted.o.begin(), wanted.o.end(), o));
    }
  }
}

TEST_CASE("trtllm_batch_decode with several queries a request equals the oracle") {
  for (const std::int32_t queries : {2, 5}) {
    for (const std::int32_t window_left : {-1, 40}) {
      CaseSpec spec = decode_case(window_left, true).spec;
      spec.qo_lens.assign(4, queries), spec.kv_lens = {300, 3, 129, queries};
      spec.params.mask = MaskMode::causal;
      const Case c = draw_case(spec);
      const Dense dense(c);
      TrtllmBatchDecode call = trtllm(c, dense);
      call.q_len_per_req = queries;
      const Result result = by_call(c, call, &TrtllmBatchDecode::out,
                                    [](const TrtllmBatchDecode& made) { trtllm_batch_decode_with_kv_cache(made); });
      const Comparison comparison = compare(c, result.o, result.lse_log2, make_oracle(c));
      CHECK_MESSAGE(comparison.ok(), comparison.message());
    }
  }
}

TEST_CASE("serving calls: what is refused, by its name in the call") {
  const Case c = decode_case(-1, false);
  const Dense dense(c);
  GuardedOutput out(4, 6, 64);
  std::vector<std::byte> memory(1 << 22);
  const auto decode = [&](auto change) {
    TrtllmBatchDecode call = trtllm(c, dense);
    call.out = out.view();
    call.workspace_buffer = {.device = memory};
    change(call);
    return refusal([&] { trtllm_batch_decode_with_kv_cache(call); });
  };
  using D = TrtllmBatchDecode;
  CHECK(decode([](D&) {}) == "accepted");
  CHECK(decode([](D& d) { d.max_seq_len = 1 << 20; }) == "accepted");  // more than the table has room for
  CHECK(decode([](D& d) { d.bmm2_scale = 0.5f; }) == "accepted");
  CHECK(decode([](D& d) { d.bmm2_scale = -1; }) == "bmm2_scale = -1: must be finite and greater than 0");
  CHECK(decode([](D& d) { d.bmm1_scale = 0; }) == "bmm1_scale = 0: must be finite and greater than 0");
  CHECK(decode([](D& d) { d.q_len_per_req = 0; }) == "q_len_per_req = 0: must be at least 1");
  CHECK(decode([](D& d) { d.q_len_per_req = 2; }) ==
        "q shape[0] = 4: must be that of the requests that were planned, times q_len_per_req (8)");
  CHECK(decode([](D& d) { d.max_seq_len = 299; }) == "kv_len = 300 (request 0): must be at most max_seq_len (299)");
  CHECK(decode([](D& d) { d.block_tables = d.block_tables.first(7); }) ==
        "block_tables size = 7: must be a multiple of the batch, the size of seq_lens");
  CHECK(decode([](D& d) { d.window_left = -2; }).starts_with("window_left = -2"));
  CHECK(decode([](D& d) { d.workspace_buffer.device = d.workspace_buffer.device.subspan(1); }) ==
        "workspace.device: must be aligned to 16 bytes");
  std::vector<std::uint32_t> lens(c.spec.kv_lens.begin(), c.spec.kv_lens.end());
  Xqa call{.q = c.q.view(), .kv_cache = c.problem().kv, .page_table = dense.block_tables, .seq_lens = lens,
           .output = out.view(), .workspace_buffer = {.device = memory}, .kv_scale = 0};
  CHECK(refusal([&] { xqa(call); }).starts_with("kv_scale = 0: must be finite"));
  call.kv_scale = 1, call.sliding_win_size = -1;
  CHECK(refusal([&] { xqa(call); }) == "sliding_win_size = -1: must be at least 1, or 0 for no window");

  CudnnBatchDecode of_cudnn_decode{.q = c.q.view(), .kv_cache = c.problem().kv, .scale = 0.2f,
                                   .workspace_buffer = {.device = memory}, .max_sequence_kv = -1,
                                   .actual_seq_lens_kv = c.spec.kv_lens, .block_tables = dense.block_tables,
                                   .out = out.view()};
  CHECK(refusal([&] { cudnn_batch_decode_with_kv_cache(of_cudnn_decode); }) == "max_sequence_kv = -1: must not be negative");
  GuardedOutput narrow(4, 6, 64, DType::bf16);  // whose rows are f32 in the workspace first
  const auto with_memory = [&](std::size_t bytes) {  // on an object that is kept
    return decode([&](D& d) { d.out = narrow.view(), d.workspace_buffer.device = std::span(memory).first(bytes); });
  };
  CHECK(with_memory(memory.size()) == "accepted");
  CHECK(with_memory(64).starts_with("workspace.device bytes = 64: must be at least"));

  const Case prompt = causal_case(DType::f32, 7);
  const Dense pages(prompt);
  GuardedOutput rows(prompt.q.shape[0], 6, 64);
  const auto prefill = [&](auto change) {
    TrtllmBatchContext of_context = context(prompt, pages);
    CudnnBatchPrefill of_cudnn = cudnn(prompt, pages);
    of_context.out = of_cudnn.out = rows.view();
    of_context.workspace_buffer = of_cudnn.workspace_buffer = {.device = memory};
    change(of_context, of_cudnn);
    return refusal([&] { trtllm_batch_context_with_kv_cache(of_context); }) + " | " +
           refusal([&] { cudnn_batch_prefill_with_kv_cache(of_cudnn); });
  };
  using T = TrtllmBatchContext;
  using N = CudnnBatchPrefill;
  const std::vector<std::int32_t> from_one{1, 70, 70, 71, 104}, backwards{0, 70, 69, 71, 104};
  const std::vector<std::int32_t> wrong_sums{0, 300, 306, 434, 467}, wrong_end{0, 300, 305, 434, 468};
  const std::vector<std::int32_t> negative{70, -1, 2, 33}, second_is_long{0, 0, 0, 71, 104};
  const std::vector<std::int64_t> gap{0, 71 * 384, 71 * 384, 72 * 384, 105 * 384};
  CHECK(prefill([](T&, N&) {}) == "accepted | accepted");
  CHECK(prefill([&](T& t, N&) { t.cum_seq_lens_q = from_one; }).starts_with("cum_seq_lens_q[0] = 1: must be the start (0)"));
  CHECK(prefill([&](T& t, N&) { t.cum_seq_lens_q = backwards; }).starts_with("cum_seq_lens_q[2] = 69 (request 1)"));
  CHECK(prefill([](T& t, N& n) { t.max_q_len = 69, n.max_token_per_sequence = 69; }) ==
        "cum_seq_lens_q: queries[0] = 70 (request 0): must be at most max_q_len (69) | "
        "actual_seq_lens_q[0] = 70 (request 0): must be at most max_token_per_sequence (69)");
  CHECK(prefill([&](T& t, N& n) { t.cum_seq_lens_q = second_is_long, n.actual_seq_lens_q = negative; }) ==
        "cum_seq_lens_q: queries[2] = 71 (request 2): must be at most max_q_len (70) | "
        "actual_seq_lens_q = -1 (request 1): must not be negative, and 2^31 - 1 in all");
  CHECK(prefill([&](T& t, N&) { t.cum_seq_lens_kv = wrong_end; })
            .starts_with("cum_seq_lens_kv[4] = 468 (request 3): must be the sum of the seq_lens before (467)"));
  CHECK(prefill([](T& t, N& n) { t.max_kv_len = 299, n.max_sequence_kv = 299; }) ==
        "seq_lens[0] = 300 (request 0): must be at most max_kv_len (299) | "
        "actual_seq_lens_kv[0] = 300 (request 0): must be at most max_sequence_kv (299)");
  CHECK(prefill([&](T& t, N& n) { t.cum_seq_lens_kv = wrong_sums, n.batch_offsets_q = gap; }) ==
        "cum_seq_lens_kv[2] = 306 (request 2): must be the sum of the seq_lens before (305) | "
        "batch_offsets_q[1] = 27264 (request 1): must be where the request before ends, in elements (26880)");
  CHECK(prefill([](T& t, N& n) { t.bmm2_scale = INFINITY, n.scale = -1; }) ==
        "bmm2_scale = inf: must be finite and greater than 0 | "
        "scale = -1: must be finite and greater than 0");
  CHECK(prefill([](T& t, N& n) { t.batch_size = 3, n.actual_seq_lens_q = n.actual_seq_lens_q.first(3); }) ==
        "seq_lens size = 4: must be batch_size (3) | actual_seq_lens_q size = 3: must be that of actual_seq_lens_kv (4)");
}
