// A small tiled attention with one deliberate mistake in it: the mutants that agree() must reject. Fault::none is the
// control: the same code without a mistake must pass, or a rejection would prove nothing.
#pragma once

#include "core/attention_problem.hpp"

namespace flashladder::test {

enum class Fault {
  none,
  no_rescale,           // o and d keep their old scale when the maximum grows
  max_from_1e_30,       // the running maximum starts at 1e-30 instead of -infinity
  finite_sentinel,      // hidden keys get the logit -5e4 instead of -infinity
  top_left_causal,      // the causal corner is at the top left
  lost_last_page,       // a partly filled last page is skipped
  full_last_page,       // the last page is read as if it were full: unused slots hold NaN
  identity_pages,       // the page table is ignored
  packed_block_rows,    // a block table's rows are taken to lie one after the other without their unused entries
  strided_heads,        // query head h uses KV head h % num_kv_heads
  window_off_by_one,    // w keys instead of w + 1
  scale_twice,          // sm_scale applied again with soft cap
  cap_before_scale,     // soft cap on the unscaled score
  alibi_constant_lost,  // ALiBi reckoned from the last key, and lse without the row's constant
  rope_from_zero,       // queries rotated by i instead of i + kv_len - qo_len
  natural_lse,          // lse returned in natural units
  merge_wrong_base,     // pieces merged with e^lse instead of 2^lse
  merge_plain_mean,     // pieces averaged, whatever their lse
  sink_per_piece,       // the sink enters each piece of the keys
  custom_and_causal,    // a custom mask does not replace causal
  empty_row_not_written,  // a row that sees nothing is skipped
  one_row_too_far,      // the last row is written once more behind the output
};

void faulty_attend(Fault fault, const AttentionProblem& problem, const AttentionOutput& output);

}  // namespace flashladder::test
