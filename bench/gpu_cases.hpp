// What `flashladder bench FAMILY` times on a GPU unless told otherwise. The case strings are those of the peers' lines
// (bench/peers/), so that one table holds both; tests/bench_gpu.cpp holds the strings. All of it is f16, head_dim 128,
// unless a string says otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/half.hpp"
#include "ladder/cases/case_spec.hpp"

namespace flashladder::bench {

// decode: events around one run, L2 flushed. graph: a graph of launches, per launch; cold over rotating caches, warm on one.
// prefill: the public classes; prefill-ladder: every prefill rung. cascade: a cascade, and one flat decode of the same batch.
// mla: latent attention, by events. lengths: calls whose lengths lie on the device.
enum class Family : std::uint8_t { decode, graph, prefill, prefill_ladder, append, norm, rope, plan, cascade, mla, lengths };
inline constexpr std::array all_families{Family::decode, Family::graph, Family::prefill, Family::prefill_ladder,
                                         Family::append, Family::norm,  Family::rope,    Family::plan,
                                         Family::cascade, Family::mla,   Family::lengths};
const char* name_of(Family family);
Family family_from(std::string_view name);  // InputError lists the names

// One query for each request; spec.name is the case string.
ladder::CaseSpec decode_case(std::string lengths_name, std::vector<std::int32_t> kv_lens, std::int32_t num_qo_heads,
                             std::int32_t num_kv_heads, std::int32_t page_size = 16);
std::vector<ladder::CaseSpec> decode_cases();
std::vector<ladder::CaseSpec> graph_cases();  // without " cold" and " warm"
std::vector<ladder::CaseSpec> plan_cases();   // two decodes, a prefill, and both in one batch

// The public prefill classes, by events, L2 flushed. "contiguous": a ragged cache. q<n> kv<n>: an append.
struct PrefillCase {
  ladder::CaseSpec spec;  // page_size 0: contiguous
  bool fa2_too = false;   // both backends

  double bytes() const;   // K and V that some query sees, once
  double flops() const;   // of the visible pairs
};
std::vector<PrefillCase> prefill_cases();
// Of another case: "" if family prefill can draw and check it, else the reason in words.
std::string why_not_timed_as_prefill(const ladder::CaseSpec& spec);
std::vector<PrefillCase> prefill_ladder_cases();  // a short one and a long one: what all prefill rungs take
ladder::CaseSpec prefill_case(std::string_view name);
// The same of these lengths: every request has as many queries as keys. "B4 S2048 32/8 p16 causal".
ladder::CaseSpec prefill_case(std::int32_t batch, std::int32_t length);
// These, by both backends, or where there are none the family's own.
std::vector<PrefillCase> chosen_or(const std::vector<ladder::CaseSpec>& specs, std::vector<PrefillCase> (*own)());

struct NormCase {
  bool fused_add = false;
  std::int32_t rows = 1, hidden = 4096;

  std::string name() const;  // "rmsnorm 4096x4096", "fused_add_rmsnorm 4096x4096"
  double bytes() const;      // input and out; fused: input and residual, both ways
};
std::vector<NormCase> norm_cases();

// 1/16 to 1/8, of either sign, so that numbers stay finite however often fused_add_rmsnorm is repeated in place. It adds to
// a residual at most 1/8 of it / the row's rms: once the rms is 512, less than half of the residual's last place in f16, and
// the row stays as it is. No number is then larger than 513 sqrt(hidden), which f16 holds up to hidden 16,000.
std::vector<Half> norm_weights(std::int32_t hidden, std::uint64_t seed);

// In place on q [tokens, 32, 128] and k [tokens, 8, 128], positions drawn from a table of 32768.
struct RopeCase {
  std::int32_t tokens = 1;
  bool neox = true;

  std::string name() const;  // "64 tokens 32/8 neox"
  double bytes() const;      // q and k, both ways; not the table, as the peers count
};
std::vector<RopeCase> rope_cases();

// `each` new tokens at the end of every request, which held 1024 before. with_rope: q and k are rotated on the way, k and v
// go into the cache.
struct AppendCase {
  std::int32_t batch = 1, each = 1;
  bool with_rope = false;

  std::string name() const;  // "B64 x 1 tokens 8 heads p16", "rope + append B64 x 1 tokens 32/8 p16"
  double bytes() const;      // k and v (with_rope: and q), read and written
};
std::vector<AppendCase> append_cases();

// A layer's kernels without its matrices: RMSNorm of x [batch, 4096] gives q [batch, 32, 128]; RoPE on q and the new k; k
// and v go into the cache as token kv_len - 1; decode over kv_len tokens gives the next layer's x.
struct ChainCase {
  std::int32_t batch = 1, kv_len = 1024;

  std::string name() const;  // "chain B1 kv1024 32/8 p16 cold"
  ladder::CaseSpec spec() const;
};
std::vector<ChainCase> chain_cases();

// `batch` requests of one query behind one prefix, each with a suffix of its own; pages of 16, 32/8 heads.
struct CascadeCase {
  std::int32_t batch = 1, prefix = 0, suffix = 0;

  std::string name() const;  // "prefix 8192 shared by 64 + suffix 256 32/8 p16"
  double bytes() const;      // K and V, the prefix's once
  ladder::CaseSpec spec() const;
};
std::vector<CascadeCase> cascade_cases();

// A block table whose lengths lie on the device, as wide as the longest request that could come.
struct LengthsCase {
  ladder::CaseSpec spec;
  std::int32_t max_seq_len = 0;

  std::string name() const;  // the spec's, "B64 lognormal 32/8 p16 table 131072" if the table is wider than its longest
  double bytes() const;      // K and V, once
};
std::vector<LengthsCase> lengths_cases();

// Latent attention on DeepSeek's 512 + 64 features, pages of 64: "B128 kv4096 h16", "B32 kv8192 h16 q4".
std::vector<ladder::CaseSpec> mla_cases();
double mla_bytes(const ladder::CaseSpec& spec);  // latent rows, once, as the peers count
double mla_flops(const ladder::CaseSpec& spec);  // of the visible pairs

// How many caches a graph rotates over so that none is still in the L2 when its turn comes, and how often it goes round:
// 200 MB and 20 launches, at least. (As the peers' graph_us.)
struct Rotation {
  std::int32_t caches, turns;
};
Rotation rotation_for(double bytes);

// Family graph also has the short kernels around decode.
std::vector<NormCase> graph_norm_cases();
std::vector<RopeCase> graph_rope_cases();

// Every case string of a family, in the order in which it is timed.
std::vector<std::string> case_strings(Family family);
// The specs of those that are attention and nothing else, with the same strings as names: decode, prefill, prefill-ladder,
// plan. None of the other families.
std::vector<ladder::CaseSpec> attention_cases(Family family);

}  // namespace flashladder::bench
