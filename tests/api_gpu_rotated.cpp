// RoPE inside attention on the GPU's fast prefill kernels, which compute on copies of q and K that are rotated first: the same
// bits as apply_rope and then attention, by every class.
#include <doctest/doctest.h>

#include "api/attention_session.hpp"
#include "api/batch_prefill.hpp"
#include "api/operations.hpp"
#include "api/single_attention.hpp"
#include "gpu/device.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"
#include "tests/ragged_case.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

std::vector<Backend> backends() {
  std::vector<Backend> all{Backend::fa2};
  if (gpu::why_no_hopper().empty()) all.push_back(Backend::fa3);
  return all;
}

// A case with RoPE on the device, by pages and as a ragged cache; and its q and K rotated by the operation.
class RopeCase {
 public:
  RopeCase(std::int32_t head_dim, std::int32_t page_size, std::uint64_t seed)
      : c(draw_case(spec_of(head_dim, page_size, seed))), tokens_(c.problem()), on_device_(c.problem()),
        k_(tokens_.k.data(), tokens_.k.size() * sizeof(Half)), v_(tokens_.v.data(), tokens_.v.size() * sizeof(Half)),
        rotated_q_(c.q.bytes.data(), c.q.bytes.size()), rotated_k_(tokens_.k.data(), tokens_.k.size() * sizeof(Half)) {
    std::vector<std::int32_t> of_q, of_k;
    for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
      const std::int32_t qo_len = c.spec.qo_lens[b], kv_len = c.spec.kv_lens[b];
      for (std::int32_t i = 0; i < qo_len; ++i) of_q.push_back(kv_len - qo_len + i);
      for (std::int32_t j = 0; j < kv_len; ++j) of_k.push_back(j);
    }
    const AttentionParams& p = c.spec.params;
    const RopeOptions options{.rope_scale = p.rope_scale, .rope_theta = p.rope_theta};
    const auto rotate = [&](void* data, std::int32_t heads, const std::vector<std::int32_t>& positions) {
      const gpu::DeviceBuffer at(positions.data(), positions.size() * sizeof(std::int32_t));
      const std::vector<Half> zeros(positions.size() * static_cast<std::size_t>(p.head_dim_qk));
      const gpu::DeviceBuffer other(zeros.data(), zeros.size() * sizeof(Half));
      const auto n = static_cast<std::int64_t>(positions.size());
      apply_rope_pos_ids_inplace(contiguous(data, DType::f16, {n, heads, p.head_dim_qk}),
                                 contiguous(other.data(), DType::f16, {n, 1, p.head_dim_qk}),
                                 {at.as<std::int32_t>(), positions.size()}, options, {Device::gpu});
      gpu::check(cudaDeviceSynchronize());
    };
    rotate(rotated_q_.data(), p.num_qo_heads, of_q);
    rotate(rotated_k_.data(), p.num_kv_heads, of_k);
  }

  AttentionConfig config(Backend backend, PosEncodingMode pos = PosEncodingMode::ROPE_LLAMA) const {
    AttentionConfig config = config_of(c.spec, Device::gpu, DType::f16);
    config.logits.pos_encoding_mode = pos;
    config.execution.backend = backend;
    config.execution.policy = SplitPolicy::fixed, config.execution.chunk_size = 128;
    return config;
  }

  // By pages, in `session`, which has been planned.
  Result run(AttentionSession& session, const AttentionConfig& config) const {
    GpuOutput out(rows(), config);
    const AttentionProblem& view = on_device_.view();
    session.run({.q = view.q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = out.view(), .sinks = {}}, nullptr);
    return out.result(nullptr);
  }
  BatchLengths lengths() const {
    return {.qo_indptr = c.qo_indptr, .paged_kv_indptr = c.paged_kv_indptr,
            .paged_kv_last_page_len = c.paged_kv_last_page_len};
  }

  // As a ragged cache: with RoPE inside attention, or on what was rotated.
  Result ragged(AttentionConfig config) const {
    const bool rotated = config.logits.pos_encoding_mode == PosEncodingMode::NONE;
    config.cache.page_size = 1;
    const GpuWorkspace memory(BatchPrefillWithRaggedKVCache::workspace_bytes(config, c.qo_indptr, tokens_.kv_indptr));
    BatchPrefillWithRaggedKVCache prefill(config, memory.view());
    prefill.plan(c.qo_indptr, tokens_.kv_indptr);
    GpuOutput out(rows(), config);
    const AttentionParams& p = c.spec.params;
    const std::int64_t n = tokens_.kv_indptr.back();
    prefill.run(contiguous(rotated ? rotated_q_.data() : static_cast<std::byte*>(on_device_.view().q.data), DType::f16,
                           {rows(), p.num_qo_heads, p.head_dim_qk}),
                contiguous((rotated ? rotated_k_ : k_).data(), DType::f16, {n, p.num_kv_heads, p.head_dim_qk}),
                contiguous(v_.data(), DType::f16, {n, p.num_kv_heads, p.head_dim_vo}), out.view());
    const Result result = out.result(nullptr);
    CHECK(memory.guards_intact());
    std::vector<Half> k(tokens_.k.size());
    k_.download(k.data());
    CHECK(std::memcmp(k.data(), tokens_.k.data(), k.size() * sizeof(Half)) == 0);  // what was given keeps its bits
    std::vector<std::byte> q(c.q.bytes.size());
    gpu::check(cudaMemcpy(q.data(), on_device_.view().q.data, q.size(), cudaMemcpyDeviceToHost));
    CHECK(q == c.q.bytes);
    return result;
  }

  const Case c;

 private:
  static CaseSpec spec_of(std::int32_t head_dim, std::int32_t page_size, std::uint64_t seed) {
    CaseSpec spec{.name = "rope", .seed = seed, .qo_lens = {5, 130, 0, 64, 1}, .kv_lens = {5, 431, 7, 64, 300},
                  .page_size = page_size, .dtype = DType::f16};
    spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = head_dim,
                   .head_dim_vo = head_dim == 192 ? 128 : head_dim, .mask = MaskMode::causal,
                   .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, .rope_scale = 2, .rope_theta = 500000};
    return spec;
  }
  std::int32_t rows() const { return static_cast<std::int32_t>(c.q.shape[0]); }

  RaggedCase tokens_;
  gpu::DeviceProblem on_device_;
  gpu::DeviceBuffer k_, v_, rotated_q_, rotated_k_;
};

}  // namespace

TEST_CASE("RoPE inside attention on the GPU: the bits of RoPE and then attention, ragged and by pages of any size") {
  for (const std::int32_t head_dim : {64, 128, 192, 256}) {
    for (const std::int32_t page_size : {1, 3, 16}) {
      const RopeCase rope(head_dim, page_size, 7);
      for (const Backend backend : backends()) {
        INFO("head_dim ", head_dim, " page_size ", page_size, " backend ", name_of(backend));
        const AttentionConfig config = rope.config(backend);
        const Result wanted = rope.ragged(rope.config(backend, PosEncodingMode::NONE));
        CHECK((rope.ragged(config) == wanted));
        AttentionSession session(config, {.decode = false});
        const WorkspaceBytes bytes = session.bytes_for(rope.lengths());
        CHECK(bytes.device == bytes.least_device);
        const GpuWorkspace memory(bytes);
        session.attach(memory.view());
        session.plan(rope.lengths(), {}, Device::cpu, nullptr);
        CHECK(session.explain().find("copies of q and K that are rotated first") != std::string::npos);
        CHECK((rope.run(session, config) == wanted));
        CHECK(memory.guards_intact());
      }
    }
  }
}

TEST_CASE("RoPE inside attention on the GPU: the next layer does not overwrite the copy that the last one reads") {
  const RopeCase first(128, 16, 7), second(128, 16, 8);
  for (const Backend backend : backends()) {
    AttentionConfig config = first.config(backend);
    config.execution.enable_pdl = true;
    AttentionSession session(config, {.decode = false});
    const GpuWorkspace memory(session.bytes_for(first.lengths()));
    session.attach(memory.view());
    session.plan(first.lengths(), {}, Device::cpu, nullptr);
    const Result alone[] = {first.run(session, config), second.run(session, config)};
    const gpu::DeviceProblem problems[] = {gpu::DeviceProblem(first.c.problem()), gpu::DeviceProblem(second.c.problem())};
    std::vector<GpuOutput> outputs;
    for (int i = 0; i < 6; ++i) outputs.emplace_back(static_cast<std::int32_t>(first.c.q.shape[0]), config);
    for (int i = 0; i < 6; ++i) {
      const AttentionProblem& view = problems[i % 2].view();
      session.run({.q = view.q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = outputs[i].view(), .sinks = {}},
                  nullptr);
    }
    for (int i = 0; i < 6; ++i) CHECK((outputs[i].result(nullptr) == alone[i % 2]));
  }
}

TEST_CASE("RoPE inside attention on the GPU: a workspace without room for the copy is refused, and so is f32 by fa2") {
  const RopeCase rope(128, 16, 7);
  AttentionSession session(rope.config(Backend::fa2), {.decode = false});
  WorkspaceBytes bytes = session.bytes_for(rope.lengths());
  bytes.device -= 1;
  const GpuWorkspace memory(bytes);
  session.attach(memory.view());
  CHECK_THROWS_WITH_AS(session.plan(rope.lengths(), {}, Device::cpu, nullptr),
                       doctest::Contains("with the copy of K and V that it computes on"), InputError);
  AttentionConfig f32 = rope.config(Backend::fa2);
  f32.cache.dtype = DType::f32, f32.o_dtype = DType::f32;
  CHECK_THROWS_WITH_AS(AttentionSession(f32, {.decode = false}), doctest::Contains("neither f16 nor bf16"), InputError);
}

TEST_CASE("single_prefill_with_kv_cache with RoPE on the GPU equals the oracle") {
  for (const MaskMode mask : {MaskMode::causal, MaskMode::none}) {  // without: also queries that stand before key 0
    for (const auto& [qo_len, kv_len] : {std::pair{128, 700}, std::pair{90, 30}, std::pair{1, 40}, std::pair{3, 0}}) {
      CaseSpec spec{.name = "single", .seed = 3, .qo_lens = {qo_len}, .kv_lens = {kv_len}, .page_size = 1,
                    .dtype = DType::f16};
      spec.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = mask,
                     .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA};
      const Case c = draw_case(spec);
      INFO("mask ", name_of(mask), " qo_len ", qo_len, " kv_len ", kv_len);
      const RaggedCase tokens(c.problem());
      const gpu::DeviceProblem on_device(c.problem());
      const gpu::DeviceBuffer k(tokens.k.data(), tokens.k.size() * sizeof(Half));
      const gpu::DeviceBuffer v(tokens.v.data(), tokens.v.size() * sizeof(Half));
      GpuOutput out(qo_len, config_of(c.spec, Device::gpu, DType::f32));
      single_prefill_with_kv_cache(on_device.view().q, contiguous(k.data(), DType::f16, {kv_len, 2, 128}),
                                   contiguous(v.data(), DType::f16, {kv_len, 2, 128}), out.view(),
                                   {.logits = config_of(c.spec, Device::gpu, DType::f32).logits}, {Device::gpu});
      const Oracle oracle = make_oracle(c, rung("P5").rounding(spec));
      const Result result = out.result(nullptr);
      const Comparison comparison = compare(c, result.floats(), result.lse_log2, oracle);
      CHECK_MESSAGE(comparison.ok(), comparison.message());
    }
  }
}
