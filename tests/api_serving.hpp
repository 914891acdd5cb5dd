// What the tests of the calls over a block table share: cases, their calls, and what the decode class makes of a case.
#pragma once

#include "tests/api_prefill.hpp"

namespace flashladder::test {

using api::AttentionConfig, api::BatchDecodeWithPagedKVCache, api::CudnnBatchPrefill, api::TrtllmBatchContext,
    api::TrtllmBatchDecode;
using ladder::Case, ladder::CaseSpec;

inline Case decode_case(std::int32_t window_left, bool sinks) {
  CaseSpec spec{.name = "serving", .seed = 5, .qo_lens = {1, 1, 1, 1}, .kv_lens = {300, 0, 129, 33}, .page_size = 16,
                .dtype = DType::bf16};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f,
                 .window_left = window_left, .sinks = sinks};
  return draw_case(spec);
}

// What the decode class makes of the case.
inline Result by_class(const Case& c, const Dense& dense) {
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  config.execution.threads = 0;
  Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, dense.lengths));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  decode.plan(dense.lengths);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    decode.run(c.q.view(), c.problem().kv, dense.block_tables, out, nullptr, c.sinks);
  });
}

// A call in exactly the memory that it asks for, between guard bands.
template <class Call, class Run>
Result by_call(const Case& c, Call call, AttentionOutput Call::*out_member, Run run) {
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    call.*out_member = out;
    Memory memory(workspace_bytes(call));
    call.workspace_buffer = memory.view();
    run(call);
    run(call);  // on the object that is kept
  });
}

inline TrtllmBatchDecode trtllm(const Case& c, const Dense& dense) {
  return {.query = c.q.view(), .kv_cache = c.problem().kv, .workspace_buffer = {}, .block_tables = dense.block_tables,
          .seq_lens = dense.lengths.seq_lens, .max_seq_len = 304, .bmm1_scale = c.spec.params.sm_scale,
          .window_left = c.spec.params.window_left, .out = {}, .sinks = c.sinks};
}
inline TrtllmBatchContext context(const Case& c, const Dense& dense) {
  return {.query = c.q.view(), .kv_cache = c.problem().kv, .workspace_buffer = {}, .block_tables = dense.block_tables,
          .seq_lens = dense.lengths.seq_lens, .max_q_len = 70, .max_kv_len = 300, .bmm1_scale = c.spec.params.sm_scale,
          .batch_size = 4, .cum_seq_lens_q = c.qo_indptr, .cum_seq_lens_kv = {}, .out = {}};
}
inline CudnnBatchPrefill cudnn(const Case& c, const Dense& dense) {
  return {.q = c.q.view(), .kv_cache = c.problem().kv, .scale = c.spec.params.sm_scale, .workspace_buffer = {},
          .max_token_per_sequence = 70, .max_sequence_kv = 300, .actual_seq_lens_q = c.spec.qo_lens,
          .actual_seq_lens_kv = c.spec.kv_lens, .block_tables = dense.block_tables, .causal = true, .out = {}};
}

}  // namespace flashladder::test
