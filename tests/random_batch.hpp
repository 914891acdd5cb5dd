// Batches to be planned, drawn from a seed: every option now and then. Costs are chosen so that every sum is exact.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "planner/planner.hpp"

namespace flashladder::test {

using namespace planner;

struct Batch {
  std::vector<std::int32_t> qo_lens, kv_lens;
  PlanInputs in;  // its spans point into the vectors
};

// Small, so that every (row, key) pair can be counted; policy target needs keys beyond its smallest tier now and then.
inline Batch random_batch(std::uint64_t seed) {
  std::mt19937_64 bits(seed);
  const auto draw = [&](std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  };
  Batch b;
  PlanInputs& in = b.in;
  in.policy = all_policies[bits() % all_policies.size()];
  const bool decode = draw(0, 1) == 0, long_keys = in.policy == SplitPolicy::target && draw(0, 3) == 0;
  for (std::int32_t r = draw(0, 8); r > 0; --r) {
    b.qo_lens.push_back(draw(0, 4) == 0 ? 0 : draw(0, 2) == 0 ? 1 : draw(1, long_keys ? 2 : 20));
    b.kv_lens.push_back(draw(0, 5) == 0 ? 0 : draw(1, long_keys ? 3000 : draw(0, 2) == 0 ? 200 : 20));
  }
  in.num_kv_heads = draw(1, 3);
  in.num_qo_heads = in.num_kv_heads * draw(1, 8);
  in.head_dim_vo = draw(1, 64);
  in.mask = static_cast<MaskMode>(draw(0, 2));
  in.window_left = draw(0, 2) == 0 ? draw(0, 20) : -1;
  in.query_tile = draw(0, 2) == 0 ? 0 : draw(1, 24);
  in.pack = draw(0, 1);
  in.decode_tile = draw(0, 1) == 0 ? 0 : draw(1, 9);
  in.claimed = draw(0, 2) == 0;
  in.chunk_align = long_keys ? 1 << draw(6, 9) : 1 << draw(0, 4);
  if (in.policy != SplitPolicy::target && draw(0, 3) == 0) in.chunk_align = draw(1, 20);
  in.chunk_size = in.chunk_align * draw(1, 4);
  in.min_chunk = draw(1, 20);
  in.target_units = draw(1, 60);
  in.machine = {draw(1, 40), draw(1, 2)};
  in.cost = {.per_item = static_cast<double>(draw(0, 40)), .memory_bound_rows = static_cast<double>(1 << draw(0, 5))};
  in.kv_lens = b.kv_lens;
  if (!decode) in.qo_lens = b.qo_lens;
  return b;
}

}  // namespace flashladder::test
