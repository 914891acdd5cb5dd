// Ragged keys in graphs, on the CPU, where a replay is another run(): batches within limits, planned again and again in one
// memory, on k and v that stay where they are.
#include <doctest/doctest.h>

#include "ladder/oracle.hpp"
#include "tests/graph_rows.hpp"
#include "tests/packed_mask.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

using RaggedGraph = CUDAGraphBatchPrefillWithRaggedKVCache;
constexpr AttentionLimits ragged_limits{.max_batch = 5, .max_pages = 700, .max_nnz_qo = 80};

// A batch's tokens, as its plan and its tensors have them.
struct Ragged {
  Case c;
  AttentionConfig config;
  std::vector<std::int32_t> kv_indptr{0};
  std::vector<std::uint8_t> bits;

  explicit Ragged(const CaseSpec& spec) : c(draw_case(spec)), config(prefill_config(c, DType::f32)) {
    config.cache.page_size = 1;
    for (const std::int32_t len : spec.kv_lens) kv_indptr.push_back(kv_indptr.back() + len);
    if (!c.custom_mask.empty()) bits = packed_mask(c.custom_mask, spec.qo_lens, spec.kv_lens);
  }
  Tokens k() const { return {c, c.problem().kv.k, c.problem().kv.k_strides, c.spec.params.head_dim_qk}; }
  Tokens v() const { return {c, c.problem().kv.v, c.problem().kv.v_strides, c.spec.params.head_dim_vo}; }
};

// The graph's k, v and q: memory that never moves, of which a batch fills the first rows. NaN behind them.
class Replayed {
 public:
  explicit Replayed(const Ragged& first)
      : memory_(RaggedGraph::workspace_bytes(first.config, ragged_limits)),
        graph_(first.config, ragged_limits, memory_.view()),
        q_(first.c.q.view(), *ragged_limits.max_nnz_qo), k_(first.k().tensor(), ragged_limits.max_pages),
        v_(first.v().tensor(), ragged_limits.max_pages) {}

  Result operator()(const Ragged& batch, bool packed = false) {
    Tokens k = batch.k(), v = batch.v();
    fill(q_, batch.c.q.view()), fill(k_, k.tensor()), fill(v_, v.tensor());
    graph_.plan(batch.c.qo_indptr, batch.kv_indptr);
    return written_first(batch.c, DType::f32, *ragged_limits.max_nnz_qo, [&](const AttentionOutput& out) {
      for (int replay = 0; replay < 2; ++replay) {
        graph_.run(q_.tensor, k_.tensor, v_.tensor, out, nullptr, batch.c.sinks,
                   packed ? std::span<const std::uint8_t>{} : batch.c.custom_mask, {},
                   packed ? batch.bits : std::span<const std::uint8_t>{});
      }
    });
  }

 private:
  static void fill(GraphRows& to, const Tensor& from) {
    std::fill(to.bytes.begin(), to.bytes.end(), std::byte{0xff});
    const auto bytes = static_cast<std::size_t>(from.size()) * size_of(from.dtype);
    if (bytes > 0) std::memcpy(to.bytes.data(), from.data, bytes);
  }
  Memory memory_;
  RaggedGraph graph_;
  GraphRows q_, k_, v_;
};

Result eager(const Ragged& batch) {
  using Eager = BatchPrefillWithRaggedKVCache;
  Memory memory(Eager::workspace_bytes(batch.config, batch.c.qo_indptr, batch.kv_indptr));
  Eager prefill(batch.config, memory.view());
  prefill.plan(batch.c.qo_indptr, batch.kv_indptr);
  Tokens k = batch.k(), v = batch.v();
  return written(batch.c, DType::f32, [&](const AttentionOutput& out) {
    prefill.run(batch.c.q.view(), k.tensor(), v.tensor(), out, nullptr, batch.c.sinks, batch.c.custom_mask);
  });
}

// The largest, smaller ones, requests without queries and without keys, more queries than keys, and no rows at all.
std::vector<Ragged> batches_of(const CaseSpec& params) {
  const std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>> lens[] = {
      {{40, 1, 0, 30, 9}, {300, 129, 5, 33, 200}}, {{7}, {3}}, {{1, 1, 70}, {0, 600, 70}}, {{0, 0}, {9, 0}},
      {{5, 0, 3, 1}, {90, 0, 1, 64}}};
  std::vector<Ragged> batches;
  for (const auto& [qo_lens, kv_lens] : lens) {
    CaseSpec spec = params;
    spec.seed += batches.size(), spec.qo_lens = qo_lens, spec.kv_lens = kv_lens;
    batches.emplace_back(spec);
    batches.back().config = batches.front().config;
  }
  return batches;
}

CaseSpec spec_of(MaskMode mask, DType dtype = DType::f16) {
  CaseSpec spec{.name = "ragged graph", .seed = 3, .qo_lens = {}, .kv_lens = {}, .page_size = 7, .dtype = dtype};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f, .mask = mask,
                 .sinks = true};
  if (mask == MaskMode::custom) spec.custom_mask = CustomMask::random;
  return spec;
}

}  // namespace

TEST_CASE("ragged keys in a graph are planned again for each batch") {
  for (const MaskMode mask : {MaskMode::none, MaskMode::causal, MaskMode::custom}) {
    const std::vector<Ragged> batches = batches_of(spec_of(mask));
    Replayed replayed(batches[0]);
    for (const std::size_t b : {0, 1, 2, 3, 4, 2, 0, 3, 1}) {
      INFO("batch ", b, ", mask ", static_cast<int>(mask));
      const Result result = replayed(batches[b]);
      CHECK(result == eager(batches[b]));
      CHECK(result == Replayed(batches[0])(batches[b]));  // a fresh object
      if (mask == MaskMode::custom) CHECK(result == replayed(batches[b], true));
      if (batches[b].c.q.shape[0] == 0) continue;
      const Comparison comparison = compare(batches[b].c, result.o, result.lse_log2, make_oracle(batches[b].c));
      CHECK_MESSAGE(comparison.ok(), comparison.message());
    }
  }
}

TEST_CASE("ragged keys in a graph may have two head dims, a window, and RoPE inside attention") {
  CaseSpec spec = spec_of(MaskMode::causal, DType::f32);
  spec.params.head_dim_qk = 96, spec.params.window_left = 20;
  for (const PosEncodingMode mode : {PosEncodingMode::NONE, PosEncodingMode::ROPE_LLAMA, PosEncodingMode::ALIBI}) {
    spec.params.pos_encoding_mode = mode;
    const std::vector<Ragged> batches = batches_of(spec);
    Replayed replayed(batches[0]);
    for (const Ragged& batch : batches) CHECK(replayed(batch) == eager(batch));
  }
}

TEST_CASE("ragged keys in a graph: what is beyond the limits is refused, and k and v that end too early") {
  const Ragged batch(batches_of(spec_of(MaskMode::causal))[0]);
  Memory memory(RaggedGraph::workspace_bytes(batch.config, ragged_limits));
  RaggedGraph graph(batch.config, ragged_limits, memory.view());
  const auto planned = [&](std::vector<std::int32_t> qo, std::vector<std::int32_t> kv) {
    return refusal([&] { graph.plan(qo, kv); });
  };
  CHECK(planned({0, 80}, {0, 700}) == "accepted");
  CHECK(planned({0, 80}, {0, 701}) == "tokens = 701: exceeds what was captured: max_pages 700");
  CHECK(planned({0, 81}, {0, 7}) == "nnz_qo = 81: exceeds what was captured: max_nnz_qo 80");
  CHECK(planned({0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0}) == "batch = 6: exceeds what was captured: max_batch 5");
  AttentionConfig paged = batch.config;
  paged.cache.page_size = 2;
  CHECK(refusal([&] { RaggedGraph::workspace_bytes(paged, ragged_limits); }) ==
        "page_size = 2: must be 1: a ragged cache has no pages");

  CHECK(planned({0, 3}, {0, 4}) == "accepted");
  const GraphRows q(batch.c.q.view(), 80);
  Tokens tokens = batch.k();
  const GraphRows k(tokens.tensor(), 701);
  GuardedOutput out(80, 6, 64);
  const auto run = [&](const GraphRows& rows, std::int64_t count) {
    Tensor shorter = k.tensor;
    shorter.shape[0] = count;
    return refusal([&] { graph.run(rows.tensor, shorter, shorter, out.view(), nullptr, batch.c.sinks); });
  };
  CHECK(run(q, 700) == "accepted");
  CHECK(run(q, 701) == "accepted");
  CHECK(run(q, 699) == "k shape[0] = 699: must be at least max_pages of the graph (700)");
  CHECK(run(GraphRows(batch.c.q.view(), 81), 700) == "q shape[0] = 81: must be max_nnz_qo of the graph (80)");

  using Eager = BatchPrefillWithRaggedKVCache;
  Memory eager_memory(Eager::workspace_bytes(batch.config, batch.c.qo_indptr, batch.kv_indptr));
  Eager prefill(batch.config, eager_memory.view());
  prefill.plan(batch.c.qo_indptr, batch.kv_indptr);
  Tensor shorter = tokens.tensor();
  shorter.shape[0] -= 1;
  CHECK(refusal([&] { prefill.run(batch.c.q.view(), shorter, shorter, out.view(), nullptr, batch.c.sinks); })
            .starts_with("k shape[0] = 666: must be at least the last entry of kv_indptr (667)"));
}
