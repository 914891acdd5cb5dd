// What only the GPU refuses: capturing streams, other streams, memory of the wrong kind, what D6 does not compute. And the
// single decode, and what a plan and a run cost on the host.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <random>

#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_gpu.hpp"
#include "tests/count_allocations.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::test;
using ladder::Case;
using ladder::CaseSpec;

namespace {

Case drawn(std::vector<std::int32_t> kv_lens, std::int32_t page_size = 16) {
  CaseSpec spec{.name = "gpu api", .seed = 2, .qo_lens = {}, .kv_lens = std::move(kv_lens), .page_size = page_size,
                .dtype = DType::f16};
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.08f};
  return draw_case(spec);
}

// A case on the GPU with a decode object for it and all its buffers.
struct Ready {
  Case c;
  AttentionConfig config;
  gpu::DeviceProblem on_device;
  GpuWorkspace memory;
  BatchDecodeWithPagedKVCache decode;
  Step step;

  explicit Ready(std::vector<std::int32_t> kv_lens)
      : c(drawn(std::move(kv_lens))), config(config_of(c.spec, Device::gpu, c.spec.dtype)), on_device(c.problem()),
        memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len)),
        decode(config, memory.view()), step(c, whole_batch(c), config) {}
  void plan(cudaStream_t stream) { decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len, stream); }
  void run(cudaStream_t stream) {
    decode.run(step.q_tensor(), on_device.view().kv, step.page_ids(), step.output.view(), stream);
  }
};

double median_us(const std::function<void()>& call) {
  std::vector<double> us;
  for (int i = 0; i < 201; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
    gpu::check(cudaDeviceSynchronize());
  }
  std::nth_element(us.begin(), us.begin() + 100, us.end());
  return us[100];
}

}  // namespace

TEST_CASE("a capturing stream refuses plans; a captured plan is not planned over") {
  Ready r({100, 0, 700});
  const GpuStream stream;
  r.plan(stream);
  const std::string captures = "stream = capturing: can't plan, which is host work";
  {
    const GpuGraph graph(stream, [&] {
      CHECK(refusal([&] { r.plan(stream); }).find(captures) == 0);
      const Tensor one = contiguous(r.step.q.data(), DType::f16, {32, 128});
      const Tensor none = contiguous(r.step.q.data(), DType::f16, {0, 8, 128});
      const auto single = [&] { single_decode_with_kv_cache(one, none, none, {one, {}}, {}, {Device::gpu, stream}); };
      CHECK(refusal(single).find(captures) == 0);
    });
  }
  r.run(stream);
  CHECK(refusal([&] { r.plan(stream); }) == "accepted");
  r.run(stream);
  const Result eager = r.step.output.result(stream);
  const GpuGraph graph(stream, [&] { r.run(stream); });
  r.step.output.poison(stream);
  graph.launch(stream);
  CHECK(r.step.output.result(stream) == eager);
  CHECK(refusal([&] { r.plan(stream); }).find("plan(): would change what a graph replays") == 0);
}

TEST_CASE("run() belongs to the stream of plan()") {
  Ready r({64});
  const GpuStream stream, other;
  r.plan(stream);
  CHECK(refusal([&] { r.run(other); }) == "stream: must be the one that plan() was called with, or be capturing");
  CHECK(refusal([&] { r.run(stream); }) == "accepted");
}

TEST_CASE("memory of the wrong kind and pointers that are not aligned") {
  Ready r({64, 900});
  const Workspace good = r.memory.view();
  std::vector<std::byte> host(std::max(good.device.size(), good.staging.size()));
  const auto made_with = [&](const Workspace& w) { return refusal([&] { BatchDecodeWithPagedKVCache(r.config, w); }); };
  CHECK(made_with(good) == "accepted");
  CHECK(made_with({host, good.staging}) == "workspace.device: must be device memory, as of cudaMalloc");
  CHECK(made_with({good.device, host}) == "workspace.staging: must be page-locked host memory, as of cudaMallocHost");
  CHECK(made_with({good.device.subspan(8), good.staging}) == "workspace.device: must be aligned to 16 bytes");
  for (const Workspace small : {Workspace{good.device.first(good.device.size() - 1), good.staging},
                                Workspace{good.device, good.staging.first(good.staging.size() - 1)}}) {
    BatchDecodeWithPagedKVCache decode(r.config, small);
    const std::string sentence = refusal([&] { decode.plan(r.c.paged_kv_indptr, r.c.paged_kv_last_page_len); });
    CHECK(sentence.find("for this: ask workspace_bytes()") != std::string::npos);
  }
  r.plan(nullptr);
  Tensor q = r.step.q_tensor();
  q.data = static_cast<std::byte*>(q.data) + 2;
  CHECK(refusal([&] { r.decode.run(q, r.on_device.view().kv, r.step.page_ids(), r.step.output.view()); }) ==
        "q: on the GPU its pointer and its strides must be multiples of 16 bytes");
  PagedKvCache kv = r.on_device.view().kv;
  kv.k_strides.entry += 1;
  const auto run_on_kv = [&] { r.decode.run(r.step.q_tensor(), kv, r.step.page_ids(), r.step.output.view()); };
  CHECK(refusal(run_on_kv).find("k_cache: on the GPU its pointer and its strides") == 0);
}

TEST_CASE("what D6 does not compute is refused when the object is made") {
  const AttentionConfig good = config_of(drawn({1}).spec, Device::gpu, DType::f16);
  const auto made = [&](auto change) {
    AttentionConfig config = good;
    change(config);
    return refusal([&] { BatchDecodeWithPagedKVCache::workspace_bytes(config, AttentionLimits{1, 1}); });
  };
  CHECK(made([](AttentionConfig&) {}) == "accepted");
  CHECK(made([](AttentionConfig& c) { c.cache.dtype = DType::f32, c.o_dtype = DType::f32; })
            .find("device = gpu: does not compute this, cpu does: dtype f32") == 0);
  CHECK(made([](AttentionConfig& c) { c.heads.head_dim_qk = c.heads.head_dim_vo = 80; })
            .find("head_dim 80") != std::string::npos);
  CHECK(made([](AttentionConfig& c) { c.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }) == "accepted");
  CHECK(made([](AttentionConfig& c) { c.logits.window_left = 5; }) == "accepted");
  CHECK(made([](AttentionConfig& c) { c.logits.pos_encoding_mode = PosEncodingMode::ALIBI; }) == "accepted");
}

TEST_CASE("a graph's plan beyond the limits is refused and the one before is replayed") {
  const Case c = drawn({300, 20});
  const AttentionConfig config = config_of(c.spec, Device::gpu, DType::f16);
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionLimits limits{2, static_cast<std::int64_t>(c.paged_kv_indices.size())};
  GpuWorkspace memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
  CUDAGraphBatchDecodeWithPagedKVCache decode(config, limits, memory.view());
  const GpuStream stream;
  Step step(c, whole_batch(c), config);
  decode.plan(c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len, stream);
  const GpuGraph graph(stream, [&] { decode.run(step.q_tensor(), on_device.view().kv, step.output.view(), stream); });
  graph.launch(stream);
  const Result before = step.output.result(stream);
  const std::vector<std::int32_t> indptr{0, 1, 1, 1}, last{1, 0, 0};
  const auto too_large = [&] { decode.plan(indptr, c.paged_kv_indices, last, stream); };
  CHECK(refusal(too_large).find("batch = 3: exceeds what was captured") == 0);
  step.output.poison(stream);
  graph.launch(stream);
  CHECK(step.output.result(stream) == before);
}

TEST_CASE("single_decode_with_kv_cache on the GPU equals the oracle") {
  const GpuStream stream;
  for (const std::int32_t kv_len : {0, 1, 63, 500, 9000}) {
    CAPTURE(kv_len);
    const Case c = drawn({kv_len}, std::max(kv_len, 1));
    const ladder::Oracle oracle = make_oracle(c, DType::f16);
    const gpu::DeviceProblem on_device(c.problem());
    const PagedKvCache& kv = on_device.view().kv;
    const std::int64_t page = kv_len > 0 ? c.paged_kv_indices[0] : 0;
    const auto sequence = [&](void* pool, const KvStrides& s) {
      Tensor t{.data = static_cast<Half*>(pool) + page * s.page, .dtype = DType::f16, .rank = 3};
      t.shape = {kv_len, 8, 128}, t.strides = {s.entry, s.head, 1};
      return t;
    };
    AttentionConfig config = config_of(c.spec, Device::gpu, DType::f32);
    const GpuOutput out(1, config);
    const AttentionOutput view = out.view();
    const Tensor q = contiguous(on_device.view().q.data, DType::f16, {32, 128});
    const Tensor o = contiguous(view.o.data, DType::f32, {32, 128});
    single_decode_with_kv_cache(q, sequence(kv.k, kv.k_strides), sequence(kv.v, kv.v_strides), {o, view.lse_log2},
                                {.logits = {.sm_scale = 0.08f}}, {Device::gpu, stream});
    const Result got = out.result(stream);
    const auto comparison = compare(c, got.floats(), got.lse_log2, oracle);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
  }
}

TEST_CASE("plan and run allocate nothing on the host, and take microseconds") {
  std::mt19937 random(1);
  std::lognormal_distribution<double> lengths(7.6, 1.0);
  std::vector<std::int32_t> kv_lens;
  for (int b = 0; b < 64; ++b) kv_lens.push_back(static_cast<std::int32_t>(std::min(lengths(random), 20000.0)));
  Ready r(kv_lens);
  const GpuStream stream;
  r.plan(stream), r.run(stream);
  const std::size_t before = allocations;
  r.plan(stream), r.run(stream);
  CHECK(allocations == before);
  MESSAGE("host time of plan(), 64 requests, 32/8 heads: ", median_us([&] { r.plan(stream); }), " us");
  MESSAGE("host time of run(): ", median_us([&] { r.run(stream); }), " us");
}
