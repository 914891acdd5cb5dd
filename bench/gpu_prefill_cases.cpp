// The prefills that are timed on a GPU.
#include <algorithm>
#include <string_view>

#include "bench/gpu_cases.hpp"
#include "bench/gpu_lengths.hpp"
#include "core/error.hpp"
#include "core/visibility.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {

using ladder::CaseSpec;

double PrefillCase::bytes() const {
  const AttentionParams& p = spec.params;
  std::int64_t keys = 0;
  for (std::int32_t b = 0; b < spec.batch(); ++b) {
    const std::int32_t qo_len = spec.qo_lens[static_cast<std::size_t>(b)], kv_len = spec.kv_lens[static_cast<std::size_t>(b)];
    keys += visible_keys(p, qo_len, kv_len, Range{0, qo_len}).size();
  }
  return static_cast<double>(keys) * p.num_kv_heads * (p.head_dim_qk + p.head_dim_vo) * 2;
}
double PrefillCase::flops() const {
  const AttentionParams& p = spec.params;
  return 2.0 * static_cast<double>(spec.visible_pairs()) * p.num_qo_heads * (p.head_dim_qk + p.head_dim_vo);
}

std::vector<PrefillCase> prefill_cases() {
  struct Shape {
    const char* name;
    Lengths qo_lens, kv_lens;
    std::int32_t qo_heads, kv_heads, head_dim_qk, head_dim_vo, page_size;
    bool causal, fa2_too;
  };
  const Lengths long2 = uniform(2, 8192), short4 = uniform(4, 2048), one = {16384}, half = {8192};
  const Shape shapes[] = {
      {"B2 S8192 32/8 p16 causal", long2, long2, 32, 8, 128, 128, 16, true, true},
      {"B4 S2048 32/8 p16 causal", short4, short4, 32, 8, 128, 128, 16, true, true},
      {"B2 S8192 32/8 causal contiguous", long2, long2, 32, 8, 128, 128, 0, true, false},
      {"B4 S2048 32/8 causal contiguous", short4, short4, 32, 8, 128, 128, 0, true, false},
      {"B2 S8192 32/8 full contiguous", long2, long2, 32, 8, 128, 128, 0, false, false},
      {"B4 S2048 32/8 full contiguous", short4, short4, 32, 8, 128, 128, 0, false, false},
      {"B1 S16384 32/32 d64 causal contiguous", one, one, 32, 32, 64, 64, 0, true, false},
      {"B1 S16384 32/32 d64 full contiguous", one, one, 32, 32, 64, 64, 0, false, false},
      {"B1 S16384 8/8 d256 causal contiguous", one, one, 8, 8, 256, 256, 0, true, false},
      {"B1 S16384 8/8 d256 full contiguous", one, one, 8, 8, 256, 256, 0, false, false},
      {"B1 S8192 32/32 d192/128 causal contiguous", half, half, 32, 32, 192, 128, 0, true, false},
      {"B1 S8192 32/32 d192/128 full contiguous", half, half, 32, 32, 192, 128, 0, false, false},
      {"B8 q512 kv16384 32/8 p16 causal", uniform(8, 512), uniform(8, 16384), 32, 8, 128, 128, 16, true, false},
      {"B64 q16 kv8192 32/8 p16 causal", uniform(64, 16), uniform(64, 8192), 32, 8, 128, 128, 16, true, false},
      {"B64 q4 kv8192 32/8 p16 causal", uniform(64, 4), uniform(64, 8192), 32, 8, 128, 128, 16, true, false},
      {"B64 S lognormal 32/8 p16 causal", lognormal64, lognormal64, 32, 8, 128, 128, 16, true, false},
  };
  std::vector<PrefillCase> cases;
  for (const Shape& s : shapes) {
    CaseSpec spec = decode_case("", s.kv_lens, s.qo_heads, s.kv_heads, s.page_size);
    spec.name = s.name;
    spec.qo_lens = s.qo_lens;
    spec.params.head_dim_qk = s.head_dim_qk, spec.params.head_dim_vo = s.head_dim_vo;
    spec.params.sm_scale = default_sm_scale(s.head_dim_qk);
    spec.params.mask = s.causal ? MaskMode::causal : MaskMode::none;
    cases.push_back({spec, s.fa2_too});
    if (s.fa2_too) {
      spec.name += " bf16", spec.dtype = DType::bf16;
      cases.push_back({spec, false});
    }
  }
  for (const bool window : {true, false}) {
    PrefillCase special = cases.front();
    special.fa2_too = false;
    special.spec.name += window ? " w1023" : " cap30";
    if (window) special.spec.params.window_left = 1023;
    if (!window) special.spec.params.logits_soft_cap = 30;
    cases.push_back(special);
  }
  // Pages of one token: fa3 on a copy of K and V, fa2 in place, which is where api/page_use.hpp's rule comes from.
  for (const char* name : {"B2 S8192 32/8 p16 causal", "B4 S2048 32/8 p16 causal", "B8 q512 kv16384 32/8 p16 causal",
                           "B64 q16 kv8192 32/8 p16 causal"}) {
    PrefillCase paged = *std::find_if(cases.begin(), cases.end(), [&](const PrefillCase& c) { return c.spec.name == name; });
    paged.fa2_too = true, paged.spec.page_size = 1;
    paged.spec.name.replace(paged.spec.name.find("p16"), 3, "p1");
    cases.push_back(paged);
  }
  return cases;
}

std::string why_not_timed_as_prefill(const CaseSpec& spec) {
  const AttentionParams& p = spec.params;
  if (spec.dtype == DType::f32) return "family prefill takes f16 and bf16";
  if (spec.kv_layout != KvLayout::NHD || spec.block_table) return "family prefill takes page lists in NHD";
  if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) return "family prefill does not rotate";
  if (spec.values != ladder::Values::normal) return "family prefill draws values that are normal";
  for (std::int32_t b = 0; b < spec.batch(); ++b) {
    const std::int32_t qo_len = spec.qo_lens[static_cast<std::size_t>(b)], kv_len = spec.kv_lens[static_cast<std::size_t>(b)];
    if (qo_len == 0 || kv_len < qo_len) return "family prefill takes requests with a query, and a key for each query";
  }
  return "";
}

std::vector<PrefillCase> prefill_ladder_cases() {
  PrefillCase s2048{prefill_case("B2 S8192 32/8 p16 causal"), false}, s8192 = s2048;
  s2048.spec.name = "B1 S2048 32/8 p16 causal";
  s2048.spec.qo_lens = s2048.spec.kv_lens = {2048};
  return {s2048, s8192};
}

CaseSpec prefill_case(std::string_view name) {
  for (const PrefillCase& c : prefill_cases()) {
    if (c.spec.name == name) return c.spec;
  }
  throw InputError("case", ladder::shown(name), "is none of family prefill");
}

CaseSpec prefill_case(std::int32_t batch, std::int32_t length) {
  CaseSpec spec = prefill_case("B4 S2048 32/8 p16 causal");
  spec.name.replace(0, std::string_view("B4 S2048").size(), "B" + std::to_string(batch) + " S" + std::to_string(length));
  spec.qo_lens = spec.kv_lens = uniform(batch, length);
  return spec;
}

std::vector<PrefillCase> chosen_or(const std::vector<CaseSpec>& specs, std::vector<PrefillCase> (*own)()) {
  if (specs.empty()) return own();
  std::vector<PrefillCase> cases;
  for (const CaseSpec& spec : specs) cases.push_back({spec, true});
  return cases;
}

}  // namespace flashladder::bench
