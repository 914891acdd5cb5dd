// Once more, and at the same time: a prepared GPU rung gives the same bits each time it runs, also when another plan runs
// beside it on another stream. Counters that do not return to zero, partials merged as they arrive, workspace read before it
// is written: here they show. Latent attention's rungs: ladder_gpu_mla.cpp.
#include <doctest/doctest.h>

#include "ladder/rung.hpp"
#include "tests/repeated.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using planner::SplitPolicy;
using test::Repeated, test::times_or;

namespace {

// One long request among many short and some empty ones: what splits, queues and merges are about.
CaseSpec skewed(std::uint64_t seed, std::int32_t longest, std::int32_t num_qo_heads, std::int32_t num_kv_heads,
                std::int32_t page_size = 16) {
  CaseSpec spec;
  spec.page_size = page_size;
  spec.name = "skewed";
  spec.seed = seed;
  spec.dtype = DType::f16;
  for (std::int32_t b = 0; b < 24; ++b) spec.kv_lens.push_back(b == 7 ? longest : b % 5 == 0 ? 0 : 1 + 97 * b % 700);
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.params = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = 128, .head_dim_vo = 128,
                 .sm_scale = 0.0883883f};
  return spec;
}

// ... with no query, one, a few and many in turn, causal. The long request, the seventh, has many. With few queries in all
// P11 packs the heads of a group into a tile; with many it does not.
CaseSpec skewed_prefill(std::uint64_t seed, std::int32_t longest, bool many_queries, std::int32_t page_size = 16) {
  CaseSpec spec = skewed(seed, longest, 8, 2, page_size);
  spec.name = many_queries ? "skewed prefill" : "skewed append";
  spec.params.mask = MaskMode::causal;
  constexpr std::int32_t few[] = {1, 0, 7, 130}, many[] = {130, 1, 0, 400};
  for (std::size_t b = 0; b < spec.qo_lens.size(); ++b) spec.qo_lens[b] = (many_queries ? many : few)[b % 4];
  return spec;
}

// Pages of 5 tokens, which P11 copies together first; P6 to P10 take multiples of 8 alone.
std::int32_t small_page(const Rung& rung) { return rung.supports(skewed(1, 100, 8, 2, 5)) ? 5 : 8; }

// A rung that its GPU does not run takes none; else a decode rung takes the decode cases, a prefill rung all.
int expected_cases(const Rung& rung, int decode, int all) {
  if (!rung.supports(skewed(1, 100, 8, 2))) return 0;
  return rung.name.starts_with("D") ? decode : all;
}

}  // namespace

TEST_CASE("the same inputs give the same bits over 100 runs") {
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu) continue;
    int taken = 0;
    for (const Settings& settings : {Settings{.policy = SplitPolicy::balanced},
                                     Settings{.policy = SplitPolicy::fixed, .chunk_size = 256, .num_sms = 8}}) {
      const std::int32_t page_size = settings.policy == SplitPolicy::fixed ? small_page(rung) : 16;
      for (const CaseSpec& spec : {skewed(11, 9000, 8, 2, page_size), skewed_prefill(12, 9000, false, page_size),
                                   skewed_prefill(13, 3000, true, page_size)}) {
        if (!rung.supports(spec)) continue;  // a decode rung takes the first, a prefill rung all
        ++taken;
        Repeated repeated(rung, spec, settings);
        const int runs = times_or(100);
        const int differing = repeated.differing(runs);
        CHECK_MESSAGE(differing == 0, rung.name, ", ", spec.name, ", policy ", name_of(settings.policy), ": ", differing,
                      " of ", runs, " runs differ");
      }
    }
    CHECK_MESSAGE(taken == expected_cases(rung, 2, 6), rung.name, " took ", taken, " cases");
  }
}

// A group of 3 heads leaves a row of 64 empty in P11's tiles: what a copy does not write there is an earlier kernel's.
// Logits are small but for that row's, so that a choice which the row takes part in shows. (Its NaN would not be the
// largest.)
TEST_CASE("what shared memory held before decides nothing") {
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu) continue;
    int taken = 0;
    for (CaseSpec spec : {skewed(31, 900, 6, 2), skewed_prefill(32, 900, false), skewed_prefill(33, 900, true)}) {
      spec.params.num_qo_heads = 6, spec.params.num_kv_heads = 2;
      for (const float soft_cap : {0.0f, 20.0f}) {
        spec.params.logits_soft_cap = soft_cap;
        if (!rung.supports(spec)) continue;
        ++taken;
        Repeated repeated(rung, spec, {.policy = SplitPolicy::balanced});
        for (const std::uint32_t word : {0u, 0x70007000u}) {  // large in f16, in bf16 and in f32
          CHECK_MESSAGE(repeated.same_behind(word), rung.name, ", ", spec.name, ", soft cap ", soft_cap, ", word ", word);
        }
      }
    }
    CHECK_MESSAGE((taken == 0) == (expected_cases(rung, 1, 1) == 0), rung.name, " took ", taken, " cases");
  }
}

// Each for some of the SMs, so that the GPU has room for both.
TEST_CASE("two plans run at once on two streams and give what they give alone") {
  for (const Rung& rung : rungs()) {
    if (rung.device != Device::gpu) continue;
    const CaseSpec pairs[][2] = {{skewed(21, 6000, 8, 1), skewed(22, 2500, 12, 4, small_page(rung))},
                                 {skewed_prefill(23, 6000, false), skewed_prefill(24, 2500, true, small_page(rung))}};
    int taken = 0;
    for (const auto& [first, second] : pairs) {
      if (!rung.supports(first) || !rung.supports(second)) continue;
      ++taken;
      Repeated a(rung, first, {.policy = SplitPolicy::balanced, .num_sms = 40});
      Repeated b(rung, second, {.policy = SplitPolicy::fixed, .chunk_size = 128, .num_sms = 40});
      const int runs = times_or(50);
      const test::Beside differing = differing_beside(a, b, runs);
      CHECK_MESSAGE(differing.first == 0, rung.name, ", ", first.name, ": ", differing.first, " of ", runs, " runs differ");
      CHECK_MESSAGE(differing.second == 0, rung.name, ", ", second.name, " beside it: ", differing.second, " of ", runs,
                    " runs differ");
    }
    CHECK_MESSAGE(taken == expected_cases(rung, 1, 2), rung.name, " took ", taken, " pairs");
  }
}
