#include "bench/gpu_cases.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bench/gpu_lengths.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {
namespace {

using ladder::CaseSpec;
constexpr double head_dim = 128, qo_heads = 32, kv_heads = 8, element = 2;  // bytes of an f16

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
  constexpr const char* names[] = {"decode", "graph", "prefill", "prefill-ladder", "append", "norm", "rope",
                                   "plan",   "cascade", "mla", "lengths"};
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
  CaseSpec mixed = decode_case("4 x q512 + 60 x q1 kv4096", uniform(64, 4096), 32, 8);
  mixed.name += " causal";
  std::fill_n(mixed.qo_lens.begin(), 4, 512);
  mixed.params.mask = MaskMode::causal;
  return {all[0], all[7], prefill_case("B64 S lognormal 32/8 p16 causal"), mixed};
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

std::string CascadeCase::name() const {
  return "prefix " + std::to_string(prefix) + " shared by " + std::to_string(batch) + " + suffix " + std::to_string(suffix) +
         " 32/8 p16";
}
double CascadeCase::bytes() const { return (prefix + double{1} * batch * suffix) * 2 * kv_heads * head_dim * element; }
CaseSpec CascadeCase::spec() const {
  CaseSpec spec = decode_case("", uniform(batch, prefix + suffix), 32, 8);
  spec.name = name();
  return spec;
}

// What it is for, fewer to share, a prefix that is short beside the suffixes.
std::vector<CascadeCase> cascade_cases() { return {{64, 8192, 256}, {4, 8192, 256}, {64, 512, 2048}}; }

std::string LengthsCase::name() const {
  const bool wider = max_seq_len > *std::max_element(spec.kv_lens.begin(), spec.kv_lens.end());
  return spec.name + (wider ? " table " + std::to_string(max_seq_len) : "");
}
double LengthsCase::bytes() const { return static_cast<double>(spec.total_kv()) * 2 * kv_heads * head_dim * element; }

std::vector<LengthsCase> lengths_cases() {
  return {{decode_case("B32 kv2048", uniform(32, 2048), 32, 8), 2048},
          {decode_case("B64 lognormal", lognormal64, 32, 8), 9251},
          {decode_case("B64 lognormal", lognormal64, 32, 8), 131072},
          {prefill_case("B4 S2048 32/8 p16 causal"), 2048},
          {prefill_case("B8 q512 kv16384 32/8 p16 causal"), 16384}};
}

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
    case Family::cascade: add_names(names, cascade_cases(), "", {""}); break;
    case Family::mla: add_names(names, mla_cases(), "", {""}); break;
    case Family::lengths: add_names(names, lengths_cases(), "", {""}); break;
  }
  return names;
}

std::vector<CaseSpec> attention_cases(Family family) {
  if (family == Family::decode) return decode_cases();
  if (family == Family::plan) return plan_cases();
  if (family == Family::mla) return mla_cases();
  std::vector<CaseSpec> specs;
  if (family == Family::prefill || family == Family::prefill_ladder) {
    for (PrefillCase& c : family == Family::prefill ? prefill_cases() : prefill_ladder_cases()) specs.push_back(c.spec);
  }
  return specs;
}

}  // namespace flashladder::bench
