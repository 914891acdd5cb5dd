// A graph of a prefill: captured once, planned again for each batch, against an object that plans and runs without a graph.
#include <doctest/doctest.h>

#include <optional>

#include "api/attention_session.hpp"
#include "gpu/device.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "tests/api_gpu.hpp"
#include "tests/options.hpp"
#include "tests/packed_mask.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// A batch of some of the case's requests, in the case's order, on the case's cache.
struct Chosen {
  std::vector<std::int32_t> qo_indptr{0}, paged_kv_indptr{0}, paged_kv_indices, last_page_len;
  std::vector<std::byte> q;
  std::vector<std::int32_t> qo_lens, kv_lens;
  std::vector<std::uint8_t> custom_mask;

  Chosen(const Case& c, const std::vector<std::int32_t>& requests) {
    const std::size_t row = c.q.bytes.size() / static_cast<std::size_t>(c.q.shape[0]);
    for (const std::int32_t b : requests) {
      const std::int32_t begin = c.qo_indptr[b], end = c.qo_indptr[b + 1];
      q.insert(q.end(), c.q.bytes.begin() + begin * row, c.q.bytes.begin() + end * row);
      qo_indptr.push_back(qo_indptr.back() + end - begin);
      paged_kv_indices.insert(paged_kv_indices.end(), c.paged_kv_indices.begin() + c.paged_kv_indptr[b],
                              c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1]);
      paged_kv_indptr.push_back(static_cast<std::int32_t>(paged_kv_indices.size()));
      last_page_len.push_back(c.paged_kv_last_page_len[b]);
      qo_lens.push_back(c.spec.qo_lens[b]), kv_lens.push_back(c.spec.kv_lens[b]);
      if (c.custom_mask.empty()) continue;
      const std::vector<std::int64_t> masks = mask_offsets(c.problem());
      custom_mask.insert(custom_mask.end(), c.custom_mask.begin() + masks[b], c.custom_mask.begin() + masks[b + 1]);
    }
  }
  BatchLengths lengths() const {
    return {.qo_indptr = qo_indptr, .paged_kv_indptr = paged_kv_indptr, .paged_kv_last_page_len = last_page_len};
  }
};

// A graph's object beside an eager one, in memory of their own, for batches of the requests of one case. packed: the graph
// gets a custom mask as bits, the other one always as bytes.
class Replanned {
 public:
  Replanned(const Case& c, const AttentionConfig& config, const AttentionLimits& limits, bool packed = false)
      : case_(c), config_(config), on_device_(c.problem()), graphed_(config, {.decode = false, .graph = limits}),
        eager_(config, {.decode = false}), graph_memory_(graphed_.bytes_for(limits)),
        eager_memory_(eager_.bytes_for(limits)), q_(c.q.bytes.size()), bytes_(c.custom_mask.size() * 4),
        bits_(c.custom_mask.size() * 4), out_(rows(), config) {
    graphed_.attach(graph_memory_.view());
    eager_.attach(eager_memory_.view());
    const Chosen first(c, {0});
    graphed_.plan(first.lengths(), first.paged_kv_indices, Device::cpu, stream_);
    const std::span<const std::uint8_t> mask(bytes_.as<std::uint8_t>(), first.custom_mask.size());
    const std::span<const std::uint8_t> bits(bits_.as<std::uint8_t>(), packed_mask_of(first).size());
    graph_.emplace(stream_, [&] {
      AttentionArguments run{.q = q_view(), .kv = on_device_.view().kv, .page_ids = {}, .output = out_.view(), .sinks = {}};
      if (packed) run.packed_custom_mask = bits;
      else run.custom_mask = mask;
      graphed_.run(run, stream_);
    });
  }

  // Does the graph, planned for this batch and replayed twice, write what an eager run writes, and nothing behind it?
  bool replays(const std::vector<std::int32_t>& requests) {
    const Chosen batch(case_, requests);
    const std::vector<std::uint8_t> bits = packed_mask_of(batch);
    const auto& bytes = batch.custom_mask;
    q_.upload(batch.q.data(), batch.q.size());
    bytes_.upload(bytes.data(), bytes.size());
    bits_.upload(bits.data(), bits.size());
    const Result wanted = run_eagerly(batch);
    out_.poison(stream_);
    graphed_.plan(batch.lengths(), batch.paged_kv_indices, Device::cpu, stream_);
    for (int replay = 0; replay < 2; ++replay) graph_->launch(stream_);
    return out_.result(stream_) == wanted && graph_memory_.guards_intact();
  }

 private:
  static std::vector<std::uint8_t> packed_mask_of(const Chosen& batch) {
    if (batch.custom_mask.empty()) return {};
    return packed_mask(batch.custom_mask, batch.qo_lens, batch.kv_lens);
  }
  std::int32_t rows() const { return static_cast<std::int32_t>(case_.q.shape[0]); }
  Tensor q_view() const { return contiguous(q_.data(), case_.spec.dtype, {rows(), case_.q.shape[1], case_.q.shape[2]}); }

  Result run_eagerly(const Chosen& batch) {
    const auto used = static_cast<std::int64_t>(batch.qo_indptr.back());
    Tensor q_rows = q_view();
    q_rows.shape[0] = used;
    GpuOutput expected(rows(), config_);  // rows beyond the batch keep the poison on both sides
    AttentionOutput to = expected.view();
    to.o.shape[0] = used;
    to.lse_log2 = to.lse_log2.first(static_cast<std::size_t>(used * case_.q.shape[1]));
    const gpu::DeviceBuffer indices(batch.paged_kv_indices.data(), batch.paged_kv_indices.size() * sizeof(std::int32_t));
    eager_.plan(batch.lengths(), {}, Device::cpu, stream_);
    eager_.run({.q = q_rows, .kv = on_device_.view().kv,
                .page_ids = {indices.as<std::int32_t>(), batch.paged_kv_indices.size()}, .output = to, .sinks = {},
                .custom_mask = {bytes_.as<std::uint8_t>(), batch.custom_mask.size()}},
               stream_);
    return expected.result(stream_);
  }

  const Case& case_;
  AttentionConfig config_;
  gpu::DeviceProblem on_device_;
  AttentionSession graphed_, eager_;
  GpuWorkspace graph_memory_, eager_memory_;
  gpu::DeviceBuffer q_, bytes_, bits_;
  GpuOutput out_;
  GpuStream stream_;
  std::optional<GpuGraph> graph_;
};

// Any of the case's requests, in any order, also twice or none, as long as queries and pages stay within the limits.
std::vector<std::int32_t> random_requests(const Case& c, Random& random, const AttentionLimits& limits) {
  std::vector<std::int32_t> requests;
  std::int64_t nnz_qo = 0, pages = 0;
  const auto wanted = random.below(static_cast<std::uint32_t>(limits.max_batch) + 1);
  for (std::uint32_t i = 0; i < wanted; ++i) {
    const auto b = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(c.spec.batch())));
    nnz_qo += c.spec.qo_lens[b], pages += c.paged_kv_indptr[b + 1] - c.paged_kv_indptr[b];
    if (nnz_qo > *limits.max_nnz_qo || pages > limits.max_pages) break;
    requests.push_back(b);
  }
  return requests;
}

AttentionConfig prefill_config(const Case& c, SplitPolicy policy) {
  AttentionConfig config = config_of(c.spec, Device::gpu, DType::f16);
  config.execution.policy = policy;
  config.execution.chunk_size = 64;
  return config;
}

AttentionLimits limits_of(const Case& c) {
  return {.max_batch = c.spec.batch(), .max_pages = static_cast<std::int64_t>(c.paged_kv_indices.size()),
          .max_nnz_qo = c.q.shape[0]};
}

}  // namespace

// A graph's tiles are made for its limits, an eager plan's for its batch: they are the same, and so are the bits, where all
// batches of a pool have few queries a request, or all have many. A backend is named, because automatic takes decode's
// kernel for an eager batch of single queries.
TEST_CASE("a graph of a prefill captured once replays fifty random plans, bit for bit") {
  const std::vector<std::int32_t> few{70, 1, 0, 120, 5, 33, 110, 7}, many{130, 200, 128, 400, 257};
  std::vector<Backend> backends{Backend::fa2};
  if (gpu::why_no_hopper().empty()) backends.push_back(Backend::fa3);
  for (const std::vector<std::int32_t>& qo_lens : {few, many}) {
    CaseSpec spec{.name = "pool", .seed = 9, .qo_lens = qo_lens, .kv_lens = {700, 900, 40, 200, 5000, 1300, 600, 7},
                  .dtype = DType::f16};
    spec.kv_lens.resize(qo_lens.size());
    spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = MaskMode::causal};
    const Case c = draw_case(spec);
    for (const Backend backend : backends) {
      for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::balanced}) {
        AttentionConfig config = prefill_config(c, policy);
        config.execution.backend = backend;
        Replanned replanned(c, config, limits_of(c));
        Random random(options().seed, static_cast<std::uint64_t>(policy));
        int wrong = 0;
        for (int plan = 0; plan < 50; ++plan) wrong += !replanned.replays(random_requests(c, random, limits_of(c)));
        CHECK_MESSAGE(wrong == 0, name_of(backend), ", policy ", name_of(policy), ": ", wrong, " of 50 plans, --seed ",
                      options().seed);
      }
    }
  }
}

namespace {

void check_graph(std::int32_t page_size, Backend backend, PosEncodingMode pos = PosEncodingMode::ALIBI) {
  CaseSpec spec{.name = "pool", .seed = 8, .qo_lens = {70, 1, 0, 200, 5, 33}, .kv_lens = {700, 900, 40, 200, 3, 1300},
                .page_size = page_size, .dtype = DType::f16};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .mask = MaskMode::causal,
                 .window_left = 300, .pos_encoding_mode = pos};
  const Case c = draw_case(spec);
  for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::balanced}) {
    AttentionConfig config = prefill_config(c, policy);
    config.execution.backend = backend;
    Replanned replanned(c, config, limits_of(c));
    for (const std::vector<std::int32_t>& requests :
         {std::vector<std::int32_t>{0, 1, 2, 3, 4, 5}, {5}, {}, {2}, {4, 4}, {1, 4, 5, 0}}) {
      CHECK(replanned.replays(requests));
    }
  }
}

}  // namespace

TEST_CASE("a graph of a prefill is planned again for each batch") {
  check_graph(16, Backend::automatic);
  check_graph(3, Backend::fa2);
  if (gpu::why_no_hopper().empty()) check_graph(3, Backend::fa3);
}

// The mask lies where it lay when the graph was captured, and is another one, of another size, for each batch.
TEST_CASE("a graph of a prefill with a custom mask is planned again for each batch, with bytes and with bits") {
  CaseSpec spec{.name = "pool", .seed = 7, .qo_lens = {64, 1, 0, 33, 5}, .kv_lens = {700, 901, 40, 129, 3},
                .dtype = DType::f16};
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = MaskMode::custom};
  std::vector<Backend> backends{Backend::fa2};
  if (gpu::why_no_hopper().empty()) backends.push_back(Backend::fa3);
  for (const CustomMask mask : {CustomMask::tree, CustomMask::holes, CustomMask::random}) {
    spec.custom_mask = mask;
    const Case c = draw_case(spec);
    for (const Backend backend : backends) {
      for (const bool packed : {false, true}) {
        AttentionConfig config = prefill_config(c, SplitPolicy::balanced);
        config.execution.backend = backend;
        AttentionLimits limits = limits_of(c);
        limits.max_qo_len = 64;
        Replanned replanned(c, config, limits, packed);
        for (const std::vector<std::int32_t>& requests :
             {std::vector<std::int32_t>{0, 1, 2, 3, 4}, {3}, {}, {1, 4}, {4, 4, 3}, {2}}) {
          CHECK(replanned.replays(requests));
        }
      }
    }
  }
}

TEST_CASE("a graph of a prefill with RoPE inside attention is planned again for each batch") {
  for (const std::int32_t page_size : {16, 3}) {
    check_graph(page_size, Backend::fa2, PosEncodingMode::ROPE_LLAMA);
    if (gpu::why_no_hopper().empty()) check_graph(page_size, Backend::fa3, PosEncodingMode::ROPE_LLAMA);
  }
}
