// What a case file says the answer should be.
#pragma once

#include <span>

#include "ladder/agree.hpp"

namespace flashladder::cli {

bool has_expected(const ladder::Case& c);

// A rung's result against expected_o and expected_lse_log2, whichever the file gave.
ladder::Comparison compare_with_expected(const ladder::Case& c, const ladder::RunResult& result,
                                         std::span<const ladder::RowTolerance> tolerance);

}  // namespace flashladder::cli
