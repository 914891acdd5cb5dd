// What a plan is made from: lengths, heads, tiles, a split policy and the machine's shape, all as plain numbers.
//
// The policies differ only in where they cut a tile's keys into chunks:
//   none      nowhere: one item a tile
//   fixed     every chunk_size keys: a request's items never depend on its neighbours in the batch
//   count     the smallest chunk whose item count still fits the grid (as FlashInfer's decode planner)
//   target    the largest chunk of the tiers that still gives at least target_units items
//   balanced  where an equal share of all the work ends (stream-K, Osama et al., arXiv:2301.03598; for attention
//             LeanAttention, arXiv:2405.10480)
//   even      where an equal share of the line's cost uncut ends: nearly as level, and each cut is arithmetic, so that many
//             threads find all at once. Plans made on the device are cut so (gpu/plan/)
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "core/attention_params.hpp"
#include "core/range.hpp"
#include "core/split_policy.hpp"

namespace flashladder::planner {

using flashladder::name_of;
using flashladder::SplitPolicy;
inline constexpr std::array all_policies{SplitPolicy::none, SplitPolicy::fixed, SplitPolicy::count, SplitPolicy::target,
                                         SplitPolicy::balanced, SplitPolicy::even};
// Cuts one line of all tiles into a stretch for each CTA.
constexpr bool cuts_a_line(SplitPolicy policy) { return policy == SplitPolicy::balanced || policy == SplitPolicy::even; }
SplitPolicy split_policy_from(std::string_view name);  // InputError lists the names

// Chunk sizes of policy target, in keys. An item's tier is the index of the smallest one that holds its keys.
inline constexpr std::array<std::int32_t, 4> tiers{512, 1024, 2048, 4096};

// The grid: CTAs that run at the same time. The default is an H100 or H200 with two resident CTAs an SM.
struct MachineShape {
  std::int32_t num_sms = 132, ctas_per_sm = 2;
  constexpr std::int64_t num_ctas() const { return std::int64_t{num_sms} * ctas_per_sm; }
};

// Predicted time in key-equivalents: 1 is the time in which a CTA reads one key and one value from memory.
struct CostModel {
  double per_item = 64;            // fixed: load q, fill and drain the pipeline, write o. A guess; refit it from timings
  // Up to so many packed rows a key costs what reading it costs; beyond, in proportion to the rows. It is the machine's
  // reachable FLOP per byte: a row does 2 FLOP for each of a key's and value's 16-bit numbers.
  double memory_bound_rows = 128;

  // Pieces of a tile that needs more of them than `few_partials` cost per_many more each: merging many takes the machine
  // longer, in which the CTAs without such a piece can work. 0 if it does not matter.
  double few_partials = 32, per_many = 0;

  constexpr double per_key(std::int32_t rows) const { return std::max(1.0, rows / memory_bound_rows); }
  constexpr double item(std::int32_t rows, std::int32_t keys) const { return per_item + keys * per_key(rows); }
};

// The sizes that a captured CUDA graph (or any buffer allocated once) can replay. What is not set is not limited.
struct CaptureLimits {
  static constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();
  std::int64_t batch = unlimited, nnz_qo = unlimited, pages = unlimited;
  std::int64_t items = unlimited, merges = unlimited, partial_rows = unlimited, num_ctas = unlimited;
  std::int64_t mask_words = unlimited;  // of a custom mask's bits (core/mask_bits.hpp)
  friend bool operator==(const CaptureLimits&, const CaptureLimits&) = default;
};

enum class Phase : std::uint8_t { decode, prefill };

// Packed rows of a query tile. A function of the operation and the heads alone: were it to look at the batch, a request's
// rounding would depend on its neighbours. Decode: the one query of all packed heads. Prefill: a tensor-core tile of rows.
constexpr std::int32_t default_query_tile(Phase phase, std::int32_t pack) { return phase == Phase::decode ? pack : 128; }

struct PlanInputs {
  std::span<const std::int32_t> qo_lens{};  // [batch] queries of each request; empty means decode: one each
  std::span<const std::int32_t> kv_lens{};  // [batch] keys of each request
  std::int32_t num_qo_heads = 1, num_kv_heads = 1;
  std::int32_t head_dim_qk = 64, head_dim_vo = 64;
  std::int32_t page_size = 16;
  MaskMode mask = MaskMode::none;      // only causal trims a tile's keys; a custom mask may show any key
  std::int32_t window_left = -1;
  std::int32_t query_tile = 0;         // packed rows in a tile; 0 = default_query_tile
  std::int32_t pack = 0;               // query heads whose rows a tile packs: the group (or 0), or 1
  std::int32_t decode_tile = 0;        // not 0: two parts, first the requests of one query, with tiles of so many rows of a
                                       // whole group, then the others, with query_tile and pack
  std::int32_t decode_queues = 0;      // with decode_tile and claimed, not 0: the part of one query is not claimed, but cut
                                       // by policy balanced into so many queues, at decode_cost
  bool claimed = false;                // CTAs claim the work, costliest first, instead of running queues
  bool predicted = true;               // claimed, one part: false leaves out who will get what, most of the time of planning
  std::int32_t chunk_align = 64;       // tokens: every cut is a multiple of it; target needs a divisor of 512
  SplitPolicy policy = SplitPolicy::balanced;
  std::int32_t chunk_size = 0;         // fixed: keys, a multiple of chunk_align
  std::int64_t target_units = 512;     // target: items wanted at least
  std::int32_t min_chunk = 128;        // count: no chunk is smaller (keys, rounded up to chunk_align)
  MachineShape machine{};
  CostModel cost{}, decode_cost{};
  std::optional<CaptureLimits> capture{};  // a plan outside of it is refused

  std::int32_t batch() const { return static_cast<std::int32_t>(kv_lens.size()); }
  std::int32_t qo_len(std::int32_t b) const { return qo_lens.empty() ? 1 : qo_lens[static_cast<std::size_t>(b)]; }
  std::int32_t group_size() const { return num_qo_heads / num_kv_heads; }
  std::int32_t packed_heads() const { return pack > 0 ? pack : group_size(); }
  std::int32_t num_heads(std::int32_t packed) const { return num_qo_heads / packed; }
  std::int32_t tile_rows() const {
    if (query_tile > 0) return query_tile;
    return default_query_tile(qo_lens.empty() ? Phase::decode : Phase::prefill, packed_heads());
  }
};

// Throws InputError: lengths, heads, dims, sizes, and the options of the chosen policy.
void validate(const PlanInputs& inputs);

}  // namespace flashladder::planner
