// What kind of mistake a wrong result looks like. Known mistakes (faulty_attention.hpp) compute the same cases; those whose
// output is the kernel's everywhere are named. Mistakes that no case tells apart are one class; if none is left, the mistake
// is not recognised, which is a legal answer: nothing is guessed from where the errors lie.
#pragma once

#include <vector>

#include "ladder/agree.hpp"
#include "ladder/plugin/faulty_attention.hpp"

namespace flashladder::ladder {

class Suspects {
 public:
  Suspects();  // every fault

  // Drops those who would have given something else on this case. fails: the kernel's result is wrong here, so whoever gives
  // the right one is dropped too.
  void confront(const Case& c, const RunResult& got, const Oracle& oracle, bool fails);
  std::vector<Fault> left() const;
  bool none_left() const { return suspects_.empty(); }

 private:
  struct Suspect {
    Fault fault;
    std::vector<Cuts> cuts;  // on each case one of them has to fit: a kernel may choose its tiles by the shape
  };
  std::vector<Suspect> suspects_;
};

}  // namespace flashladder::ladder
