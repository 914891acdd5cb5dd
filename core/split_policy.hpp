// Where the planner cuts a request's keys into pieces that may run at the same time: docs/05_plans.md explains each.
#pragma once

#include <cstdint>

namespace flashladder {

enum class SplitPolicy : std::uint8_t { none, fixed, count, target, balanced, even };
constexpr const char* name_of(SplitPolicy p) {
  constexpr const char* names[] = {"none", "fixed", "count", "target", "balanced", "even"};
  return names[static_cast<int>(p)];
}

}  // namespace flashladder
