// What the library gives to the GPU's planner of a prefill: for the machines of P11, P5 and P1 its plan is the host's, and no
// lengths outgrow the memory that was bought. The planner's code runs on the host, so that no GPU is needed.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "api/attention_session.hpp"
#include "api/gpu_call.hpp"
#include "api/gpu_planner.hpp"
#include "api/most_work.hpp"
#include "gpu/plan/claimed_plan.hpp"
#include "tests/device_plans.hpp"
#include "tests/serial_block.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::test;

namespace {

struct PlannedThere {
  AttentionConfig config;
  GpuKernel kernel;
  std::vector<std::int32_t> qo_lens, kv_lens;
  MostQueries most;
  std::int32_t max_seq_len, max_pages;
  bool by_lens;

  AttentionMachine machine() const {
    const BatchSize size{.nnz_qo = most.nnz_qo, .batch = std::ssize(kv_lens), .most_qo_len = most.qo_len,
                         .most_kv_len = max_seq_len};
    return gpu_machine(kernel, config.params(), size, {.num_sms = 132});
  }
  // "" or how the device's plan differs from the host's, in a block for all lengths within the bounds.
  std::string difference() const {
    const auto batch = static_cast<std::int32_t>(kv_lens.size());
    const planner::PlanInputs without = plan_inputs(config, machine(), false, {}, {});
    const Plan plan = planner::make_plan(plan_inputs(config, machine(), false, qo_lens, kv_lens));
    const std::int64_t pages = std::int64_t{batch} * pages_for(max_seq_len, config.cache.page_size);
    const Sizes sizes = most_work(without, {.max_batch = batch, .max_pages = pages, .max_nnz_qo = most.nnz_qo,
                                            .max_qo_len = most.qo_len});
    gpu::PackedShape shape = gpu::shape_of(plan);
    shape.copies = 1, shape.items = sizes.items, shape.merges = sizes.merges, shape.partial_rows = sizes.partial_rows;
    PackedPlan host(shape), device(shape);
    gpu::PackedShape stored = shape;
    stored.copies = plan.parts[0].copies, stored.items = sizes.items / stored.copies;
    gpu::pack(plan, {config.cache.page_size, max_pages}, stored, host.bytes);  // refuses what does not fit
    std::vector<std::int32_t> qo_indptr(1, 0);
    std::partial_sum(qo_lens.begin(), qo_lens.end(), std::back_inserter(qo_indptr));
    BatchLengths lengths{.qo_indptr = qo_indptr, .block_table = BlockTableLengths{kv_lens, max_pages},
                         .max_seq_len = max_seq_len, .most_queries = most};
    if (by_lens) lengths.qo_lens = qo_lens;
    const gpu::PrefillPlanParams params = prefill_plan_params(without, lengths, shape, device.bytes.data());
    const gpu::ClaimedPlanMemory memory = gpu::claimed_plan_memory(params, SerialBlock::threads, nullptr, nullptr);
    std::vector<std::byte> shared(memory.shared_bytes), scratch(memory.scratch_bytes);
    SerialBlock block;
    gpu::run_claimed_plan(block, params, shared.data(), scratch.data());
    return test::difference(host, device);
  }
};

}  // namespace

TEST_CASE("lengths on the device: the machines of P11, P5 and P1 are planned for as on the host") {
  std::mt19937 random(13);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  constexpr std::int32_t heads[][2] = {{32, 8}, {8, 1}, {64, 8}, {32, 32}, {20, 4}, {5, 5}, {28, 4}};
  constexpr std::int32_t dims[] = {64, 128, 256};
  constexpr GpuKernel kernels[] = {GpuKernel::p11, GpuKernel::p11, GpuKernel::p5, GpuKernel::p1};
  int packed = 0, unpacked = 0;
  for (int i = 0; i < 600; ++i) {
    const auto& [num_qo_heads, num_kv_heads] = heads[below(7)];
    PlannedThere p{.config = {.heads = {num_qo_heads, num_kv_heads, dims[below(3)]}, .cache = {.page_size = 1 + below(32)},
                              .logits = {.mask = below(3) == 0 ? MaskMode::none : MaskMode::causal,
                                         .window_left = below(4) == 0 ? below(2000) : -1},
                              .execution = {.policy = SplitPolicy::none}},
                   .kernel = kernels[below(4)], .qo_lens = {}, .kv_lens = {}, .most = {}, .max_seq_len = 1 << below(15),
                   .max_pages = 0, .by_lens = below(3) == 0};
    p.max_pages = pages_for(p.max_seq_len, p.config.cache.page_size) + below(3);
    p.most.qo_len = 1 << below(11);
    const std::int32_t batch = 1 + below(below(3) == 0 ? 4u : 60u);
    for (std::int32_t b = 0; b < batch; ++b) {
      p.qo_lens.push_back(below(4) == 0 ? p.most.qo_len : below(static_cast<std::uint32_t>(p.most.qo_len) + 1));
      p.kv_lens.push_back(below(4) == 0 ? p.max_seq_len : below(static_cast<std::uint32_t>(p.max_seq_len) + 1));
    }
    p.most.nnz_qo = std::accumulate(p.qo_lens.begin(), p.qo_lens.end(), 0) + (below(2) == 0 ? 0 : below(500));
    INFO("batch ", i, ": ", batch, " requests of up to ", p.most.qo_len, " / ", p.max_seq_len, ", ", num_qo_heads, "/",
         num_kv_heads);
    CHECK(p.machine().claimed);
    REQUIRE(p.difference() == "");
    (p.machine().pack == 1 ? unpacked : packed) += 1;
  }
  CHECK(packed > 100);
  CHECK(unpacked > 20);
}

TEST_CASE("lengths on the device: what the GPU's planner is told, and what it can't count with") {
  const AttentionConfig config{.heads = {32, 8, 128}, .cache = {.page_size = 16}, .logits = {.mask = MaskMode::causal},
                               .execution = {.policy = SplitPolicy::none}};
  const BatchSize size{.nnz_qo = 100, .batch = 2, .most_qo_len = 60, .most_kv_len = 100};
  const AttentionMachine machine = gpu_machine(GpuKernel::p5, config.params(), size, {.num_sms = 132});
  planner::PlanInputs in = plan_inputs(config, machine, false, {}, {});
  const std::vector<std::int32_t> qo_lens{40, 60}, qo_indptr{0, 40, 100}, kv_lens{100, 60};
  BatchLengths lengths{.qo_indptr = qo_indptr, .block_table = BlockTableLengths{kv_lens, 7}, .max_seq_len = 100,
                       .most_queries = MostQueries{.nnz_qo = 100, .qo_len = 60}};
  gpu::PackedShape shape;
  shape.claimed = true, shape.num_ctas = 132, shape.items = 10 * in.num_heads(in.packed_heads());
  std::vector<std::byte> packed(gpu::packed_bytes(shape));
  const auto params = [&] { return prefill_plan_params(in, lengths, shape, packed.data()); };
  CHECK(params().most_items == 10);  // stored once for all heads
  CHECK(params().qo_indptr == qo_indptr.data());
  lengths.qo_lens = qo_lens;
  CHECK((params().qo_indptr == nullptr && params().qo_lens == qo_lens.data()));
  in.cost.memory_bound_rows = 64;
  CHECK(params().memory_bound_rows == 64);
  in.cost.per_item += 0.5;
  CHECK_THROWS_WITH_AS(params(), doctest::Contains("whole number of keys"), InputError);
  in.cost.per_item -= 0.5, in.claimed = false;
  CHECK_THROWS_WITH_AS(params(), doctest::Contains("claim their work"), InputError);
}
