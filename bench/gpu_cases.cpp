#include "bench/gpu_cases.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {
namespace {

using ladder::CaseSpec;
using Lengths = std::vector<std::int32_t>;

constexpr double head_dim = 128, qo_heads = 32, kv_heads = 8, element = 2;  // bytes of an f16

// Drawn once, log-normal with mu 6.9 and sigma 1.3: 106,057 keys, the longest 9,251. The same that the peers are timed on.
const Lengths lognormal64{2185, 974,  4915, 3714, 640,  4830, 332,  753,  457,  310,  5417, 1465, 279,
                          5487, 5347, 9251, 342,  1021, 251,  3079, 197,  3988, 603,  1080, 1071, 969,
                          745,  1310, 3679, 2825, 1893, 1367, 317,  4156, 1259, 1206, 1012, 608,  1246,
                          1576, 175,  31,   1511, 2120, 97,   683,  199,  358,  2357, 466,  175,  798,
                          1020, 3596, 60,   76,   2375, 3920, 171,  570,  336,  243,  46,   2518};

// The batch of the planner's sample.
const Lengths mixed16{512, 1024, 2048, 4096, 512, 512, 1024, 2048, 512, 1024, 1024, 2048, 4096, 8192, 8192, 16384};

Lengths uniform(std::int32_t batch, std::int32_t kv_len) { return Lengths(static_cast<std::size_t>(batch), kv_len); }

Lengths one_long_among_short() {
  Lengths lens = uniform(32, 4096);
  lens[0] = 65536;
  return lens;
}

template <class Cases>
void add_names(std::vector<std::string>& names, const Cases& cases, const std::string& prefix,
               std::initializer_list<const char*> suffixes) {
  for (const auto& c : cases) {
    for (const char* suffix : suffixes) {
      if constexpr (requires { c.name(); }) {
        names.push_back(prefix + c.name() + suffix);
      } else {
        names.push_back(prefix + c.name + suffix);
      }
    }
  }
}

}  // namespace

const char* name_of(Family family) {
  constexpr const char* names[] = {"decode", "graph", "prefill", "prefill-ladder", "append", "norm", "rope", "plan"};
  return names[static_cast<int>(family)];
}

Family family_from(std::string_view name) {
  std::string names;
  for (const Family family : all_families) {
    if (name == name_of(family)) return family;
    names += std::string(names.empty() ? "" : ", ") + name_of(family);
  }
  throw InputError("FAMILY", ladder::shown(name), "is none of " + names);
}

CaseSpec decode_case(std::string lengths_name, Lengths kv_lens, std::int32_t num_qo_heads, std::int32_t num_kv_heads,
                     std::int32_t page_size) {
  CaseSpec spec;
  spec.name = std::move(lengths_name) + " " + std::to_string(num_qo_heads) + "/" + std::to_string(num_kv_heads) + " p" +
              std::to_string(page_size);
  spec.qo_lens = uniform(static_cast<std::int32_t>(kv_lens.size()), 1);
  spec.kv_lens = std::move(kv_lens);
  spec.params = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = 128, .head_dim_vo = 128,
                 .sm_scale = default_sm_scale(128)};
  spec.page_size = page_size;
  spec.dtype = DType::f16;
  return spec;
}

double PrefillCase::bytes() const {
  const AttentionParams& p = spec.params;
  return static_cast<double>(spec.total_kv()) * p.num_kv_heads * (p.head_dim_qk + p.head_dim_vo) * element;
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
  if (spec.custom_mask != ladder::CustomMask::none || p.sinks || p.pos_encoding_mode != PosEncodingMode::NONE) {
    return "family prefill takes no custom mask, no sinks and no position encoding";
  }
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

std::vector<CaseSpec> decode_cases() {
  const Lengths b32 = uniform(32, 2048), b64 = uniform(64, 8192), skewed = one_long_among_short();
  return {decode_case("B32 kv2048", b32, 32, 8),
          decode_case("B32 kv2048", b32, 64, 8),
          decode_case("B32 kv2048", b32, 32, 32),
          decode_case("B1 kv1024", {1024}, 32, 8),
          decode_case("B1 kv8192", {8192}, 32, 8),
          decode_case("B1 kv131072", {131072}, 32, 8),
          decode_case("B64 kv8192", b64, 32, 8),
          decode_case("B64 lognormal", lognormal64, 32, 8),
          decode_case("mixed16", mixed16, 32, 8),
          decode_case("1 x 65536 + 31 x 4096", skewed, 32, 8),
          decode_case("1 x 65536 + 31 x 4096", skewed, 8, 1),
          decode_case("B32 kv2048", b32, 32, 8, 1),
          decode_case("B64 kv8192", b64, 32, 8, 1),
          decode_case("B64 lognormal", lognormal64, 32, 8, 1)};
}

std::vector<CaseSpec> graph_cases() {
  const std::vector<CaseSpec> all = decode_cases();
  return {all[0], all[3], all[4], all[5], all[7], all[8]};
}

std::vector<CaseSpec> plan_cases() {
  const std::vector<CaseSpec> all = decode_cases();
  return {all[0], all[7], prefill_case("B64 S lognormal 32/8 p16 causal")};
}

std::string NormCase::name() const {
  return std::string(fused_add ? "fused_add_rmsnorm " : "rmsnorm ") + std::to_string(rows) + "x" + std::to_string(hidden);
}
double NormCase::bytes() const { return (fused_add ? 4.0 : 2.0) * rows * hidden * element; }

std::vector<NormCase> norm_cases() {
  std::vector<NormCase> cases;
  for (const auto& [rows, hidden] : {std::pair{4096, 4096}, {65536, 4096}, {65536, 8192}, {131072, 128}, {64, 4096}}) {
    cases.push_back({false, rows, hidden});
    cases.push_back({true, rows, hidden});
  }
  return cases;
}

std::vector<Half> norm_weights(std::int32_t hidden, std::uint64_t seed) {
  ladder::Random random(seed);
  std::vector<Half> weights;
  for (std::int32_t i = 0; i < hidden; ++i) {
    const auto size = static_cast<int>(1024 + random.below(1025));
    weights.emplace_back(static_cast<float>(random.sign() * size) * 0x1p-14f);
  }
  return weights;
}

std::string RopeCase::name() const { return std::to_string(tokens) + " tokens 32/8 " + (neox ? "neox" : "interleaved"); }
double RopeCase::bytes() const { return tokens * (qo_heads + kv_heads) * head_dim * element * 2; }

std::vector<RopeCase> rope_cases() {
  return {{64, true}, {64, false}, {4096, true}, {4096, false}, {65536, true}, {65536, false}};
}

std::string AppendCase::name() const {
  const std::string tokens = "B" + std::to_string(batch) + " x " + std::to_string(each) + " tokens ";
  return with_rope ? "rope + append " + tokens + "32/8 p16" : tokens + "8 heads p16";
}
double AppendCase::bytes() const {
  return double{1} * batch * each * (2 * kv_heads + (with_rope ? qo_heads : 0)) * head_dim * element * 2;
}

std::vector<AppendCase> append_cases() { return {{64, 1}, {16, 4096}, {64, 1, true}, {16, 4096, true}}; }

std::string ChainCase::name() const {
  return "chain B" + std::to_string(batch) + " kv" + std::to_string(kv_len) + " 32/8 p16 cold";
}
CaseSpec ChainCase::spec() const {
  return decode_case("B" + std::to_string(batch) + " kv" + std::to_string(kv_len), uniform(batch, kv_len), 32, 8);
}

std::vector<ChainCase> chain_cases() { return {{1, 1024}, {1, 4096}, {8, 1024}, {8, 4096}}; }

Rotation rotation_for(double bytes) {
  const auto caches = static_cast<std::int32_t>(std::clamp(std::ceil(200e6 / std::max(1.0, bytes)), 2.0, 64.0));
  return {caches, std::max(1, 20 / caches)};
}

std::vector<NormCase> graph_norm_cases() { return {{false, 64, 4096}, {true, 64, 4096}}; }
std::vector<RopeCase> graph_rope_cases() { return {{64, true}}; }

std::vector<std::string> case_strings(Family family) {
  std::vector<std::string> names;
  switch (family) {
    case Family::decode: add_names(names, decode_cases(), "", {""}); break;
    case Family::graph:
      add_names(names, graph_cases(), "", {" cold", " warm"});
      add_names(names, graph_norm_cases(), "", {" cold", " warm"});
      add_names(names, graph_rope_cases(), "rope ", {" cold", " warm"});
      add_names(names, chain_cases(), "", {""});
      break;
    case Family::prefill:
      for (const PrefillCase& c : prefill_cases()) names.push_back(c.spec.name);
      break;
    case Family::prefill_ladder:
      for (const PrefillCase& c : prefill_ladder_cases()) names.push_back(c.spec.name);
      break;
    case Family::append: add_names(names, append_cases(), "", {""}); break;
    case Family::norm: add_names(names, norm_cases(), "", {""}); break;
    case Family::rope: add_names(names, rope_cases(), "", {""}); break;
    case Family::plan: add_names(names, plan_cases(), "", {""}); break;
  }
  return names;
}

std::vector<CaseSpec> attention_cases(Family family) {
  if (family == Family::decode) return decode_cases();
  if (family == Family::plan) return plan_cases();
  std::vector<CaseSpec> specs;
  if (family == Family::prefill || family == Family::prefill_ladder) {
    for (PrefillCase& c : family == Family::prefill ? prefill_cases() : prefill_ladder_cases()) specs.push_back(c.spec);
  }
  return specs;
}

}  // namespace flashladder::bench
