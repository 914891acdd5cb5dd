// The proof that the tests can fail: deliberately broken layers, each of which agree() must reject somewhere on the case
// table, and a catalogue of the classic mistakes. The same code without a mistake must pass everywhere.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "ladder/adapters.hpp"
#include "ladder/case_table.hpp"
#include "ladder/plugin/faulty_attention.hpp"
#include "tests/rejecting_cases.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

const std::vector<test::CheckedCase>& cases() {
  static const std::vector<test::CheckedCase> all = test::with_oracles(case_table());
  return all;
}

template <Fault fault>
void attend(const AttentionProblem& problem, const AttentionOutput& output) {
  faulty_attend(fault, problem, output);
}

template <Fault fault>
std::vector<std::string> rejecting_cases(std::size_t enough = 1) {
  return test::rejecting_cases(direct("mutant", "", "", "", attend<fault>), cases(), enough);
}

}  // namespace

TEST_CASE("the control without a mistake passes every case") {
  for (const std::string& name : rejecting_cases<Fault::none>(cases().size())) FAIL_CHECK(name);
}

#define FL_MUTANT(fault)                                          \
  TEST_CASE("agree rejects the mutant " #fault) {                 \
    const auto rejected = rejecting_cases<Fault::fault>();        \
    REQUIRE_MESSAGE(!rejected.empty(), "no case of the table notices " #fault); \
    MESSAGE(rejected.front());                                    \
  }
FL_MUTANT(no_rescale)
FL_MUTANT(d_not_rescaled)
FL_MUTANT(max_from_1e_30)
FL_MUTANT(finite_sentinel)
FL_MUTANT(top_left_causal)
FL_MUTANT(diagonal_lost)
FL_MUTANT(last_key_lost)
FL_MUTANT(lost_last_page)
FL_MUTANT(full_last_page)
FL_MUTANT(identity_pages)
FL_MUTANT(packed_block_rows)
FL_MUTANT(strided_heads)
FL_MUTANT(window_off_by_one)
FL_MUTANT(scale_lost)
FL_MUTANT(scale_twice)
FL_MUTANT(cap_before_scale)
FL_MUTANT(alibi_constant_lost)
FL_MUTANT(rope_from_zero)
FL_MUTANT(natural_lse)
FL_MUTANT(merge_wrong_base)
FL_MUTANT(merge_plain_mean)
FL_MUTANT(first_v_row_twice)
FL_MUTANT(sink_lost)
FL_MUTANT(sink_per_piece)
FL_MUTANT(custom_and_causal)
FL_MUTANT(empty_row_not_written)
FL_MUTANT(one_row_too_far)
FL_MUTANT(k_scale_lost)
FL_MUTANT(k_scale_twice)
FL_MUTANT(k_scale_instead)
FL_MUTANT(v_scale_lost)
FL_MUTANT(v_scale_twice)
FL_MUTANT(scales_of_next_head)
FL_MUTANT(fp8_formats_swapped)
