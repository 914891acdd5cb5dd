// The bytes of one head that cross between memory and chip, counted by walking the loops of an attention: the naive formula,
// FlashAttention (keys outside: Dao et al., arXiv:2205.14135, algorithm 1), FlashAttention-2 (queries outside,
// arXiv:2307.08691, algorithm 1). Q, K, V and the final O are 16 bit; m, d, lse and an O that will be read again are float.
#pragma once

#include <algorithm>
#include <cstdint>

#include "draw/bar_chart.hpp"

namespace flashladder::walkthroughs {

struct TrafficShape {
  std::int32_t tokens = 8192, head_dim = 64, query_tile = 128, key_tile = 128;
};

inline draw::Traffic naive_traffic(const TrafficShape& s) {
  const double matrix = 2.0 * s.tokens * s.head_dim, scores = 2.0 * s.tokens * s.tokens;
  return {"C0: S and P in memory", matrix, matrix, matrix, matrix, 4 * scores};  // S and P: each written and read once
}

inline draw::Traffic fa1_traffic(const TrafficShape& s) {
  draw::Traffic t{"FA1: keys outside"};
  for (std::int32_t j = 0; j < s.tokens; j += s.key_tile) {
    const double keys = std::min(s.key_tile, s.tokens - j);
    t.k += 2 * keys * s.head_dim;
    t.v += 2 * keys * s.head_dim;
    for (std::int32_t i = 0; i < s.tokens; i += s.query_tile) {
      const double queries = std::min(s.query_tile, s.tokens - i), visits = (j > 0) + 1;  // read what is there, write back
      const double o_bytes = j + s.key_tile < s.tokens ? 4 : 2;
      t.q += 2 * queries * s.head_dim;
      t.o += queries * s.head_dim * ((visits - 1) * 4 + o_bytes);
      t.statistics += visits * 2 * 4 * queries;
    }
  }
  return t;
}

inline draw::Traffic fa2_traffic(const TrafficShape& s) {
  draw::Traffic t{"FA2, C1: queries outside"};
  for (std::int32_t i = 0; i < s.tokens; i += s.query_tile) {
    const double queries = std::min(s.query_tile, s.tokens - i);
    t.q += 2 * queries * s.head_dim;
    t.o += 2 * queries * s.head_dim;
    t.statistics += 4 * queries;
    for (std::int32_t j = 0; j < s.tokens; j += s.key_tile) {
      const double keys = std::min(s.key_tile, s.tokens - j);
      t.k += 2 * keys * s.head_dim;
      t.v += 2 * keys * s.head_dim;
    }
  }
  return t;
}

}  // namespace flashladder::walkthroughs
