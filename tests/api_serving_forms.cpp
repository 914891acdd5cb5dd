// Calls over a block table with the forms of arrays that their own tests have not: beams, strides, sinks of a prefill.
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

TEST_CASE("xqa takes queries and an output with a beam of one, each with strides of its own") {
  const Case c = decode_case(-1, false);
  const Dense dense(c);
  const Result expected = by_class(c, dense);
  const std::vector<std::uint32_t> lens(c.spec.kv_lens.begin(), c.spec.kv_lens.end());
  constexpr std::int64_t row = 6 * 64;
  std::vector<BFloat16> fused(4 * 3 * row, BFloat16(std::nanf("")));  // of three rows of a request the first is its query
  std::vector<float> o(4 * 2 * row, std::nanf(""));                   // and of two the first its o
  for (std::int64_t b = 0; b < 4; ++b) std::copy_n(c.q.view().data_as<const BFloat16>() + b * row, row, &fused[3 * b * row]);
  Xqa call{.q = contiguous(fused.data(), DType::bf16, {4, 1, 6, 64}), .kv_cache = c.problem().kv,
           .page_table = dense.block_tables, .seq_lens = lens, .output = {contiguous(o.data(), DType::f32, {4, 1, 6, 64}), {}},
           .workspace_buffer = {}, .q_scale = 0.2f * 8};
  call.q.strides[0] = 3 * row, call.output.o.strides[0] = 2 * row;
  Memory memory(workspace_bytes(call));
  call.workspace_buffer = memory.view();
  xqa(call);
  for (std::int64_t b = 0; b < 4; ++b) {
    CHECK(std::equal(&o[2 * b * row], &o[2 * b * row] + row, &expected.o[b * row]));
    CHECK(std::isnan(o[(2 * b + 1) * row]));
  }
  call.q.shape[1] = 2;
  CHECK(refusal([&] { xqa(call); }) == "q.shape[1] = 2: must be a beam of 1");
  call.q.shape[1] = 1, call.output.o.shape[1] = 3;
  CHECK(refusal([&] { xqa(call); }) == "output.shape[1] = 3: must be a beam of 1");
}

TEST_CASE("trtllm_batch_context has the sinks of its call, and cudnn_batch_prefill an output with gaps between its rows") {
  CaseSpec spec = causal_case(DType::f32, 7).spec;
  spec.params.sinks = true;
  const Case c = draw_case(spec);
  const Dense dense(c);
  TrtllmBatchContext of_context = context(c, dense);
  of_context.sinks = c.sinks;
  const Result result = by_call(c, of_context, &TrtllmBatchContext::out,
                                [](const TrtllmBatchContext& call) { trtllm_batch_context_with_kv_cache(call); });
  const Comparison comparison = compare(c, result.o, result.lse_log2, make_oracle(c));
  CHECK_MESSAGE(comparison.ok(), comparison.message());

  CudnnBatchPrefill call = cudnn(c, dense);
  const std::int64_t rows = c.q.shape[0], row = 6 * 64, wide = row + 64;
  std::vector<float> o(static_cast<std::size_t>(rows * wide));
  std::vector<std::byte> memory(1 << 22);
  std::vector<std::int64_t> offsets_q, offsets_o;
  for (const std::int32_t begin : c.qo_indptr) offsets_q.push_back(begin * row), offsets_o.push_back(begin * wide);
  call.out.o = contiguous(o.data(), DType::f32, {rows, 6, 64});
  call.out.o.strides[0] = wide;
  call.workspace_buffer = {.device = memory};
  call.batch_offsets_q = offsets_q, call.batch_offsets_o = offsets_o;
  CHECK(refusal([&] { cudnn_batch_prefill_with_kv_cache(call); }) == "accepted");
  call.batch_offsets_o = offsets_q;
  CHECK(refusal([&] { cudnn_batch_prefill_with_kv_cache(call); })
            .starts_with("batch_offsets_o[1] = 26880 (request 1): must be where the request before ends"));
}
