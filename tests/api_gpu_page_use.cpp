// On the GPU: pages that fa3 can't read are copied together first where the workspace has room, else fa2 reads them.
#include <doctest/doctest.h>

#include "api/attention_session.hpp"
#include "gpu/device.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

// Whole requests that see all their keys, 2 query heads to a KV head: enough rows for automatic to copy. Policy target does
// not cut so few keys, so that the two ways differ in nothing but the copy.
TEST_CASE("a copy is taken where there is room, and not overwritten while an earlier run reads it") {
  if (!gpu::why_no_hopper().empty()) return;
  CaseSpec spec{.name = "page 1", .seed = 9, .qo_lens = {200, 180}, .kv_lens = {200, 180}, .page_size = 1,
                .dtype = DType::f16};
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 4, .head_dim_qk = 128, .head_dim_vo = 128};
  const Case c = draw_case(spec);
  spec.seed = 10;
  const Case other = draw_case(spec);
  AttentionConfig config = config_of(c.spec, Device::gpu, DType::f32);
  config.execution.policy = SplitPolicy::target;
  config.execution.enable_pdl = true;
  const BatchLengths lengths{.qo_indptr = c.qo_indptr, .paged_kv_indptr = c.paged_kv_indptr,
                             .paged_kv_last_page_len = c.paged_kv_last_page_len};
  AttentionSession copying(config, {.decode = false}), in_place(config, {.decode = false});
  WorkspaceBytes bytes = copying.bytes_for(lengths);
  CHECK(bytes.device >= bytes.least_device + 380 * 4 * (128 + 128) * 2 - 4096);  // the copy; plans differ by a little
  const GpuWorkspace memory(bytes);
  bytes.device = bytes.least_device;
  const GpuWorkspace least(bytes);
  copying.attach(memory.view());
  in_place.attach(least.view());
  copying.plan(lengths, {}, Device::cpu, nullptr);
  in_place.plan(lengths, {}, Device::cpu, nullptr);
  CHECK(copying.explain().starts_with("fa3: P11"));
  CHECK(in_place.explain().starts_with("fa2: P5"));
  CHECK(in_place.explain().find("no room") != std::string::npos);

  const gpu::DeviceProblem on_device(c.problem()), other_on_device(other.problem());
  GpuOutput outputs[] = {{380, config}, {380, config}, {380, config}};
  const auto run = [&](AttentionSession& session, const gpu::DeviceProblem& problem, GpuOutput& out) {
    const AttentionProblem& view = problem.view();
    session.run({.q = view.q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = out.view(), .sinks = {}}, nullptr);
  };
  run(copying, on_device, outputs[0]);
  run(copying, other_on_device, outputs[1]);  // as the next layer does: on the same copy
  run(in_place, on_device, outputs[2]);
  const Case* const cases[] = {&c, &other, &c};
  for (int i = 0; i < 3; ++i) {
    const Oracle oracle = make_oracle(*cases[i], rung("P11").rounding(spec));
    const Result result = outputs[i].result(nullptr);
    const Comparison comparison = compare(*cases[i], result.floats(), result.lse_log2, oracle);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
  }
  CHECK(memory.guards_intact());
  CHECK(least.guards_intact());

  // Both kernels, the one that copies and P11, keep to a limit of SMs; nothing is cut, and the bits are the same.
  config.execution.num_sms = 3;
  AttentionSession limited(config, {.decode = false});
  const GpuWorkspace limited_memory(limited.bytes_for(lengths));
  limited.attach(limited_memory.view());
  limited.plan(lengths, {}, Device::cpu, nullptr);
  CHECK(limited.current_plan().num_ctas() == 3);
  CHECK(limited.explain().ends_with("; on 3 SMs, as num_sms asks"));
  GpuOutput out(380, config);
  run(limited, on_device, out);
  CHECK((out.result(nullptr) == outputs[0].result(nullptr)));
  CHECK(limited_memory.guards_intact());
}
