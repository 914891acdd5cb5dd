// Which kernel the GPU's classes take, and on which plan: the host's work, which needs no GPU.
#include <doctest/doctest.h>

#include "api/attention_session.hpp"
#include "api/gpu_call.hpp"
#include "api/most_work.hpp"
#include "gpu/decode/decode.hpp"
#include "planner/planner.hpp"
#include "tests/count_allocations.hpp"

using namespace flashladder;
using namespace flashladder::api;

namespace {

AttentionConfig config_of(DType dtype = DType::f16, std::int32_t head_dim = 128) {
  return {.heads = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = head_dim},
          .cache = {.page_size = 16, .dtype = dtype},
          .logits = {.mask = MaskMode::causal}};
}

constexpr PageUse in_place = PageUse::in_place;
const std::string few = "no request has more than 4 queries", else_d6 = "; D6 for a plan in which " + few;
const std::string as_decode = "D6, as for decode: " + few + "; else ";

GpuChoice prefill_choice(const AttentionConfig& config) { return choose_kernel(config, {.decode = false}); }

// A plan as the session makes it, for 132 SMs.
Plan plan_of(const AttentionConfig& config, const AttentionMachine& machine, bool decode,
             std::span<const std::int32_t> qo_lens, std::span<const std::int32_t> kv_lens) {
  return planner::make_plan(plan_inputs(config, machine, decode, qo_lens, kv_lens));
}

}  // namespace

TEST_CASE("a batch of few queries takes decode's kernel and any other a prefill kernel") {
  const GpuChoice choice = prefill_choice(config_of());
  CHECK((choice.kernel == GpuKernel::p5 || choice.kernel == GpuKernel::p11));  // by the GPU that is there, if one is
  CHECK(choice.kernel_for(0) == GpuKernel::d6);
  CHECK(choice.kernel_for(1) == GpuKernel::d6);
  CHECK(choice.kernel_for(4) == GpuKernel::d6);
  CHECK(choice.kernel_for(5) == choice.kernel);
  CHECK(choice.explain(in_place, false, false) == choice.why + else_d6);
  CHECK(choice.explain(in_place, true, false) == as_decode + choice.why);
  CHECK(choice.explain(in_place, false, true) == choice.why + "; D6 if max_qo_len were at most 4");
  CHECK(choice.explain(in_place, true, true).starts_with("D6, as for decode"));
}

TEST_CASE("who asks for a backend gets it and what D6 does not compute stays where it was") {
  AttentionConfig config = config_of();
  config.execution.backend = Backend::fa2;
  CHECK(prefill_choice(config).kernel_for(1) == GpuKernel::p5);
  CHECK(prefill_choice(config).explain(in_place, false, false) == prefill_choice(config).why);
  CHECK(prefill_choice(config_of(DType::f32)).kernel_for(1) == GpuKernel::p1);
  CHECK(prefill_choice(config_of(DType::f16, 80)).kernel_for(1) == GpuKernel::p1);
  config = config_of(DType::f16, 192);
  config.heads.head_dim_vo = 128;
  CHECK(prefill_choice(config).kernel_for(1) == prefill_choice(config).kernel);
  config = config_of();
  config.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
  CHECK(prefill_choice(config).kernel_for(1) == GpuKernel::d6);
  CHECK(prefill_choice(config).rotates);  // who has more queries
  CHECK(prefill_choice(config).kernel_for(2) == prefill_choice(config).kernel);
  CHECK(gpu_machine(GpuKernel::d6, config.params(), {.batch = 6}, {132}).most_decode_rows == 8);  // Rotated's
  config = config_of();
  for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::none}) {  // bits do not depend on neighbours
    config.execution.policy = policy, config.execution.chunk_size = 512;
    CHECK(prefill_choice(config).kernel_for(1) == prefill_choice(config).kernel);
    CHECK(choose_kernel(config, {.decode = false, .for_graphs = true}).kernel_for(1) == GpuKernel::d6);  // all its plans
  }
  CHECK(choose_kernel(config_of(), {.decode = true}).explain(in_place, true, false) == "D6, for one query a request");
}

TEST_CASE("RoPE inside attention is computed by the fast kernels on copies that are always made") {
  const std::string on_copies = ", on copies of q and K that are rotated first: pos_encoding_mode ROPE_LLAMA";
  AttentionConfig config = config_of();
  config.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
  for (const std::int32_t page_size : {1, 4, 16}) {
    for (const bool ragged : {false, true}) {
      if (ragged && page_size > 1) continue;
      config.cache.page_size = page_size;
      for (const Backend backend : {Backend::automatic, Backend::fa2}) {
        config.execution.backend = backend;
        const GpuChoice choice = choose_kernel(config, {.decode = false, .ragged = ragged});
        CHECK((choice.kernel == GpuKernel::p5 || (choice.kernel == GpuKernel::p11 && backend != Backend::fa2)));
        CHECK(choice.rotates);
        CHECK(choice.copies == PageCopies::always);
        CHECK(choice.kernel_for(300, true) == choice.kernel);
        CHECK(choice.explain(PageUse::copied, false, false).find(on_copies) != std::string::npos);
        if (backend == Backend::fa2) {
          CHECK(choice.why == "fa2: P5, for Ampere and newer GPUs" + on_copies + "; fa2 was asked for");
        }
        const AttentionParams behind = params_behind(choice, config.params());
        CHECK(behind.pos_encoding_mode == PosEncodingMode::NONE);
        CHECK(gpu_machine(choice.kernel, behind, {.nnz_qo = 600, .batch = 2, .most_qo_len = 300}, {132}).claimed);
      }
    }
  }
  config.execution.backend = Backend::automatic;
  config.cache.dtype = DType::f32;  // the fast kernels take 16 bits, P1 all
  CHECK(prefill_choice(config).kernel == GpuKernel::p1);
  CHECK_FALSE(prefill_choice(config).rotates);
  CHECK(prefill_choice(config).copies == PageCopies::never);
  CHECK(params_behind(prefill_choice(config), config.params()).pos_encoding_mode == PosEncodingMode::ROPE_LLAMA);
  config = config_of();
  config.logits.pos_encoding_mode = PosEncodingMode::ALIBI;
  CHECK_FALSE(prefill_choice(config).rotates);
}

// As choose_kernel() makes it on a Hopper GPU, for pages of 4.
TEST_CASE("pages that are copied together first: who computes, and what is said of it") {
  GpuChoice choice{GpuKernel::p5, "fa2; not fa3", PageCopies::where_it_pays, "fa3 on a copy", 4};
  CHECK(choice.kernel_for(5, true) == GpuKernel::p11);
  CHECK(choice.kernel_for(5, false) == GpuKernel::p5);
  CHECK(choice.kernel_for(1, true) == GpuKernel::d6);
  CHECK(choice.explain(PageUse::copied, false, false) == "fa3 on a copy" + else_d6);
  CHECK(choice.explain(PageUse::too_few_queries, false, false) ==
        "fa2; not fa3; " + why_in_place(PageUse::too_few_queries) + else_d6);
  CHECK(choice.explain(in_place, true, false) == as_decode + "fa2; not fa3; " + why_in_place(PageUse::by_batch));
  CHECK(choice.explain(PageUse::copied, false, true) == "fa3 on a copy; D6 if max_qo_len were at most 4");
  CHECK(choice.explain(in_place, true, true) == as_decode + "fa2; not fa3");
  choice.d6_queries = 0;
  CHECK(choice.kernel_for(1, true) == GpuKernel::p11);
  CHECK(choice.explain(PageUse::copied, false, false) == "fa3 on a copy");
}

TEST_CASE("a prefill of single queries has decode's plan") {
  const std::vector<std::int32_t> one(6, 1), kv_lens{5000, 17, 0, 900, 1, 12000};
  for (const MaskMode mask : {MaskMode::none, MaskMode::causal, MaskMode::custom}) {
    for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::count, SplitPolicy::target}) {
      AttentionConfig config = config_of();
      config.logits.mask = mask, config.logits.window_left = 700;
      config.execution.policy = policy;
      const AttentionParams params = config.params();
      const BatchSize size{.nnz_qo = 6, .batch = 6};
      const AttentionMachine machine = gpu_machine(prefill_choice(config).kernel_for(1), params, size, {132});
      CHECK(machine.decode_queries == 1);
      CHECK_FALSE(machine.claimed);
      const AttentionMachine decode = gpu_machine(GpuKernel::d6, params, {.batch = 6}, {132});
      CHECK(plan_of(config, machine, false, one, kv_lens) == plan_of(config, decode, true, {}, kv_lens));
    }
  }
}

TEST_CASE("few queries a request have decode's kernel, a tile for all rows of a request") {
  const std::vector<std::int32_t> qo_lens{4, 1, 0, 3}, kv_lens{5000, 17, 900, 12000};
  AttentionConfig config = config_of();
  const BatchSize size{.nnz_qo = 8, .batch = 4, .most_qo_len = 4, .most_kv_len = 12000};
  const AttentionMachine machine = gpu_machine(GpuKernel::d6, config.params(), size, {132, 14});
  CHECK(machine.clusters == 0);
  const Plan plan = plan_of(config, machine, false, qo_lens, kv_lens);
  for (const WorkItem& item : plan.parts[0].items) CHECK(item.rows == Range{0, qo_lens[item.request] * 4});
  config.logits.pos_encoding_mode = PosEncodingMode::ALIBI;
  CHECK(prefill_choice(config).d6_queries == 1);
  config = config_of();
  config.logits.mask = MaskMode::custom;
  CHECK(prefill_choice(config).d6_queries == 1);
  config = config_of();
  config.execution.policy = SplitPolicy::fixed;
  CHECK(prefill_choice(config).d6_queries == 0);
}

TEST_CASE("a request without a query has no work beside single queries") {
  const std::vector<std::int32_t> some{1, 0, 0, 1}, kv_lens{5000, 4000, 0, 900};
  const AttentionConfig config = config_of();
  const AttentionMachine machine = gpu_machine(GpuKernel::d6, config.params(), {.nnz_qo = 2, .batch = 4}, {132});
  const Plan plan = plan_of(config, machine, false, some, kv_lens);
  for (const WorkItem& item : plan.parts[0].items) CHECK((item.request == 0 || item.request == 3));
  CHECK(plan.qo_lens == some);
}

TEST_CASE("any batch of single queries fits what was bought for max_qo_len of 1") {
  std::uint32_t state = 1;
  const auto below = [&](std::uint32_t n) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::int32_t>((state >> 8) % n);
  };
  for (int trial = 0; trial < 200; ++trial) {
    AttentionConfig config = config_of();
    config.heads.num_kv_heads = 1 + below(3), config.heads.num_qo_heads = config.heads.num_kv_heads * (1 + below(20));
    config.execution.policy = trial % 2 ? SplitPolicy::balanced : SplitPolicy::fixed, config.execution.chunk_size = 64;
    const AttentionMachine machine = gpu_machine(GpuKernel::d6, config.params(), {}, {1 + below(132)});
    std::vector<std::int32_t> qo_lens, kv_lens;
    AttentionLimits limits{.max_batch = 0, .max_pages = 0, .max_nnz_qo = 0, .max_qo_len = 1};
    for (std::int32_t b = 1 + below(12); b > 0; --b) {
      qo_lens.push_back(below(4) ? 1 : 0), kv_lens.push_back(below(3000));
      ++limits.max_batch, limits.max_pages += (kv_lens.back() + 15) / 16, *limits.max_nnz_qo += qo_lens.back();
    }
    const planner::PlanInputs in = plan_inputs(config, machine, false, qo_lens, kv_lens);
    const Plan plan = planner::make_plan(in);
    const planner::CaptureLimits most = most_work(plan_inputs(config, machine, false, {}, {}), limits);
    CHECK(planner::exceeds(plan, in, most) == "");
  }
}

TEST_CASE("a limit of SMs is the plan's machine") {
  const AttentionConfig config = config_of();
  for (const GpuKernel kernel : {GpuKernel::d6, GpuKernel::p1, GpuKernel::p5, GpuKernel::p11}) {
    const planner::MachineShape all = gpu_machine(kernel, config.params(), {.nnz_qo = 4000, .batch = 4}, {132}).shape;
    const planner::MachineShape some = gpu_machine(kernel, config.params(), {.nnz_qo = 4000, .batch = 4}, {7}).shape;
    CHECK(all.num_sms == 132);
    CHECK(some.num_sms == 7);
    CHECK(some.ctas_per_sm == all.ctas_per_sm);
  }
}

// What plan() does on the host in every step of a model, but for the copy.
TEST_CASE("planning and packing a prefill of 64 requests again allocates nothing") {
  std::vector<std::int32_t> lens, others;
  for (std::int32_t b = 0; b < 64; ++b) lens.push_back(31 + 140 * b), others.push_back(31 + 140 * (b * 37 % 64));
  const AttentionConfig config = config_of();
  const std::int64_t nnz_qo = 64 * 31 + 140 * 63 * 32;
  for (const GpuKernel kernel : {GpuKernel::p5, GpuKernel::p11}) {
    const AttentionMachine machine = gpu_machine(kernel, config.params(), {.nnz_qo = nnz_qo, .batch = 64}, {132});
    Plan plan = plan_of(config, machine, false, lens, lens);
    CHECK(plan.parts[0].claimed);
    CHECK(plan.parts[0].queue.empty());  // nobody asked who will get what
    const gpu::PackedShape shape = gpu::shape_of(plan);
    std::vector<std::byte> packed(gpu::packed_bytes(shape));
    gpu::pack(plan, {16}, shape, packed);
    const std::size_t before = allocations;
    planner::make_plan(plan_inputs(config, machine, false, others, others), plan);
    gpu::pack(plan, {16}, shape, packed);
    CHECK(allocations == before);
    CHECK(plan.parts[0].items.size() > 500);
  }
}

TEST_CASE("planning and packing a mixed batch again allocates nothing") {
  std::vector<std::int32_t> qo_lens(80, 1), others(80, 1), kv_lens;
  for (std::int32_t b = 0; b < 80; ++b) kv_lens.push_back(500 + 41 * b);
  for (std::int32_t b = 0; b < 9; ++b) qo_lens[static_cast<std::size_t>(b)] = others[static_cast<std::size_t>(79 - b)] = 300;
  const AttentionConfig config = config_of();
  const BatchSize size{.nnz_qo = 71 + 9 * 300, .batch = 80, .most_qo_len = 2771, .of_limits = true};
  const AttentionMachine machine = gpu_machine(GpuKernel::p12, config.params(), size, {132});
  const gpu::PackedShape decode{.num_ctas = machine.queue_room, .query_tile = machine.decode_tile, .pack = 4, .items = 5000,
                                .merges = 1000, .partial_rows = 100000};
  const gpu::PackedShape shape{.claimed = true, .num_ctas = 132, .query_tile = machine.prefill_rows, .pack = machine.pack,
                               .items = 5000, .merges = 1000, .partial_rows = 100000};
  std::vector<std::byte> first(gpu::packed_bytes(decode)), second(gpu::packed_bytes(shape));
  Plan plan;
  const auto again = [&](const std::vector<std::int32_t>& lens) {
    planner::make_plan(plan_inputs(config, machine, false, lens, kv_lens), plan);
    gpu::pack(plan, {16}, decode, first, 0);
    gpu::pack(plan, {16}, shape, second, 1);
  };
  again(qo_lens), again(others);  // whichever has more work has found room for it
  const std::size_t before = allocations;
  again(qo_lens), again(others);
  CHECK(allocations == before);
  CHECK(plan.parts[0].num_work() > 500);
  CHECK(plan.parts[1].num_work() > 500);
}

// The formulas are guesses about time; what holds for any: clusters are whole pieces of tiles, and no more than there are.
TEST_CASE("decode takes clusters for few tiles of few keys and each tile has as many of them as any other") {
  const auto worth = [](std::int64_t tiles, std::int64_t keys, std::int32_t rows) {
    return gpu::d7::worth_clusters({.tiles = tiles, .most_keys = keys, .rows = rows, .head_dim = 128}, 14);
  };
  for (std::int64_t tiles = 0; tiles <= 20; ++tiles) {
    for (std::int64_t keys = 0; keys <= 1 << 20; keys = 2 * keys + 1) {
      const std::int32_t clusters = worth(tiles, keys, 8);
      CHECK(clusters <= 14);
      if (clusters > 0) CHECK(clusters % tiles == 0);
      if (tiles > 14) CHECK(clusters == 0);
    }
  }
  CHECK(worth(8, 1024, 4) == 8);    // 1 request, 8 KV heads: measured, as all that follow
  CHECK(worth(8, 8192, 4) == 0);
  CHECK(worth(1, 1024, 4) == 1);
  CHECK(worth(1, 16384, 4) > 1);
  CHECK(worth(2, 16384, 8) > 2);    // 2 requests of 1 KV head each
  CHECK(worth(14, 3000, 12) == 14);
  CHECK(worth(15, 3000, 12) == 0);
  CHECK(gpu::d7::worth_clusters({.tiles = 1, .most_keys = 100, .rows = 1, .head_dim = 128}, 0) == 0);  // not Hopper
}

TEST_CASE("a decode of few tiles is planned for clusters where there are some") {
  const AttentionConfig config = config_of();
  const auto machine = [&](std::int64_t batch, std::int64_t keys, std::int32_t clusters) {
    const BatchSize size{.batch = batch, .most_kv_len = keys};
    return gpu_machine(GpuKernel::d6, config.params(), size, {.num_sms = 132, .clusters = clusters});
  };
  CHECK(machine(1, 1024, 14).clusters == 8);
  CHECK(machine(1, 1024, 14).shape.num_ctas() == 8);
  CHECK(machine(1, 1024, 0).clusters == 0);
  CHECK(machine(1, 1024, 0).shape.num_ctas() == 264);
  CHECK(machine(32, 1024, 14).clusters == 0);
  AttentionConfig window = config;
  window.logits.window_left = 500;  // what is seen decides
  const BatchSize size{.batch = 1, .most_kv_len = 100000};
  CHECK(gpu_machine(GpuKernel::d6, window.params(), size, {132, 14}).clusters == 8);
  CHECK(gpu_machine(GpuKernel::d6, config.params(), size, {132, 14}).clusters == 0);
  const Plan plan = plan_of(config, machine(1, 1024, 14), true, {}, std::vector<std::int32_t>{1024});
  CHECK(plan.parts[0].num_work() == 8);  // no tile is cut
  CHECK(plan.parts[0].merges.empty());
}
