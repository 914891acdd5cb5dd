// Which batches of few queries a request P11 computes in D6's place, and that its plan then cuts nothing. No GPU needed.
#include <doctest/doctest.h>

#include <vector>

#include "api/attention_session.hpp"
#include "api/batch_size.hpp"
#include "api/gpu_call.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/prefill/one_wave.hpp"
#include "planner/planner.hpp"

using namespace flashladder;
using namespace flashladder::api;

namespace {

constexpr std::int32_t sms = 132;

struct Lengths {
  std::vector<std::int32_t> qo, kv;
  Lengths& add(std::int32_t requests, std::int32_t qo_len, std::int32_t kv_len) {
    qo.insert(qo.end(), requests, qo_len), kv.insert(kv.end(), requests, kv_len);
    return *this;
  }
};

AttentionConfig with_heads(std::int32_t num_qo_heads, std::int32_t num_kv_heads) {
  return {.heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = 128},
          .cache = {.page_size = 16, .dtype = DType::f16},
          .logits = {.mask = MaskMode::causal}};
}

// As choose_kernel() makes it on a Hopper GPU.
const GpuChoice on_hopper{.kernel = GpuKernel::p11, .why = "fa3", .d6_queries = 16};

bool p11(const AttentionConfig& config, const Lengths& batch, const GpuChoice& choice = on_hopper, bool graph = false) {
  return choice.in_one_wave(config, size_of_batch(config, false, batch.qo, batch.kv), sms, graph);
}

// Tiles that are cut, and all tiles, in the plan of this kernel.
struct Cut {
  std::size_t cut, all;
};
Cut cuts(GpuKernel kernel, const AttentionConfig& config, const Lengths& batch) {
  const BatchSize size = size_of_batch(config, false, batch.qo, batch.kv);
  AttentionMachine machine = gpu_machine(kernel, config.params(), size, {.num_sms = sms});
  machine.one_wave = kernel == GpuKernel::p11;
  const Plan plan = planner::make_plan(plan_inputs(config, machine, false, batch.qo, batch.kv));
  const auto cut = static_cast<std::size_t>(plan.num_merges());
  return {cut, batch.qo.size() * static_cast<std::size_t>(config.heads.num_kv_heads)};
}

}  // namespace

// docs/measurements/h200-features.md, "Few queries a request": P11 was the faster on one of them.
TEST_CASE("P11 is taken on the measured batch of few queries on which it was the faster, and on no other") {
  CHECK(p11(with_heads(64, 8), Lengths{}.add(16, 2, 2048)));
  CHECK_FALSE(p11(with_heads(32, 8), Lengths{}.add(32, 2, 8192)));
  CHECK_FALSE(p11(with_heads(32, 8), Lengths{}.add(32, 4, 8192)));
  CHECK_FALSE(p11(with_heads(32, 8), Lengths{}.add(4, 4, 4096)));
}

TEST_CASE("the rule of one wave at its borders") {
  using gpu::p11::one_wave;
  CHECK(one_wave({.tiles = 132, .rows = 16, .most_keys = 4000, .keys = 132 * 4000}, sms));
  CHECK_FALSE(one_wave({.tiles = 133, .rows = 16, .most_keys = 4000, .keys = 133 * 4000}, sms));   // a second wave
  CHECK_FALSE(one_wave({.tiles = 132, .rows = 8, .most_keys = 4000, .keys = 132 * 4000}, sms));    // one fragment
  CHECK(one_wave({.tiles = 132, .rows = 9, .most_keys = 4000, .keys = 132 * (4000 - 128)}, sms));  // mostly shorter
  CHECK_FALSE(one_wave({.tiles = 132, .rows = 9, .most_keys = 4000, .keys = 132 * (4000 - 128) - 1}, sms));
  CHECK(one_wave({.tiles = 66, .rows = 16, .most_keys = 256, .keys = 66 * 256}, sms));
  CHECK_FALSE(one_wave({.tiles = 65, .rows = 16, .most_keys = 256, .keys = 65 * 256}, sms));       // SMs without work
}

TEST_CASE("where P11 is taken for few queries its plan cuts nothing and that of D6 mostly does") {
  std::uint32_t state = 3;
  const auto below = [&](std::uint32_t n) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::int32_t>((state >> 8) % n);
  };
  int taken = 0, cut_by_d6 = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const std::int32_t kv_heads = 1 << below(6), kv_len = 100 + below(6000), differ = 1 + below(200);
    const AttentionConfig config = with_heads(8 * kv_heads, kv_heads);
    Lengths batch;
    for (std::int32_t b = sms / kv_heads - below(4); b > 0; --b) {
      batch.add(1, 2, kv_len + below(static_cast<std::uint32_t>(differ)));
    }
    if (!p11(config, batch)) continue;
    ++taken;
    const Cut none = cuts(GpuKernel::p11, config, batch), some = cuts(GpuKernel::d6, config, batch);
    CHECK(none.cut == 0);
    cut_by_d6 += some.cut * 2 > some.all;
  }
  MESSAGE(taken, " of 3000 batches, of which D6 cuts most tiles in ", cut_by_d6);
  CHECK(taken > 100);
  CHECK(cut_by_d6 > taken / 2);
}

TEST_CASE("who does not take P11 for few queries, whatever the batch") {
  const AttentionConfig config = with_heads(64, 8);
  const Lengths batch = Lengths{}.add(16, 2, 2048);
  const auto with = [&](auto change) {
    AttentionConfig changed = config;
    change(changed);
    return changed;
  };
  CHECK_FALSE(p11(config, batch, on_hopper, true));
  CHECK_FALSE(p11(with([](AttentionConfig& c) { c.execution.policy = SplitPolicy::count; }), batch));
  CHECK_FALSE(p11(with([](AttentionConfig& c) { c.logits.window_left = 1023; }), batch));
  CHECK_FALSE(p11(with([](AttentionConfig& c) { c.heads.head_dim_qk = 64; }), batch));
  GpuChoice other = on_hopper;
  other.kernel = GpuKernel::p5;
  CHECK_FALSE(p11(config, batch, other));
  other = on_hopper, other.copies = PageCopies::always;
  CHECK_FALSE(p11(config, batch, other));
  CHECK_FALSE(p11(config, Lengths{}.add(15, 2, 2048).add(1, 1, 2048)));  // a request of one query stays with D6
  CHECK_FALSE(p11(config, Lengths{}));
  BatchSize limits{.nnz_qo = 32, .batch = 16, .most_qo_len = 2, .most_kv_len = 2048, .of_limits = true};
  limits.prefill_requests = 16, limits.prefill_queries = 32, limits.prefill_keys = 16 * 2048;
  CHECK_FALSE(on_hopper.in_one_wave(config, limits, sms, false));
}

TEST_CASE("a workspace for limits has room for the plan of few queries in one wave") {
  const AttentionConfig config = with_heads(64, 8);
  const Lengths batch = Lengths{}.add(16, 2, 2048);
  const BatchSize of_batch = size_of_batch(config, false, batch.qo, batch.kv);
  const BatchSize of_limits{.nnz_qo = 16, .batch = 16, .most_qo_len = BatchSize::many_queries, .of_limits = true};
  const AttentionMachine planned = gpu_machine(GpuKernel::p11, config.params(), of_batch, {.num_sms = sms});
  const AttentionMachine bought = gpu_machine(GpuKernel::p11, config.params(), of_limits, {.num_sms = sms});
  CHECK(planned.pack == bought.pack);
  CHECK(planned.prefill_rows == bought.prefill_rows);
  CHECK(planned.claimed == bought.claimed);
  CHECK(planned.shape.num_ctas() == bought.shape.num_ctas());
}
