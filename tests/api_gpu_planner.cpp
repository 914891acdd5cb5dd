// What the library gives to the GPU's planner: for the machines of D6, D7 and L5 its plan is the host's, and no lengths
// outgrow the memory that was bought. The planner's code runs on the host, so that no GPU is needed.
#include <doctest/doctest.h>

#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "api/attention_session.hpp"
#include "api/batch_mla.hpp"
#include "api/gpu_call.hpp"
#include "api/gpu_planner.hpp"
#include "api/most_work.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/plan/run_plan.hpp"
#include "tests/serial_block.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::test;

namespace {

struct PlannedTwice {
  AttentionConfig config;
  std::vector<std::int32_t> kv_lens;
  std::int32_t max_seq_len, max_pages, clusters;
  GpuKernel kernel = GpuKernel::d6;
  std::int32_t queries = 1;  // of every request

  std::vector<std::int32_t> qo_lens() const {
    return std::vector<std::int32_t>(queries == 1 ? 0 : kv_lens.size(), queries);
  }
  AttentionMachine machine() const {
    BatchSize size{.batch = std::ssize(kv_lens), .most_kv_len = max_seq_len};
    if (queries > 1) size.nnz_qo = size.batch * queries, size.most_qo_len = queries;
    return gpu_machine(kernel, config.params(), size, {.num_sms = 132, .clusters = clusters});
  }
  // "" or how the device's plan differs from the host's, in a block for all lengths up to max_seq_len. Balanced means even.
  std::string difference() const {
    const auto batch = static_cast<std::int32_t>(kv_lens.size());
    const planner::PlanInputs without = plan_inputs(planned_on_device(config), machine(), true, {}, {});
    const std::vector<std::int32_t> queries_of_each = qo_lens();
    planner::PlanInputs in = plan_inputs(config, machine(), true, queries_of_each, kv_lens);
    if (config.execution.policy == SplitPolicy::balanced) in.policy = SplitPolicy::even;
    const Plan plan = planner::make_plan(in);
    const std::int64_t pages = std::int64_t{batch} * pages_for(max_seq_len, config.cache.page_size);
    AttentionLimits limits{.max_batch = batch, .max_pages = pages};
    if (queries > 1) limits.max_nnz_qo = std::int64_t{batch} * queries, limits.max_qo_len = queries;
    const Sizes most = most_work(without, limits);
    gpu::PackedShape shape = gpu::shape_of(plan);
    shape.items = most.items, shape.merges = most.merges, shape.partial_rows = most.partial_rows;
    if (machine().clusters > 0) shape.counters = shape.query_tile;
    PackedPlan host(shape), device(shape);
    gpu::pack(plan, {config.cache.page_size, max_pages}, shape, host.bytes);  // refuses what does not fit
    const BatchLengths lengths{.block_table = BlockTableLengths{kv_lens, max_pages}, .max_seq_len = max_seq_len};
    const gpu::DecodePlanParams params = decode_plan_params(without, lengths, shape, device.bytes.data());
    const gpu::DecodePlanMemory sizes = gpu::decode_plan_memory(params, SerialBlock::threads, nullptr, nullptr);
    std::vector<std::byte> shared(sizes.shared_bytes), scratch(sizes.scratch_bytes);
    SerialBlock block;
    gpu::run_plan(block, params, shared.data(), scratch.data());
    return test::difference(host, device);
  }
};

}  // namespace

TEST_CASE("lengths on the device: the machines of D6 and D7 are planned for as on the host") {
  std::mt19937 random(7);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  constexpr std::int32_t heads[][2] = {{32, 8}, {8, 1}, {64, 8}, {32, 32}, {40, 40}, {64, 1}, {20, 4}, {5, 5}};
  constexpr std::int32_t dims[] = {64, 128, 256};
  constexpr SplitPolicy policies[] = {SplitPolicy::balanced, SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::none};
  int of_clusters = 0, of_several = 0;
  for (int i = 0; i < 600; ++i) {
    const auto& [num_qo_heads, num_kv_heads] = heads[below(8)];
    PlannedTwice p{.config = {.heads = {num_qo_heads, num_kv_heads, dims[below(3)]}, .cache = {.page_size = 1 + below(32)},
                              .logits = {.window_left = below(4) == 0 ? below(2000) : -1},
                              .execution = {.policy = policies[below(4)], .chunk_size = 256}},
                   .kv_lens = {}, .max_seq_len = 1 << below(15), .max_pages = 0, .clusters = below(2) == 0 ? 14 : 0};
    if (below(5) == 0) p.config.logits.logits_soft_cap = 30;
    p.max_pages = pages_for(p.max_seq_len, p.config.cache.page_size) + below(3);
    const auto most_queries = static_cast<std::uint32_t>(gpu::d6::most_queries(p.config.params()));
    if (below(2) == 0) p.queries = 1 + below(most_queries);
    if (p.queries > 1) p.config.logits.mask = MaskMode::causal;
    of_several += p.queries > 1;
    const std::int32_t batch = 1 + below(below(3) == 0 ? 4u : 60u);
    for (std::int32_t b = 0; b < batch; ++b) {
      const std::int32_t shorter = below(static_cast<std::uint32_t>(p.max_seq_len) + 1);
      p.kv_lens.push_back(below(6) == 0 ? 0 : below(2) == 0 ? p.max_seq_len : shorter);
    }
    INFO("batch ", i, ": ", batch, " requests of up to ", p.max_seq_len, ", ", num_qo_heads, "/", num_kv_heads);
    REQUIRE(p.difference() == "");
    of_clusters += p.machine().clusters > 0;
  }
  CHECK(of_clusters > 20);
  CHECK(of_several > 60);
}

TEST_CASE("lengths on the device: latent attention is planned for as on the host, with any number of heads") {
  std::mt19937 random(11);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  constexpr std::int32_t heads[] = {1, 5, 16, 63, 64, 65, 100, 128, 130};
  constexpr SplitPolicy policies[] = {SplitPolicy::balanced, SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::none};
  for (int i = 0; i < 400; ++i) {
    const std::int32_t num_heads = heads[below(9)];
    const MlaConfig config{.num_heads = num_heads, .page_size = 1 + below(128), .sm_scale = 0.07f,
                           .execution = {.policy = policies[below(4)], .chunk_size = 256}};
    PlannedTwice p{.config = config.attention(), .kv_lens = {}, .max_seq_len = 1 << below(15), .max_pages = 0, .clusters = 0,
                   .kernel = below(2) == 0 ? GpuKernel::l4 : GpuKernel::l5};
    p.max_pages = pages_for(p.max_seq_len, p.config.cache.page_size) + below(3);
    const std::int32_t batch = 1 + below(below(3) == 0 ? 4u : 300u);
    for (std::int32_t b = 0; b < batch; ++b) {
      const std::int32_t shorter = below(static_cast<std::uint32_t>(p.max_seq_len) + 1);
      p.kv_lens.push_back(below(6) == 0 ? 0 : below(2) == 0 ? p.max_seq_len : shorter);
    }
    INFO("batch ", i, ": ", batch, " requests of up to ", p.max_seq_len, ", ", num_heads, " heads");
    CHECK_FALSE(p.machine().claimed);
    REQUIRE(p.difference() == "");
  }
}
