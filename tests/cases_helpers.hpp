// What the suites cases and fuzz share: a small spec, and the message of a refusal.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "ladder/cases/case_spec.hpp"
#include "tests/refusal.hpp"

namespace flashladder::ladder::test {

using Lengths = std::vector<std::int32_t>;

inline CaseSpec small_spec() {
  CaseSpec s;
  s.name = "small";
  s.qo_lens = {3, 0, 5, 2};
  s.kv_lens = {7, 4, 3, 0};
  s.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = default_sm_scale(8)};
  s.page_size = 4;
  return s;
}

// The message of the InputError that f throws, or "" if it throws none.
template <class F>
std::string refusal(F f) {
  return flashladder::test::refusal(f, "");
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

inline void check_refused(const std::string& message, std::initializer_list<const char*> parts) {
  CHECK(message != "");
  for (const std::string part : parts) {
    CAPTURE(message);
    CAPTURE(part);
    CHECK(contains(message, part));
  }
}

}  // namespace flashladder::ladder::test
