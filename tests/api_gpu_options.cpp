// Options of the public classes on the GPU: lse as a natural logarithm, a limit of SMs.
#include <doctest/doctest.h>

#include <cmath>

#include "api/attention_session.hpp"
#include "gpu/device.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "tests/api_gpu.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// A skewed batch on the GPU. page_size 16: P11 takes it on a Hopper GPU, P5 on others; f32: P1.
Case drawn(const std::vector<std::int32_t>& qo_lens, DType dtype) {
  CaseSpec spec{.name = "gpu options", .seed = 4, .qo_lens = qo_lens, .kv_lens = {4, 7, 200, 2500}, .page_size = 16,
                .dtype = dtype};
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.09f,
                 .mask = MaskMode::causal};
  return draw_case(spec);
}

// One plan, on memory of its own; run() as often as it is called.
struct Planned {
  AttentionConfig config;
  gpu::DeviceProblem on_device;
  AttentionSession session;
  GpuWorkspace memory;
  std::int32_t rows;

  Planned(const Case& c, const AttentionConfig& config_, bool decode)
      : config(config_), on_device(c.problem()), session(config, {.decode = decode}),
        memory(session.bytes_for(lengths(c, decode))), rows(static_cast<std::int32_t>(c.q.shape[0])) {
    session.attach(memory.view());
    session.plan(lengths(c, decode), {}, Device::cpu, nullptr);
  }
  static BatchLengths lengths(const Case& c, bool decode) {
    return {.qo_indptr = decode ? std::span<const std::int32_t>{} : c.qo_indptr, .paged_kv_indptr = c.paged_kv_indptr,
            .paged_kv_last_page_len = c.paged_kv_last_page_len};
  }
  Result run(bool natural = false) {
    GpuOutput out(rows, config);
    AttentionOutput to = out.view();
    if (natural) std::swap(to.lse_log2, to.lse_natural);
    const AttentionProblem& view = on_device.view();
    session.run({.q = view.q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = to, .sinks = {}}, nullptr);
    Result result = out.result(nullptr);
    CHECK(memory.guards_intact());
    return result;
  }
};

}  // namespace

TEST_CASE("lse comes as a natural logarithm on the GPU") {
  for (const bool decode : {true, false}) {
    for (const DType dtype : {DType::f16, DType::f32}) {
      if (decode && dtype == DType::f32) continue;
      // As prefill the first 5 of 9 queries see none of 4 keys. The long request is cut: its rows go through partials.
      const Case c = drawn(decode ? std::vector<std::int32_t>{1, 1, 1, 1} : std::vector<std::int32_t>{9, 0, 40, 70}, dtype);
      AttentionConfig config = config_of(c.spec, Device::gpu, DType::f32);
      config.execution.policy = SplitPolicy::fixed, config.execution.chunk_size = 256;
      Planned planned(c, config, decode);
      const Result base2 = planned.run(), natural = planned.run(true);
      CHECK(natural.o == base2.o);
      REQUIRE(natural.lse_log2.size() == base2.lse_log2.size());
      int wrong = 0, nothing = 0;
      for (std::size_t i = 0; i < base2.lse_log2.size(); ++i) {
        nothing += std::isinf(base2.lse_log2[i]);
        wrong += !(natural.lse_log2[i] == base2.lse_log2[i] * lse_natural_from_log2(1.0f));
      }
      CHECK(wrong == 0);
      CHECK(nothing == (decode ? 0 : 5 * 8));
    }
  }
}

// With chunks of a fixed size the items do not depend on the machine, and so the bits don't.
TEST_CASE("a limit of SMs makes a smaller grid and gives the same bits") {
  for (const bool decode : {true, false}) {
    const std::vector<std::int32_t> one{1, 1, 1, 1}, many{9, 0, 40, 700};
    const Case c = drawn(decode ? one : many, DType::f16);
    AttentionConfig config = config_of(c.spec, Device::gpu, DType::f16);
    config.execution.policy = SplitPolicy::fixed, config.execution.chunk_size = 64;
    Planned all(c, config, decode);
    const std::int32_t ctas = all.session.current_plan().num_ctas(), sms = gpu::multiprocessors();
    const Result wanted = all.run();
    for (const std::int32_t num_sms : {1, 3, 1 << 20}) {
      config.execution.num_sms = num_sms;
      Planned some(c, config, decode);
      CHECK(some.session.current_plan().num_ctas() == ctas / sms * std::min(num_sms, sms));
      CHECK(some.session.explain().ends_with("; on " + std::to_string(std::min(num_sms, sms)) + " SMs, as num_sms asks"));
      CHECK((some.run() == wanted));
    }
  }
}

TEST_CASE("a graph keeps to its limit of SMs") {
  const Case c = drawn({9, 0, 40, 700}, DType::f16);
  AttentionConfig config = config_of(c.spec, Device::gpu, DType::f16);
  config.execution.policy = SplitPolicy::fixed, config.execution.chunk_size = 64;
  const Result wanted = Planned(c, config, false).run();
  config.execution.num_sms = 2;
  const auto pages = static_cast<std::int64_t>(c.paged_kv_indices.size());
  const AttentionLimits limits{.max_batch = 4, .max_pages = pages, .max_nnz_qo = c.q.shape[0]};
  const gpu::DeviceProblem on_device(c.problem());
  AttentionSession session(config, {.decode = false, .graph = limits});
  GpuWorkspace memory(session.bytes_for(limits));
  session.attach(memory.view());
  const GpuStream stream;
  session.plan(Planned::lengths(c, false), c.paged_kv_indices, Device::cpu, stream);
  CHECK(session.current_plan().num_ctas() <= 2 * 4);  // of any kernel an SM holds at most four CTAs
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  const AttentionProblem& view = on_device.view();
  const GpuGraph graph(stream, [&] {
    session.run({.q = view.q, .kv = view.kv, .page_ids = {}, .output = out.view(), .sinks = {}}, stream);
  });
  for (int replay = 0; replay < 2; ++replay) graph.launch(stream);
  CHECK((out.result(stream) == wanted));
  CHECK(memory.guards_intact());
}
