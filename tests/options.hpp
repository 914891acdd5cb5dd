// What a test program takes beside doctest's own options: --seed N (repeats a random run) and --cases N (how many).
#pragma once

#include <cstdint>

namespace flashladder::test {

struct Options {
  std::uint64_t seed = 0;  // chosen anew each run unless given; failures print it
  int cases = 0;           // 0: the suite's own number

  int cases_or(int usual) const { return cases > 0 ? cases : usual; }
};
const Options& options();

}  // namespace flashladder::test
