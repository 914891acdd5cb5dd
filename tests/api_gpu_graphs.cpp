// Cascades and ragged keys in graphs on the GPU: captured once, planned again for each batch, replayed. Each replay has the
// bits of an object that has planned nothing else, is right by the oracle, and leaves alone what is not the batch's.
#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "gpu/device.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"
#include "tests/cascade_case.hpp"
#include "tests/gpu_cases.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

using CascadeGraph = CUDAGraphMultiLevelCascadeAttention;
using RaggedGraph = CUDAGraphBatchPrefillWithRaggedKVCache;

// Any of these kernels may compute, so each row may err as the one that rounds most.
Rounding any_rounding(const CaseSpec& spec) {
  Rounding most;
  for (const char* name : {"D6", "P1", "P5", "P11"}) most = std::max(most, rung(name).rounding(spec));
  return most;
}

// Are the rows behind the first `used` as GpuOutput has poisoned them?
bool untouched_behind(const Result& result, std::int64_t used, std::int64_t rows) {
  const auto ff = [](const auto* begin, const auto* end) {
    const auto bytes = std::as_bytes(std::span(begin, end));
    return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0xff}; });
  };
  const std::size_t o = result.o.size() / static_cast<std::size_t>(rows) * static_cast<std::size_t>(used);
  const std::size_t lse = result.lse_log2.size() / static_cast<std::size_t>(rows) * static_cast<std::size_t>(used);
  return ff(result.o.data() + o, result.o.data() + result.o.size()) &&
         ff(result.lse_log2.data() + lse, result.lse_log2.data() + result.lse_log2.size());
}

// Some requests of a cascade, in their order, on its pages. All groups stay, some without rows; or those with rows alone.
struct ChosenRows {
  std::vector<CascadeCase::Level> levels;
  std::vector<std::int32_t> rows;  // of the whole case

  ChosenRows(const CascadeCase& given, const std::vector<std::int32_t>& requests, bool drop_groups) {
    const Case& c = given.c;
    for (const std::int32_t r : requests) {
      for (std::int32_t row = c.qo_indptr[r]; row < c.qo_indptr[r + 1]; ++row) rows.push_back(row);
    }
    for (const CascadeCase::Level& level : given.levels) {
      CascadeCase::Level chosen;
      for (std::size_t g = 0; g < level.paged_kv_last_page_len.size(); ++g) {
        const auto end = static_cast<std::int32_t>(std::ranges::lower_bound(rows, level.qo_indptr[g + 1]) - rows.begin());
        if (drop_groups && end == chosen.qo_indptr.back()) continue;
        const std::span ids(level.paged_kv_indices);
        chosen.add(end, ids.subspan(level.paged_kv_indptr[g], level.paged_kv_indptr[g + 1] - level.paged_kv_indptr[g]),
                   level.paged_kv_last_page_len[g]);
      }
      levels.push_back(std::move(chosen));
    }
  }
  std::vector<CascadeLevel> lengths() const { return {levels.begin(), levels.end()}; }
};

// One object on memory of its own, with q for all rows.
class CascadeOnGpu {
 public:
  CascadeOnGpu(const CascadeCase& given, const AttentionConfig& config)
      : given_(given), problem_(given.c.problem()), memory_(CascadeGraph::workspace_bytes(config, given.limits())),
        cascade_(config, given.limits(), memory_.view()), q_(given.c.q.bytes.size()), output_(rows(), config) {}

  // ids_on: where the page ids lie that plan() is given.
  void plan(const ChosenRows& batch, Device ids_on) {
    const std::size_t row = given_.c.q.bytes.size() / static_cast<std::size_t>(rows());
    std::vector<std::byte> q(given_.c.q.bytes.size(), std::byte{0xff});
    for (std::size_t i = 0; i < batch.rows.size(); ++i) {
      std::memcpy(q.data() + i * row, given_.c.q.bytes.data() + static_cast<std::size_t>(batch.rows[i]) * row, row);
    }
    gpu::check(cudaMemcpyAsync(q_.data(), q.data(), q.size(), cudaMemcpyHostToDevice, stream_));
    std::vector<gpu::DeviceBuffer> there;
    std::vector<std::span<const std::int32_t>> ids;
    for (const CascadeCase::Level& level : batch.levels) {
      ids.push_back(level.paged_kv_indices);
      if (ids_on == Device::cpu) continue;
      there.emplace_back(ids.back().data(), ids.back().size_bytes());
      ids.back() = {there.back().as<std::int32_t>(), ids.back().size()};
    }
    cascade_.plan(batch.lengths(), ids, stream_, ids_on);
    gpu::check(cudaStreamSynchronize(stream_));  // page ids on the device, and q's copy, are this function's
    output_.poison(stream_);
  }
  void run() {
    const Case& c = given_.c;
    cascade_.run(contiguous(q_.data(), c.spec.dtype, {rows(), c.q.shape[1], c.q.shape[2]}), problem_.view().kv,
                 output_.view(), stream_, problem_.view().sinks);
  }
  void capture() { graph_.emplace(stream_, [&] { run(); }); }
  void replay() { graph_->launch(stream_); }
  Result result() const {
    CHECK(memory_.guards_intact());
    return output_.result(stream_);
  }

 private:
  std::int32_t rows() const { return static_cast<std::int32_t>(given_.c.q.shape[0]); }
  const CascadeCase& given_;
  gpu::DeviceProblem problem_;
  GpuWorkspace memory_;
  CascadeGraph cascade_;
  gpu::DeviceBuffer q_;
  GpuOutput output_;
  GpuStream stream_;
  std::optional<GpuGraph> graph_;
};

CaseSpec cascade_spec_for_gpu() {
  CaseSpec spec = cascade_spec(16, DType::f16);
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.09f,
                 .mask = MaskMode::causal, .sinks = true};
  spec.kv_lens[3] = 1;  // else all that the request has is a prefix, which may be empty
  return spec;
}

}  // namespace

TEST_CASE("a captured cascade for graphs replays every batch that is planned within its limits") {
  for (const auto& shared : {two_levels(), three_levels()}) {
    const CascadeCase given(cascade_spec_for_gpu(), shared);
    const std::int64_t rows = given.c.q.shape[0];
    const Oracle oracle = make_oracle(given.c, any_rounding(given.c.spec));
    for (const bool enable_pdl : {false, true}) {
      AttentionConfig config = config_of(given.c.spec, Device::gpu, DType::f32);
      config.execution.enable_pdl = enable_pdl;
      CascadeOnGpu replayed(given, config);
      const ChosenRows whole(given, {0, 1, 2, 3, 4, 5, 6}, false);
      replayed.plan(ChosenRows(given, {2, 5}, true), Device::cpu);
      replayed.run();
      replayed.capture();
      replayed.plan(whole, Device::cpu);
      replayed.replay();
      const Result all = replayed.result();
      const Comparison comparison = compare(given.c, all.floats(), all.lse_log2, oracle);
      CHECK_MESSAGE(comparison.ok(), comparison.message());
      const std::vector<std::int32_t> choices[] = {{1, 3, 6}, {}, {0, 1, 2, 5}, {4}, {6}, {0, 1, 2, 3, 4, 5, 6}, {5}};
      for (std::size_t i = 0; i < std::size(choices); ++i) {
        INFO("choice ", i, ", ", given.levels.size(), " levels, enable_pdl ", enable_pdl);
        const ChosenRows batch(given, choices[i], i % 2 == 0);
        const Device ids_on = i % 3 == 0 ? Device::gpu : Device::cpu;
        replayed.plan(batch, ids_on);
        for (int replay = 0; replay < 2; ++replay) replayed.replay();
        const Result got = replayed.result();
        CascadeOnGpu fresh(given, config);
        fresh.plan(batch, Device::cpu);
        fresh.run();
        CHECK((got == fresh.result()));
        const auto used = static_cast<std::int64_t>(batch.rows.size());
        CHECK(untouched_behind(got, used, rows));
        // The batch's rows in the places that they have in the whole case.
        const std::vector<float> of_batch = got.floats();
        std::vector<float> o = all.floats(), lse = all.lse_log2;
        const std::size_t row = o.size() / static_cast<std::size_t>(rows), heads = lse.size() / static_cast<std::size_t>(rows);
        for (std::size_t r = 0; r < batch.rows.size(); ++r) {
          const auto to = static_cast<std::size_t>(batch.rows[r]);
          std::copy_n(of_batch.begin() + r * row, row, o.begin() + to * row);
          std::copy_n(got.lse_log2.begin() + r * heads, heads, lse.begin() + to * heads);
        }
        const Comparison of_rows = compare(given.c, o, lse, oracle);
        CHECK_MESSAGE(of_rows.ok(), of_rows.message());
      }
    }
  }
}

TEST_CASE("a captured cascade for graphs replays the plan before one that is refused") {
  const CascadeCase given(cascade_spec_for_gpu(), two_levels());
  CascadeOnGpu replayed(given, config_of(given.c.spec, Device::gpu, DType::f32));
  const ChosenRows whole(given, {0, 1, 2, 3, 4, 5, 6}, false);
  replayed.plan(whole, Device::cpu);
  replayed.capture();
  replayed.replay();
  const Result want = replayed.result();
  ChosenRows wrong(given, {0, 1, 2, 3, 4, 5, 6}, false);
  wrong.levels[0].paged_kv_indices.assign(wrong.levels[0].paged_kv_indices.size(), 0);  // other keys of level 0
  wrong.levels[1].paged_kv_last_page_len[0] = 99;
  CHECK_THROWS_WITH_AS(replayed.plan(wrong, Device::cpu), doctest::Contains("levels[1].paged_kv_last_page_len[0] = 99"),
                       InputError);
  replayed.replay();
  CHECK((replayed.result() == want));
}

TEST_CASE("ragged keys in a captured graph are planned again for each batch") {
  constexpr std::int32_t rows = 400, tokens = 3000;
  const AttentionLimits limits{.max_batch = 5, .max_pages = tokens, .max_nnz_qo = rows};
  CaseSpec spec{.name = "ragged graph", .seed = 4, .qo_lens = {}, .kv_lens = {}, .page_size = 1, .dtype = DType::f16};
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.09f,
                 .mask = MaskMode::causal};
  spec.kv_layout = KvLayout::NHD, spec.combined_cache = false;
  const std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>> lens[] = {
      {{300, 1, 0, 64, 33}, {2000, 129, 5, 64, 800}}, {{7}, {3}}, {{1, 1, 70}, {0, 2900, 70}}, {{0, 0}, {9, 0}},
      {{129, 0, 3, 1}, {900, 0, 1, 64}}};
  std::vector<Backend> backends{Backend::automatic, Backend::fa2};
  if (gpu::why_no_hopper().empty()) backends.push_back(Backend::fa3);
  for (const Backend backend : backends) {
    AttentionConfig config = config_of(spec, Device::gpu, DType::f32);
    config.execution.backend = backend;
    const std::size_t q_row = 8 * 128 * 2, kv_row = 2 * 128 * 2;
    gpu::DeviceBuffer q(rows * q_row), k(tokens * kv_row), v(tokens * kv_row);
    const Tensor tq = contiguous(q.data(), DType::f16, {rows, 8, 128});
    const Tensor tk = contiguous(k.data(), DType::f16, {tokens, 2, 128});
    const Tensor tv = contiguous(v.data(), DType::f16, {tokens, 2, 128});
    const WorkspaceBytes bytes = RaggedGraph::workspace_bytes(config, limits);
    GpuWorkspace memory(bytes), fresh_memory(bytes);
    RaggedGraph graphed(config, limits, memory.view());
    GpuOutput out(rows, config);
    const GpuStream stream;
    std::optional<GpuGraph> graph;
    for (const std::size_t b : {1, 0, 2, 3, 4, 0, 1}) {
      INFO("batch ", b, ", backend ", name_of(backend));
      spec.qo_lens = lens[b].first, spec.kv_lens = lens[b].second;
      const Case c = draw_case(spec);
      const AttentionProblem problem = c.problem();
      std::vector<std::byte> rows_of_k, rows_of_v;  // token by token
      std::vector<std::int32_t> kv_indptr{0};
      for (std::size_t r = 0; r < spec.kv_lens.size(); ++r) {
        kv_indptr.push_back(kv_indptr.back() + spec.kv_lens[r]);
        for (std::int32_t t = 0; t < spec.kv_lens[r]; ++t) {
          const std::int64_t page = c.paged_kv_indices[c.paged_kv_indptr[r] + t];
          const auto* from_k = static_cast<const std::byte*>(problem.kv.k) + page * problem.kv.k_strides.page * 2;
          const auto* from_v = static_cast<const std::byte*>(problem.kv.v) + page * problem.kv.v_strides.page * 2;
          rows_of_k.insert(rows_of_k.end(), from_k, from_k + kv_row);
          rows_of_v.insert(rows_of_v.end(), from_v, from_v + kv_row);
        }
      }
      for (gpu::DeviceBuffer* buffer : {&q, &k, &v}) buffer->poison();
      q.upload(c.q.bytes.data(), c.q.bytes.size());
      k.upload(rows_of_k.data(), rows_of_k.size());
      v.upload(rows_of_v.data(), rows_of_v.size());
      graphed.plan(c.qo_indptr, kv_indptr, stream);
      if (!graph) graph.emplace(stream, [&] { graphed.run(tq, tk, tv, out.view(), stream); });
      out.poison(stream);
      for (int replay = 0; replay < 2; ++replay) graph->launch(stream);
      const Result got = out.result(stream);
      RaggedGraph fresh(config, limits, fresh_memory.view());
      GpuOutput fresh_out(rows, config);
      fresh.plan(c.qo_indptr, kv_indptr, stream);
      fresh.run(tq, tk, tv, fresh_out.view(), stream);
      CHECK((got == fresh_out.result(stream)));
      CHECK(untouched_behind(got, c.q.shape[0], rows));
      CHECK((memory.guards_intact() && fresh_memory.guards_intact()));
      if (c.q.shape[0] == 0) continue;
      std::vector<float> o = got.floats(), lse = got.lse_log2;
      o.resize(static_cast<std::size_t>(c.q.shape[0]) * 8 * 128), lse.resize(static_cast<std::size_t>(c.q.shape[0]) * 8);
      const Comparison comparison = compare(c, o, lse, make_oracle(c, any_rounding(spec)));
      CHECK_MESSAGE(comparison.ok(), comparison.message());
    }
  }
}
