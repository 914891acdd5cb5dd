// The mistakes by name, and in words.
#include "ladder/plugin/faulty_attention.hpp"

namespace flashladder::ladder {
namespace {

constexpr FaultInfo all[] = {
    {Fault::no_rescale, "no_rescale", "o keeps its old scale when the running maximum grows", Depends::on_tiles},
    {Fault::d_not_rescaled, "d_not_rescaled", "the sum of the weights keeps its old scale when the maximum grows",
     Depends::on_tiles},
    {Fault::max_from_1e_30, "max_from_1e_30", "the running maximum starts at 1e-30 instead of -infinity"},
    {Fault::finite_sentinel, "finite_sentinel", "hidden keys get a large negative logit instead of -infinity"},
    {Fault::top_left_causal, "top_left_causal", "the causal corner is at the top left instead of the bottom right"},
    {Fault::diagonal_lost, "diagonal_lost", "a causal query does not see its own key, only the earlier ones"},
    {Fault::last_key_lost, "last_key_lost", "the last key of a request is skipped"},
    {Fault::lost_last_page, "lost_last_page", "a partly filled last page is skipped"},
    {Fault::full_last_page, "full_last_page", "the last page is read as if it were full: unused slots hold NaN"},
    {Fault::identity_pages, "identity_pages", "the page table is ignored: the n-th entry is taken for page n"},
    {Fault::packed_block_rows, "packed_block_rows", "the rows of a block table are read without their unused entries"},
    {Fault::strided_heads, "strided_heads", "query head h uses KV head h % num_kv_heads instead of h / group"},
    {Fault::window_off_by_one, "window_off_by_one", "a window keeps window_left keys instead of window_left + 1"},
    {Fault::scale_lost, "scale_lost", "sm_scale is not applied"},
    {Fault::scale_twice, "scale_twice", "sm_scale is applied twice with a soft cap"},
    {Fault::cap_before_scale, "cap_before_scale", "the soft cap is taken of the score before sm_scale"},
    {Fault::alibi_constant_lost, "alibi_constant_lost", "ALiBi is reckoned from the last key: lse lacks a constant"},
    {Fault::rope_from_zero, "rope_from_zero", "query i is rotated by i instead of i + kv_len - qo_len"},
    {Fault::natural_lse, "natural_lse", "lse is returned in natural units instead of base 2"},
    {Fault::merge_wrong_base, "merge_wrong_base", "pieces are merged with e^lse instead of 2^lse", Depends::on_pieces},
    {Fault::merge_plain_mean, "merge_plain_mean", "pieces are averaged, whatever their lse", Depends::on_pieces},
    {Fault::first_v_row_twice, "first_v_row_twice", "the first row of V of each later piece is added twice",
     Depends::on_pieces},
    {Fault::sink_lost, "sink_lost", "the sinks are ignored"},
    {Fault::sink_per_piece, "sink_per_piece", "the sink enters every piece of the keys", Depends::on_pieces},
    {Fault::custom_and_causal, "custom_and_causal", "causal is applied besides the custom mask"},
    {Fault::empty_row_not_written, "empty_row_not_written", "a row that sees no key is not written"},
    {Fault::one_row_too_far, "one_row_too_far", "a row is written behind the end of o"},
    {Fault::k_scale_lost, "k_scale_lost", "the scale of K is not applied"},
    {Fault::k_scale_twice, "k_scale_twice", "the scale of K is applied twice"},
    {Fault::k_scale_instead, "k_scale_instead", "the scale of K is applied in the place of sm_scale"},
    {Fault::v_scale_lost, "v_scale_lost", "the scale of V is not applied"},
    {Fault::v_scale_twice, "v_scale_twice", "the scale of V is applied twice"},
    {Fault::scales_of_next_head, "scales_of_next_head", "a KV head is read with the scales of the next one"},
    {Fault::fp8_formats_swapped, "fp8_formats_swapped", "E4M3 is read as E5M2, or E5M2 as E4M3"},
};

}  // namespace

std::span<const FaultInfo> faults() { return all; }

// Those of scales are the last ones.
std::span<const FaultInfo> plugin_faults() { return std::span(all).first(static_cast<std::size_t>(Fault::k_scale_lost) - 1); }

const FaultInfo& info(Fault fault) { return all[static_cast<std::size_t>(fault) - 1]; }

}  // namespace flashladder::ladder
