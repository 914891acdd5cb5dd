// What the tests of the documents' shapes on the CPU share: their workspace, and what makes a result right.
#pragma once

#include <algorithm>

#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/documents.hpp"

namespace flashladder::test {

// The documents give every wrapper 128 MB.
struct Workspace128 {
  std::vector<std::byte> memory = std::vector<std::byte>(128u << 20);
  api::Workspace view() { return {.device = memory}; }
};

inline ladder::Comparison against(const ladder::Case& c, const Result& result, const ladder::Oracle& oracle) {
  return compare(c, result.o, result.lse_log2, oracle);
}

inline void check_result(const ladder::Case& c, const Result& result) {
  const ladder::Comparison comparison = against(c, result, make_oracle(c));
  CHECK_MESSAGE(comparison.ok(), comparison.message());
}

// run(page_ids) is right with the case's pages, and wrong with the same pages one place further on.
template <class Run>
void check_pages(const ladder::Case& c, const Indices& page_ids, Run&& run) {
  const ladder::Oracle oracle = make_oracle(c);
  const ladder::Comparison right = against(c, run(page_ids), oracle);
  CHECK_MESSAGE(right.ok(), right.message());
  Indices shifted = page_ids;
  std::ranges::rotate(shifted, shifted.begin() + 1);
  CHECK_FALSE(against(c, run(shifted), oracle).ok());
}

}  // namespace flashladder::test
