// A small tiled attention with one deliberate mistake in it: the mutants that agree() must reject, and with which a user's
// wrong kernel is compared (naming.hpp). Fault::none is the control: the same code without a mistake must pass, or a
// rejection would prove nothing.
#pragma once

#include <cstdint>
#include <span>

#include "core/attention_problem.hpp"

namespace flashladder::ladder {

enum class Fault : std::uint8_t {
  none, no_rescale, d_not_rescaled, max_from_1e_30, finite_sentinel, top_left_causal, diagonal_lost, last_key_lost,
  lost_last_page, full_last_page, identity_pages, packed_block_rows, strided_heads, window_off_by_one, scale_lost,
  scale_twice, cap_before_scale, alibi_constant_lost, rope_from_zero, natural_lse, merge_wrong_base, merge_plain_mean,
  first_v_row_twice, sink_lost, sink_per_piece, custom_and_causal, empty_row_not_written, one_row_too_far, k_scale_lost,
  k_scale_twice, k_scale_instead, v_scale_lost, v_scale_twice, scales_of_next_head, fp8_formats_swapped,
};

// On which of the two ways of cutting the keys the fault's result depends.
enum class Depends : std::uint8_t { on_nothing, on_tiles, on_pieces };

struct FaultInfo {
  Fault fault;
  const char* name;  // "no_rescale"
  const char* what;  // a sentence's end, for people
  Depends depends = Depends::on_nothing;
};
std::span<const FaultInfo> faults();  // all but none, in the order of the enum
std::span<const FaultInfo> plugin_faults();  // those that a plug-in can have: none of fp8 or scales, which it is not given
const FaultInfo& info(Fault fault);

// How the keys are cut: pieces are merged, tiles inside of them are online softmax.
struct Cuts {
  std::int32_t tile = 32, piece = 96;  // keys
  std::int32_t pieces = 0;             // > 0: so many equal pieces instead
};

void faulty_attend(Fault fault, const AttentionProblem& problem, const AttentionOutput& output, Cuts cuts = {});

}  // namespace flashladder::ladder
