// Half-open ranges of tokens or rows. Every range in FlashLadder is a Range, so "is the end included?" never comes up.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct Range {
  std::int32_t begin = 0, end = 0;  // [begin, end)

  FL_HD constexpr std::int32_t size() const { return end > begin ? end - begin : 0; }
  FL_HD constexpr bool empty() const { return end <= begin; }
  FL_HD constexpr bool contains(std::int32_t x) const { return begin <= x && x < end; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};

FL_HD constexpr Range intersect(Range a, Range b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

// The first `size` of a range, or all of it if it has no more. (begin + size may lie beyond int32.)
FL_HD constexpr Range first_of(Range r, std::int32_t size) {
  return r.size() > size ? Range{r.begin, r.begin + size} : r;
}

template <class Int>
FL_HD constexpr Int div_up(Int a, Int b) {
  return a / b + (a % b != 0);  // not (a + b - 1) / b, which overflows near the top of Int
}

}  // namespace flashladder
