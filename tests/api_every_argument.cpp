// No argument is silently ignored: each, taken off its default, changes the result or is refused, but for the hints that
// docs/api.md lists ("Hints"). A hint may change how a result is computed, not what it is. On the CPU.
//
// That none is forgotten: the structs are taken apart into as many names as they have fields, so that with one more this does
// not compile.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tests/api_prefill.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

enum class Becomes { another, the_same };

// What call() gives, or why it was refused.
struct Answer {
  Result result;
  std::string refused;
};
Answer answer(const std::function<Result()>& call) {
  Answer a;
  a.refused = refusal([&] { a.result = call(); }, "");
  return a;
}

bool close(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && !(std::abs(a[i] - b[i]) <= 1e-4f)) return false;  // equal: infinities too
  }
  return true;
}

void check_change(const char* name, const Answer& base, const Answer& changed, Becomes expected) {
  INFO(std::string(name), ": ", changed.refused.empty() ? "accepted" : changed.refused);
  REQUIRE(base.refused.empty());
  const bool same = changed.refused.empty() && close(base.result.o, changed.result.o) &&
                    close(base.result.lse_log2, changed.result.lse_log2);
  CHECK(same == (expected == Becomes::the_same));
}

struct ConfigChange {
  const char* name;
  std::function<void(AttentionConfig&)> change;
  Becomes becomes = Becomes::another;
};

const std::vector<ConfigChange>& config_changes() {
  using C = AttentionConfig;
  static const std::vector<ConfigChange> changes = {
      {"num_qo_heads", [](C& c) { c.heads.num_qo_heads = 4; }},
      {"num_kv_heads", [](C& c) { c.heads.num_kv_heads = 3; }},
      {"head_dim_qk", [](C& c) { c.heads.head_dim_qk = 32; }},
      {"head_dim_vo", [](C& c) { c.heads.head_dim_vo = 32; }},
      {"page_size", [](C& c) { c.cache.page_size *= 2; }},
      {"dtype", [](C& c) { c.cache.dtype = DType::bf16; }},
      {"sm_scale", [](C& c) { c.logits.sm_scale = 0.1f; }},
      {"mask", [](C& c) { c.logits.mask = MaskMode::custom; }},
      {"window_left", [](C& c) { c.logits.window_left = 9; }},
      {"logits_soft_cap", [](C& c) { c.logits.logits_soft_cap = 1; }},
      {"pos_encoding_mode ALIBI", [](C& c) { c.logits.pos_encoding_mode = PosEncodingMode::ALIBI; }},
      {"pos_encoding_mode NONE", [](C& c) { c.logits.pos_encoding_mode = PosEncodingMode::NONE; }},
      {"rope_scale", [](C& c) { c.logits.rope_scale = 2; }},
      {"rope_theta", [](C& c) { c.logits.rope_theta = 100; }},
      {"sinks", [](C& c) { c.logits.sinks = !c.logits.sinks; }},
      {"device", [](C& c) { c.execution.device = Device::gpu; }},
      {"policy", [](C& c) { c.execution.policy = SplitPolicy::none; }, Becomes::the_same},
      {"policy, chunk_size", [](C& c) { c.execution.policy = SplitPolicy::fixed, c.execution.chunk_size = 64; },
       Becomes::the_same},
      {"threads", [](C& c) { c.execution.threads = 1; }, Becomes::the_same},
      {"enable_pdl", [](C& c) { c.execution.enable_pdl = true; }, Becomes::the_same},
      {"backend", [](C& c) { c.execution.backend = Backend::fa2; }},
      {"num_sms", [](C& c) { c.execution.num_sms = 7; }, Becomes::the_same},
      {"q_dtype", [](C& c) { c.q_dtype = DType::bf16; }},
      {"o_dtype", [](C& c) { c.o_dtype = DType::f16; }},
  };
  return changes;
}

// RoPE, so that its two numbers count, and sinks, in a batch whose requests have several pages.
Case rotated_case(const std::vector<std::int32_t>& qo_lens, MaskMode mask) {
  CaseSpec spec{.name = "every argument", .seed = 11, .qo_lens = qo_lens, .kv_lens = {90, 0, 41}, .page_size = 8,
                .dtype = DType::f16};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f, .mask = mask,
                 .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, .sinks = true};
  return draw_case(spec);
}

Result by_decode(const Case& c, const AttentionConfig& config, const KvScales& scales) {
  Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    decode.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out, nullptr, c.sinks, {}, scales);
  });
}

Result by_prefill(const Case& c, const AttentionConfig& config, const KvScales& scales) {
  using Prefill = BatchPrefillWithPagedKVCache;
  Memory memory(Prefill::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len));
  Prefill prefill(config, memory.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out, nullptr, c.sinks, {}, scales);
  });
}

void check_configs(const Case& c, Result (*run)(const Case&, const AttentionConfig&, const KvScales&)) {
  const AttentionConfig base = config_of(c.spec, Device::cpu, DType::f32);
  const Answer expected = answer([&] { return run(c, base, {}); });
  for (const ConfigChange& change : config_changes()) {
    AttentionConfig config = base;
    change.change(config);
    REQUIRE_MESSAGE(config != base, change.name);
    check_change(change.name, expected, answer([&] { return run(c, config, {}); }), change.becomes);
  }
}

}  // namespace

TEST_CASE("every field of a config has its change") {
  const AttentionConfig config;
  [[maybe_unused]] const auto& [heads, cache, logits, execution, q_dtype, o_dtype] = config;
  [[maybe_unused]] const auto& [num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo] = heads;
  [[maybe_unused]] const auto& [page_size, dtype] = cache;
  [[maybe_unused]] const auto& [sm_scale, mask, window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta,
                                sinks] = logits;
  [[maybe_unused]] const auto& [device, policy, chunk_size, threads, enable_pdl, backend, num_sms] = execution;
  constexpr std::size_t fields = 4 + 2 + 8 + 7 + 2;
  CHECK(config_changes().size() == fields + 1);  // pos_encoding_mode has two
}

TEST_CASE("every field of a config has an effect on decode and prefill or is refused, but for hints") {
  check_configs(rotated_case({1, 1, 1}, MaskMode::none), by_decode);
  check_configs(rotated_case({20, 3, 9}, MaskMode::causal), by_prefill);
}

TEST_CASE("every option of a single call has an effect or is refused") {
  CaseSpec spec{.name = "single", .seed = 3, .qo_lens = {12}, .kv_lens = {40}, .page_size = 1, .dtype = DType::f16};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f};
  const Case c = draw_case(spec);
  const AttentionProblem problem = c.problem();
  Tokens keys(c, problem.kv.k, problem.kv.k_strides, 64), values(c, problem.kv.v, problem.kv.v_strides, 64);
  const auto run = [&](const SingleAttentionOptions& options) {
    return answer([&] {
      return written(c, DType::f32, [&](const AttentionOutput& out) {
        single_prefill_with_kv_cache(c.q.view(), keys.tensor(), values.tensor(), out, options);
      });
    });
  };
  const std::vector<float> sinks(6, 0.5f);
  const std::vector<std::uint8_t> every_other = [] {
    std::vector<std::uint8_t> bytes(std::size_t{12} * 40);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = i % 2;
    return bytes;
  }();
  const std::vector<std::uint8_t> every_other_bit(every_other.size() / 8, 0xaa);
  const SingleAttentionOptions base_options;
  [[maybe_unused]] const auto& [logits, kv_layout, sink_values, mask_bytes, mask_bits, scales] = base_options;
  [[maybe_unused]] const auto& [k_scale, v_scale, k_scale_per_head, v_scale_per_head] = scales;
  const std::vector<float> per_head{2.0f, 0.5f};
  const Answer base = run({});
  using O = SingleAttentionOptions;
  const std::vector<std::pair<const char*, std::function<void(O&)>>> changes = {
      {"sm_scale", [](O& o) { o.logits.sm_scale = 0.3f; }},
      {"mask", [](O& o) { o.logits.mask = MaskMode::causal; }},
      {"mask without its bytes", [](O& o) { o.logits.mask = MaskMode::custom; }},
      {"window_left", [](O& o) { o.logits.window_left = 3; }},
      {"logits_soft_cap", [](O& o) { o.logits.logits_soft_cap = 1; }},
      {"ALIBI", [](O& o) { o.logits.pos_encoding_mode = PosEncodingMode::ALIBI; }},
      {"ROPE_LLAMA", [](O& o) { o.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }},
      {"sinks without values", [](O& o) { o.logits.sinks = true; }},
      {"kv_layout", [](O& o) { o.kv_layout = KvLayout::HND; }},
      {"sinks", [&](O& o) { o.sinks = sinks; }},
      {"k_scale", [](O& o) { o.scales.k = 2; }},
      {"v_scale", [](O& o) { o.scales.v = 2; }},
      {"k_scale_per_head", [&](O& o) { o.scales.k_per_head = per_head; }},
      {"v_scale_per_head", [&](O& o) { o.scales.v_per_head = per_head; }},
      {"custom_mask without the mode", [&](O& o) { o.custom_mask = every_other; }},
      {"custom_mask", [&](O& o) { o.custom_mask = every_other, o.logits.mask = MaskMode::custom; }},
      {"packed_custom_mask without the mode", [&](O& o) { o.packed_custom_mask = every_other_bit; }},
      {"packed_custom_mask", [&](O& o) { o.packed_custom_mask = every_other_bit, o.logits.mask = MaskMode::custom; }},
  };
  for (const auto& [name, change] : changes) {
    SingleAttentionOptions options;
    change(options);
    check_change(name, base, run(options), Becomes::another);
  }
}

TEST_CASE("every scale of K and V has an effect on decode and prefill or is refused") {
  const std::vector<float> per_head{2.0f, 0.5f}, three(3, 1.0f);
  const Case decoded = rotated_case({1, 1, 1}, MaskMode::none), prompt = rotated_case({20, 3, 9}, MaskMode::causal);
  const std::pair<const Case&, Result (*)(const Case&, const AttentionConfig&, const KvScales&)> runs[] = {
      {decoded, by_decode}, {prompt, by_prefill}};
  for (const auto& [c, run] : runs) {
    const AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
    const auto scaled = [&](const KvScales& scales) { return answer([&] { return run(c, config, scales); }); };
    const Answer base = scaled({});
    check_change("k_scale", base, scaled({.k = 2}), Becomes::another);
    check_change("v_scale", base, scaled({.v = 2}), Becomes::another);
    check_change("k_scale_per_head", base, scaled({.k_per_head = per_head}), Becomes::another);
    check_change("v_scale_per_head", base, scaled({.v_per_head = per_head}), Becomes::another);
    check_change("too many", base, scaled({.v_per_head = three}), Becomes::another);
  }
}

TEST_CASE("every option of RoPE and of the norms has an effect or is refused") {
  std::vector<float> q(std::size_t{3} * 2 * 64), k(std::size_t{3} * 64);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i));
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = std::cos(static_cast<float>(i));
  const std::vector<std::int32_t> positions{0, 17, 9000};
  const auto rotated = [&](const RopeOptions& options) {
    return answer([&] {
      Result r{q, k};
      apply_rope_pos_ids_inplace(contiguous(r.o.data(), DType::f32, {3, 2, 64}),
                                 contiguous(r.lse_log2.data(), DType::f32, {3, 1, 64}), positions, options);
      return r;
    });
  };
  const RopeOptions base_options;
  [[maybe_unused]] const auto& [rotary_dim, interleave, rope_scale, rope_theta, llama31] = base_options;
  const Answer base = rotated({});
  check_change("rotary_dim", base, rotated({.rotary_dim = 32}), Becomes::another);
  check_change("interleave", base, rotated({.interleave = true}), Becomes::another);
  check_change("rope_scale", base, rotated({.rope_scale = 2}), Becomes::another);
  check_change("rope_theta", base, rotated({.rope_theta = 500}), Becomes::another);
  const RopeOptions scaled{.rope_scale = 8, .llama31 = Llama31Scaling{}};
  check_change("llama31", rotated({.rope_scale = 8}), rotated(scaled), Becomes::another);
  [[maybe_unused]] const auto& [low_freq_factor, high_freq_factor, old_context_len] = *scaled.llama31;
  const auto of_llama31 = [&](const Llama31Scaling& scaling) {
    RopeOptions options = scaled;
    options.llama31 = scaling;
    return rotated(options);
  };
  check_change("low_freq_factor", rotated(scaled), of_llama31({.low_freq_factor = 2}), Becomes::another);
  check_change("high_freq_factor", rotated(scaled), of_llama31({.high_freq_factor = 6}), Becomes::another);
  check_change("old_context_len", rotated(scaled), of_llama31({.old_context_len = 1024}), Becomes::another);

  using Norm = void (*)(const ConstTensor&, const ConstTensor&, const Tensor&, float, const On&);
  for (const Norm norm : {Norm{rmsnorm}, Norm{gemma_rmsnorm}}) {
    const auto normed = [&](float eps, float weight) {
      return answer([&] {
        std::vector<float> weights(64, weight);
        Result r{std::vector<float>(k.size()), {}};
        norm(contiguous(k.data(), DType::f32, {3, 64}), contiguous(weights.data(), DType::f32, {64}),
             contiguous(r.o.data(), DType::f32, {3, 64}), eps, {});
        return r;
      });
    };
    check_change("eps", normed(1e-6f, 1), normed(0.5f, 1), Becomes::another);
    check_change("weight", normed(1e-6f, 1), normed(1e-6f, 2), Becomes::another);
  }
}
