// What the lanes of a warp do together, for the shims of CUDA's intrinsics.
#pragma once

#include <cstdint>
#include <type_traits>

#include "simt/cluster.hpp"

namespace flashladder::simt {

// All lanes of the mask bring a T, then together(T* const* of, unsigned mask) runs once: of[lane] of the lanes that came.
// Each lane's T is on its own stack, so that results are handed out by writing to it.
template <class Together, class T>
void meet(unsigned mask, const char* what, T& mine) {
  cluster->meet(mask, what, &mine, [](void* const* slots, unsigned here) {
    T* of[32] = {};
    for (unsigned lane = 0; lane < 32; ++lane) of[lane] = static_cast<T*>(slots[lane]);
    Together{}(of, here);
  });
}

// Of a lane that did not come: its own value, as a GPU promises nothing.
template <class T>
struct Shuffled {
  T value;
  unsigned from;
  T result;
};
struct Shuffle {
  template <class T>
  void operator()(Shuffled<T>* const* of, unsigned here) const {
    for (unsigned lane = 0; lane < 32; ++lane) {
      if (here >> lane & 1) of[lane]->result = of[here >> of[lane]->from & 1 ? of[lane]->from : lane]->value;
    }
  }
};
template <class T>
T shuffle(unsigned mask, const char* what, T value, unsigned from) {
  Shuffled<T> mine{value, from, value};
  meet<Shuffle>(mask, what, mine);
  return mine.result;
}

struct Vote {
  bool mine;
  unsigned all;
};
struct Ballot {
  void operator()(Vote* const* of, unsigned here) const {
    unsigned all = 0;
    for (unsigned lane = 0; lane < 32; ++lane) all |= unsigned{(here >> lane & 1) && of[lane]->mine} << lane;
    for (unsigned lane = 0; lane < 32; ++lane) {
      if (here >> lane & 1) of[lane]->all = all;
    }
  }
};
inline unsigned ballot(unsigned mask, const char* what, bool mine) {
  Vote vote{mine, 0};
  meet<Ballot>(mask, what, vote);
  return vote.all;
}

struct Nothing {
  void operator()(char* const*, unsigned) const {}
};
inline void sync_warp(unsigned mask) {
  char nothing = 0;
  meet<Nothing>(mask, "__syncwarp", nothing);
}

}  // namespace flashladder::simt
