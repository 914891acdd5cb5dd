// When P12 is taken, on which plan, and in how much memory: the host's work, which needs no GPU.
#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "api/attention_session.hpp"
#include "api/batch_size.hpp"
#include "api/gpu_call.hpp"
#include "api/most_work.hpp"
#include "gpu/prefill/mixed_cost.hpp"
#include "planner/planner.hpp"

using namespace flashladder;
using namespace flashladder::api;

namespace {

constexpr std::int32_t sms = 132;

AttentionConfig with_heads(std::int32_t num_qo_heads = 32, std::int32_t num_kv_heads = 8) {
  return {.heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = 128},
          .cache = {.page_size = 16, .dtype = DType::f16},
          .logits = {.mask = MaskMode::causal}};
}

struct Lengths {
  std::vector<std::int32_t> qo, kv;
  Lengths& add(std::int32_t requests, std::int32_t qo_len, std::int32_t kv_len) {
    qo.insert(qo.end(), requests, qo_len), kv.insert(kv.end(), requests, kv_len);
    return *this;
  }
  BatchSize size(const AttentionConfig& config) const { return size_of_batch(config, false, qo, kv); }
};

// As choose_kernel() makes it on a Hopper GPU.
const GpuChoice on_hopper{.kernel = GpuKernel::p11, .why = "fa3", .d6_queries = 1, .p12_for_mixed = true};
constexpr BackendKind eager{.decode = false}, graph{.decode = false, .for_graphs = true},
    mixed_graph{.decode = false, .for_graphs = true, .mixed = true};

AttentionMachine p12(const AttentionConfig& config, const BatchSize& size) {
  return gpu_machine(GpuKernel::p12, config.params(), size, {.num_sms = sms});
}

}  // namespace

// docs/measurements/h200-mixed.md: P12 was the faster on three of them.
TEST_CASE("P12 is taken on the measured batches on which it was the faster, with the CTAs that were the best") {
  const AttentionConfig config = with_heads();
  const auto taken = [&](const Lengths& batch) {
    const BatchSize size = batch.size(config);
    return on_hopper.takes_mixed(config.params(), size, eager) ? p12(config, size).decode_queues / 2 : 0;
  };
  CHECK(taken(Lengths{}.add(4, 512, 4096).add(60, 1, 4096)) == 99);
  CHECK(taken(Lengths{}.add(1, 2048, 4096).add(127, 1, 4096)) == 99);
  CHECK(taken(Lengths{}.add(8, 128, 2048).add(120, 1, 2048)) == 0);
  CHECK(taken(Lengths{}.add(4, 4096, 4096).add(64, 1, 2048)) == 58);
  CHECK(taken(Lengths{}.add(4, 4096, 4096)) == 0);                    // nothing to read
  CHECK(taken(Lengths{}.add(4, 4096, 4096).add(1, 1, 100)) == 0);     // hardly anything
  CHECK(taken(Lengths{}.add(64, 1, 2048)) == 0);                      // nothing to multiply
  CHECK(taken(Lengths{}.add(4, 0, 4096)) == 0);
  CHECK(taken(Lengths{}) == 0);
  AttentionConfig window = config;  // what is seen counts: a window leaves nothing to read here
  window.logits.window_left = 63;
  const BatchSize narrow = Lengths{}.add(4, 512, 4096).add(60, 1, 4096).size(window);
  CHECK(narrow.decode_keys == 60 * 64);
  CHECK(narrow.prefill_pairs == 4 * 512 * 64);
}

TEST_CASE("the rule of P12 at its borders") {
  namespace rule = gpu::p12;
  // decode_us of 43e3 keys is 512; prefill_us of 4.85e6 pairs is too.
  const auto of_share = [](double share) {
    return rule::MixedWork{static_cast<std::int64_t>(43e3 * 1000 * share),
                           static_cast<std::int64_t>(4.85e6 * 1000 * (1 - share))};
  };
  CHECK(rule::decode_share(of_share(0.4)) == doctest::Approx(0.4));
  CHECK(rule::decode_share({}) == 0);
  for (const double share : {0.0, 0.04, 0.74, 1.0}) CHECK_FALSE(rule::pays(of_share(share)));
  for (const double share : {0.06, 0.3, 0.5, 0.71}) CHECK(rule::pays(of_share(share)));
  CHECK(rule::decode_ctas(sms, of_share(0.3)) == 58);
  CHECK(rule::decode_ctas(sms, of_share(0.35)) == 99);
  CHECK(rule::decode_ctas(sms, of_share(0.9)) == sms);
  for (std::int32_t few = 1; few < 20; ++few) {
    for (const double share : {0.0, 0.2, 0.5, 1.0}) {
      CHECK(rule::decode_ctas(few, of_share(share)) >= 1);
      CHECK(rule::decode_ctas(few, of_share(share)) <= few);
    }
  }
}

TEST_CASE("a graph takes P12 for all its plans, and only where it is made for mixed batches") {
  const AttentionConfig config = with_heads();
  for (const Lengths& batch : {Lengths{}.add(4, 512, 4096).add(60, 1, 4096), Lengths{}.add(64, 1, 2048), Lengths{},
                               Lengths{}.add(2, 900, 900)}) {
    CHECK(on_hopper.takes_mixed(config.params(), batch.size(config), mixed_graph));
    CHECK_FALSE(on_hopper.takes_mixed(config.params(), batch.size(config), graph));
  }
  GpuChoice without = on_hopper;
  without.p12_for_mixed = false;
  CHECK_FALSE(without.takes_mixed(config.params(), Lengths{}.add(4, 512, 4096).add(60, 1, 4096).size(config), eager));
  CHECK_FALSE(without.takes_mixed(config.params(), {}, mixed_graph));
}

TEST_CASE("who may take P12") {
  const auto may = [](const AttentionConfig& config, const BackendKind& kind) {
    const GpuChoice choice = choose_kernel(config, kind);
    if (choice.p12_for_mixed) CHECK(choice.kernel == GpuKernel::p11);
    return choice.p12_for_mixed;
  };
  const auto with = [](auto change) {
    AttentionConfig config = with_heads();
    change(config);
    return config;
  };
  // Without a Hopper GPU nobody does; what is refused below is refused with one too.
  const bool hopper = choose_kernel(with_heads(), eager).kernel == GpuKernel::p11;
  for (const BackendKind& kind : {eager, graph, mixed_graph}) {
    CHECK(may(with_heads(), kind) == hopper);
    CHECK(may(with([](AttentionConfig& c) { c.cache.dtype = DType::bf16; }), kind) == hopper);
    CHECK(may(with([](AttentionConfig& c) { c.logits.sinks = true, c.logits.window_left = 99; }), kind) == hopper);
    for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::none}) {  // bits that know no neighbours
      CHECK_FALSE(may(with([&](AttentionConfig& c) { c.execution.policy = policy, c.execution.chunk_size = 64; }), kind));
    }
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.execution.backend = Backend::fa2; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.cache.page_size = 12; }), kind));  // would be copied
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.cache.page_size = 1; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.cache.dtype = DType::f32; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.heads.head_dim_qk = 64; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.heads.head_dim_qk = 192, c.heads.head_dim_vo = 128; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.logits.logits_soft_cap = 30; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.logits.mask = MaskMode::custom; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.logits.pos_encoding_mode = PosEncodingMode::ALIBI; }), kind));
    CHECK_FALSE(may(with([](AttentionConfig& c) { c.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }), kind));
  }
  CHECK_FALSE(may(with_heads(), {.decode = true}));
  CHECK_FALSE(may(with_heads(), {.decode = false, .ragged = true}));
  CHECK(std::string(gpu_kernel_for_mixed).find("P12") != std::string::npos);  // what explain() says of such a plan
}

TEST_CASE("P12's plan has D6's tiles for requests of one query and P11's for the others") {
  for (const auto& [qo_heads, kv_heads, decode_tile] : {std::tuple{32, 8, 4}, {8, 1, 8}, {48, 2, 8}, {5, 5, 1}, {9, 1, 5}}) {
    const AttentionConfig config = with_heads(qo_heads, kv_heads);
    const Lengths batch = Lengths{}.add(3, 400, 2000).add(40, 1, 3000).add(1, 0, 70);
    const BatchSize size = batch.size(config);
    CHECK(size.prefill_requests == 3);
    CHECK(size.prefill_queries == 1200);
    const AttentionMachine machine = p12(config, size);
    CHECK(machine.decode_tile == decode_tile);
    CHECK(machine.queue_room == machine.decode_queues);
    CHECK(machine.shape.num_ctas() == sms);
    const Plan plan = planner::make_plan(plan_inputs(config, machine, false, batch.qo, batch.kv));
    REQUIRE(plan.parts.size() == 2);
    CHECK(plan.parts[0].query_tile == decode_tile);
    CHECK(plan.parts[0].queue_indptr.size() == static_cast<std::size_t>(machine.decode_queues) + 1);
    CHECK_FALSE(plan.parts[0].claimed);
    CHECK(plan.parts[1].claimed);
    // The others are planned as if they were alone: as P11 would then.
    const AttentionMachine alone = gpu_machine(GpuKernel::p11, config.params(), {.nnz_qo = 1200, .batch = 3}, {sms});
    CHECK(plan.parts[1].query_tile == alone.prefill_rows);
    CHECK(plan.parts[1].pack == alone.pack);
  }
}

namespace {

struct Draws {
  std::uint32_t state;
  std::int32_t below(std::int32_t n) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::int32_t>((state >> 8) % static_cast<std::uint32_t>(n));
  }
};

// Lengths, and limits that are just large enough for them.
std::pair<Lengths, AttentionLimits> random_batch(Draws& draws) {
  Lengths batch;
  for (std::int32_t b = draws.below(20); b > 0; --b) {
    const std::int32_t kind = draws.below(8), qo = kind == 0 ? 0 : kind < 5 ? 1 : 2 + draws.below(kind == 5 ? 20 : 700);
    batch.add(1, qo, draws.below(9) ? draws.below(5000) : 0);
  }
  AttentionLimits limits{.max_batch = static_cast<std::int32_t>(batch.qo.size()), .max_pages = 0, .max_nnz_qo = 0};
  for (std::size_t b = 0; b < batch.qo.size(); ++b) {
    limits.max_pages += (batch.kv[b] + 15) / 16;
    *limits.max_nnz_qo += batch.qo[b];
  }
  return {batch, limits};
}

AttentionConfig random_config(Draws& draws) {
  const std::int32_t kv_heads = 1 + draws.below(4);
  AttentionConfig config = with_heads(kv_heads * (1 + draws.below(12)), kv_heads);
  config.execution.policy = planner::all_policies[static_cast<std::size_t>(2 + draws.below(4))];  // those that P12 may have
  if (draws.below(3) == 0) config.logits.window_left = draws.below(900);
  return config;
}

}  // namespace

TEST_CASE("any mixed batch fits what was bought for its limits by a graph") {
  Draws draws{12};
  std::size_t two_parts = 0;
  for (int trial = 0; trial < 400; ++trial) {
    const AttentionConfig config = random_config(draws);
    const auto [batch, limits] = random_batch(draws);
    CAPTURE(trial);
    BatchSize size{.nnz_qo = *limits.max_nnz_qo, .batch = limits.max_batch, .most_qo_len = *limits.max_nnz_qo,
                   .of_limits = true};
    const AttentionMachine of_limits = p12(config, size);
    const planner::CaptureLimits most = most_work(plan_inputs(config, of_limits, false, {}, {}), limits);
    const BatchSize planned = batch.size(config);
    size.decode_keys = planned.decode_keys, size.prefill_pairs = planned.prefill_pairs;
    const AttentionMachine machine = p12(config, size);
    // What the launch is made of is the same for all plans.
    CHECK(machine.queue_room == of_limits.queue_room);
    CHECK(machine.decode_queues <= machine.queue_room);
    CHECK((machine.prefill_rows == of_limits.prefill_rows && machine.pack == of_limits.pack));
    const planner::PlanInputs in = plan_inputs(config, machine, false, batch.qo, batch.kv);
    const Plan plan = planner::make_plan(in);
    CHECK(planner::exceeds(plan, in, most) == "");
    two_parts += plan.parts[0].num_work() > 0 && plan.parts[1].num_work() > 0;
  }
  CHECK(two_parts > 200);
}

// workspace_bytes(limits) of the prefill class takes the larger of what few and many queries a request need.
TEST_CASE("any mixed batch fits what was bought for its limits by a prefill") {
  Draws draws{21};
  for (int trial = 0; trial < 400; ++trial) {
    const AttentionConfig config = random_config(draws);
    const auto [batch, limits] = random_batch(draws);
    CAPTURE(trial);
    const BatchSize size = batch.size(config);
    if (!on_hopper.takes_mixed(config.params(), size, eager)) continue;
    const AttentionMachine machine = p12(config, size);
    const planner::PlanInputs in = plan_inputs(config, machine, false, batch.qo, batch.kv);
    const Plan plan = planner::make_plan(in);
    bool has_room = false;
    for (const std::int64_t queries : {std::int64_t{2}, std::int64_t{limits.max_batch} << 31}) {
      const AttentionMachine bought = p12(config, size_of_mixed(config, limits.max_batch, queries));
      CHECK(bought.queue_room >= machine.queue_room);
      if (bought.pack != machine.pack) continue;
      const planner::CaptureLimits most = most_work(plan_inputs(config, bought, false, {}, {}), limits);
      has_room = has_room || planner::exceeds(plan, in, most) == "";
    }
    CHECK(has_room);
  }
}
