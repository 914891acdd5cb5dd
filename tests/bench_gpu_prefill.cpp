// The prefills that are timed on a GPU: their cases and inputs.
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "bench/gpu_cases.hpp"
#include "bench/prefill_inputs.hpp"
#include "ladder/cases/drawn/random.hpp"

using namespace flashladder;
using namespace flashladder::bench;

TEST_CASE("family prefill says of another case why it is not timed") {
  const ladder::CaseSpec good = prefill_case("B2 S8192 32/8 p16 causal w1023");
  CHECK(why_not_timed_as_prefill(good) == "");
  ladder::CaseSpec features = good;
  features.params.pos_encoding_mode = PosEncodingMode::ALIBI, features.params.sinks = true;
  features.custom_mask = ladder::CustomMask::tree, features.params.mask = MaskMode::custom;
  CHECK(why_not_timed_as_prefill(features) == "");
  const auto refused = [&](auto change) {
    ladder::CaseSpec spec = good;
    change(spec);
    return why_not_timed_as_prefill(spec);
  };
  CHECK(refused([](auto& s) { s.dtype = DType::f32; }) == "family prefill takes f16 and bf16");
  CHECK(refused([](auto& s) { s.kv_layout = KvLayout::HND; }).find("NHD") != std::string::npos);
  CHECK(refused([](auto& s) { s.block_table = true; }).find("page lists") != std::string::npos);
  CHECK(refused([](auto& s) { s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }).find("rotate") != std::string::npos);
  CHECK(refused([](auto& s) { s.values = ladder::Values::large; }).find("normal") != std::string::npos);
  CHECK(refused([](auto& s) { s.qo_lens[1] = 0; }).find("a query") != std::string::npos);
  CHECK(refused([](auto& s) { s.kv_lens[1] = 8191; }).find("a key for each query") != std::string::npos);
}

// Peers are told a case by its shape, and readers of a table by its name.
TEST_CASE("a prefill's name says what its shape is, and its bytes and operations are those of the shape") {
  for (const PrefillCase& c : prefill_cases()) {
    CAPTURE(c.spec.name);
    const AttentionParams& p = c.spec.params;
    const bool causal = p.mask == MaskMode::causal, many = c.spec.qo_lens != c.spec.kv_lens;
    const auto number = [](std::int64_t n) { return std::to_string(n); };
    const std::string length = number(c.spec.kv_lens[0]), paged = number(c.spec.page_size);
    const std::string heads = number(p.num_qo_heads) + "/" + number(p.num_kv_heads);
    std::string name = "B" + number(c.spec.batch());
    name += many ? " q" + number(c.spec.qo_lens[0]) + " kv" + length : " S" + length;
    if (c.spec.kv_lens[0] != c.spec.kv_lens.back()) name = "B64 S lognormal";
    name += " " + heads;
    if (p.head_dim_qk != p.head_dim_vo) name += " d" + number(p.head_dim_qk) + "/" + number(p.head_dim_vo);
    else if (p.head_dim_qk != 128) name += " d" + number(p.head_dim_qk);
    if (c.spec.page_size > 0) name += " p" + paged;
    name += causal ? " causal" : " full";
    if (c.spec.page_size == 0) name += " contiguous";
    if (c.spec.dtype == DType::bf16) name += " bf16";
    if (p.window_left >= 0) name += " w" + number(p.window_left);
    if (p.logits_soft_cap > 0) name += " cap" + number(static_cast<std::int64_t>(p.logits_soft_cap));
    CHECK(c.spec.name == name);
    CHECK(p.sm_scale == default_sm_scale(p.head_dim_qk));
    double keys = 0, pairs = 0;
    for (std::size_t b = 0; b < c.spec.kv_lens.size(); ++b) {
      const double q = c.spec.qo_lens[b], kv = c.spec.kv_lens[b], window = p.window_left + 1;
      keys += kv, pairs += causal ? q * (kv - q) + q * (q + 1) / 2 : q * kv;
      if (window > 0) pairs -= (kv - window) * (kv - window + 1) / 2;  // of prompts: as many queries as keys
    }
    CHECK(c.bytes() == keys * p.num_kv_heads * (p.head_dim_qk + p.head_dim_vo) * 2);
    CHECK(c.flops() == 2 * pairs * p.num_qo_heads * (p.head_dim_qk + p.head_dim_vo));
  }
}

TEST_CASE("the ladder's cases are a short and a long prefill that the lower rungs take") {
  const std::vector<PrefillCase> cases = prefill_ladder_cases();
  CHECK(case_strings(Family::prefill_ladder) == std::vector<std::string>{"B1 S2048 32/8 p16 causal", "B2 S8192 32/8 p16 causal"});
  for (const PrefillCase& c : cases) {
    ladder::validate(c.spec);
    CHECK(ladder::case_string(c.spec) == c.spec.name);
    CHECK(c.spec.dtype == DType::f16);
  }
  CHECK(cases[0].flops() == 4.0 * 128 * 32 * 2048 * 2049 / 2);
}

// bench/peers/prefill_error.py has the same numbers in its self test.
TEST_CASE("a prefill's inputs are those that the peers' script makes") {
  CHECK(draw_elements(DType::f16, 4, q_seed) == std::vector<std::uint16_t>{46422, 15840, 15512, 48275});
  CHECK(draw_elements(DType::bf16, 4, v_seed) == std::vector<std::uint16_t>{15524, 48871, 15975, 49068});
  CHECK(draw_elements(DType::f16, drawn_elements + 5, k_seed).size() == static_cast<std::size_t>(drawn_elements));
  CHECK(value_of(DType::f16, 0xc000) == -2);
  CHECK(value_of(DType::bf16, 0x3fc0) == 1.5);
  CHECK(shuffled_pages(8) == std::vector<std::int32_t>{0, 1, 4, 6, 2, 7, 3, 5});
  ladder::CaseSpec spec = prefill_case("B2 S8192 32/8 p16 causal");
  spec.qo_lens = spec.kv_lens = {2048, 2148, 2248, 2348, 2448, 2548, 2648};
  std::vector<std::array<std::int32_t, 3>> rows;
  for (std::int32_t n = 0; n < 4; ++n) {
    const SampledRow row = sampled_row(spec, n);
    rows.push_back({row.request, row.query, row.head});
  }
  CHECK(rows == std::vector<std::array<std::int32_t, 3>>{{0, 0, 16}, {4, 2447, 7}, {2, 1956, 18}, {1, 1760, 4}});
}

TEST_CASE("prefills of a length, and the cases that a family is given instead of its own") {
  const ladder::CaseSpec one = prefill_case(16, 1024);
  CHECK(one.name == "B16 S1024 32/8 p16 causal");
  CHECK(one.qo_lens == std::vector<std::int32_t>(16, 1024));
  CHECK(ladder::case_string(one) == one.name);
  CHECK(chosen_or({}, prefill_ladder_cases).size() == prefill_ladder_cases().size());
  const std::vector<PrefillCase> given = chosen_or({one}, prefill_ladder_cases);
  REQUIRE(given.size() == 1);
  CHECK(given[0].spec.name == one.name);
  CHECK(given[0].fa2_too);
}
