// Four events of two CTAs, and the orders in which the GPU as a whole may see them, with and without release and acquire.
// CTA B counts after CTA A ("B is last") and then reads A's partial: wrong if that is before the partial can be seen.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

struct Orders {
  int possible = 0, last = 0, wrong = 0;
  std::string a_wrong_one;

  Orders(bool release, bool acquire) {
    enum { a_partial, a_count, b_count, b_read };
    const std::array names{"A's partial can be seen", "A counts", "B counts", "B reads"};
    std::array<int, 4> at{0, 1, 2, 3};  // each event's place in the order
    do {
      if ((release && at[a_partial] > at[a_count]) || (acquire && at[b_count] > at[b_read])) continue;
      ++possible;
      if (at[a_count] > at[b_count]) continue;
      ++last;
      if (at[a_partial] < at[b_read]) continue;
      ++wrong;
      a_wrong_one.clear();
      for (int place = 0; place < 4; ++place) {
        a_wrong_one += place > 0 ? "; " : "";
        a_wrong_one += names[std::ranges::find(at, place) - at.begin()];
      }
    } while (std::ranges::next_permutation(at).found);
  }
  std::vector<std::string> row(const char* rule) const {
    return {rule, text("%d", possible), text("%d", last), text("%d", wrong)};
  }
};

}  // namespace flashladder::walkthroughs
