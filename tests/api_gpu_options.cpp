// Options of the public classes on the GPU: lse as a natural logarithm, a limit of SMs, single queries in a prefill.
#include <doctest/doctest.h>

#include <cmath>

#include "api/attention_session.hpp"
#include "gpu/decode/decode.hpp"
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
    session.run({.q = view.q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = to, .sinks = view.sinks,
                 .custom_mask = view.custom_mask}, nullptr);
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

namespace {

// Four requests of one query each, and what D6 computes beside plain attention.
std::vector<Case> single_query_cases() {
  std::vector<Case> cases;
  for (int feature = 0; feature < 6; ++feature) {
    CaseSpec spec{.name = "single queries", .seed = 5, .qo_lens = {1, 1, 1, 1}, .kv_lens = {0, 77, 3000, 1},
                  .dtype = feature % 2 ? DType::bf16 : DType::f16};
    spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.09f,
                   .mask = MaskMode::causal};
    if (feature == 1) spec.params.window_left = 100;
    if (feature == 2) spec.params.logits_soft_cap = 20;
    if (feature == 3) spec.params.pos_encoding_mode = PosEncodingMode::ALIBI;
    if (feature == 4) spec.params.mask = MaskMode::custom, spec.custom_mask = CustomMask::random;
    if (feature == 5) spec.params.sinks = true;
    cases.push_back(draw_case(spec));
  }
  return cases;
}

}  // namespace

TEST_CASE("a prefill of single queries gives the bits of a decode") {
  for (const Case& c : single_query_cases()) {
    for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::count}) {
      AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
      config.execution.policy = policy;
      Planned decode(c, config, true), prefill(c, config, false);
      CHECK(prefill.session.explain().starts_with("D6, as for decode"));
      CHECK((prefill.run() == decode.run()));
      CHECK(prefill.run(true).lse_log2 == decode.run(true).lse_log2);
    }
  }
}

TEST_CASE("a request without a query has no work beside single queries, and a second query changes the kernel where decode's takes one") {
  const Case c = single_query_cases()[0];  // the first request has no keys: a decode of the others is the same work
  const AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionProblem& view = on_device.view();
  ConstTensor q = view.q;  // of the last three
  q.data = static_cast<const std::byte*>(view.q.data) + c.q.bytes.size() / 4;
  q.shape[0] = 3;
  const std::span<const std::int32_t> indptr = c.paged_kv_indptr, last = c.paged_kv_last_page_len;
  const std::vector<std::int32_t> without_first{0, 0, 1, 2, 3}, two_of_one{0, 0, 2, 3, 4};
  const auto run = [&](AttentionSession& session, const BatchLengths& lengths) {
    session.plan(lengths, {}, Device::cpu, nullptr);
    GpuOutput out(3, config);
    session.run({.q = q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = out.view(), .sinks = {}}, nullptr);
    return out.result(nullptr);
  };
  const auto pages = static_cast<std::int64_t>(c.paged_kv_indices.size());
  AttentionSession decode(config, {.decode = true}), prefill(config, {.decode = false});
  // Memory that is enough for any batch within limits, whichever kernel computes it.
  GpuWorkspace memory(prefill.bytes_for(AttentionLimits{.max_batch = 4, .max_pages = pages, .max_nnz_qo = 4}));
  GpuWorkspace decode_memory(decode.bytes_for(AttentionLimits{.max_batch = 3, .max_pages = pages}));
  prefill.attach(memory.view());
  decode.attach(decode_memory.view());
  BatchLengths lengths{.qo_indptr = without_first, .paged_kv_indptr = indptr, .paged_kv_last_page_len = last};
  const Result some = run(prefill, lengths);
  CHECK(prefill.explain().starts_with("D6, as for decode"));
  CHECK((some == run(decode, {.paged_kv_indptr = indptr.subspan(1), .paged_kv_last_page_len = last.subspan(1)})));
  lengths.qo_indptr = two_of_one;
  prefill.plan(lengths, {}, Device::cpu, nullptr);
  CHECK(prefill.explain().starts_with("D6") == (gpu::d6::most_queries(config.params()) > 1));
  CHECK(memory.guards_intact());
}

TEST_CASE("a graph whose limits allow one query a request replays decode's bits") {
  for (const Case& c : single_query_cases()) {
    const AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
    const Result wanted = Planned(c, config, true).run();
    const auto pages = static_cast<std::int64_t>(c.paged_kv_indices.size());
    const AttentionLimits limits{.max_batch = 4, .max_pages = pages, .max_nnz_qo = 4, .max_qo_len = 1};
    AttentionSession session(config, {.decode = false, .graph = limits});
    CHECK(session.explain().starts_with("D6, as for decode"));
    GpuWorkspace memory(session.bytes_for(limits));
    session.attach(memory.view());
    const gpu::DeviceProblem on_device(c.problem());
    const AttentionProblem& view = on_device.view();
    const GpuStream stream;
    session.plan(Planned::lengths(c, false), c.paged_kv_indices, Device::cpu, stream);
    GpuOutput out(4, config);
    const GpuGraph graph(stream, [&] {
      session.run({.q = view.q, .kv = view.kv, .page_ids = {}, .output = out.view(), .sinks = view.sinks,
                   .custom_mask = view.custom_mask}, stream);
    });
    for (int replay = 0; replay < 2; ++replay) graph.launch(stream);
    CHECK((out.result(stream) == wanted));
    CHECK(memory.guards_intact());
  }
}
