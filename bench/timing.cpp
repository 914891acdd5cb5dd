#include "bench/timing.hpp"

#include <algorithm>
#include <vector>

#include "core/error.hpp"
#include "ladder/agree.hpp"

namespace flashladder::bench {

double median_ms(int rounds, const std::function<void()>& call) {
  require(rounds >= 1, "rounds", rounds, "must be at least 1");
  call();  // touches the memory, fills the caches, wakes the threads
  std::vector<double> times(rounds);
  for (double& time : times) time = ladder::time_once(call);
  const auto middle = times.begin() + rounds / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace flashladder::bench
