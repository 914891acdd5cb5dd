// What a batch costs decode's two kernels for plans, D6 and D7, as the planner and whoever chooses between them are told: in
// keys, and in microseconds. Numbers alone, without CUDA.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/tensor.hpp"

namespace flashladder::gpu {

// The head_dim of 16-bit keys that a warp reads and computes as fast: shorter ones are as many more in the same time. (Of 256
// features an SM holds one CTA, which reads at twice the rate.)
constexpr std::int32_t cost_dim(std::int32_t head_dim, DType kv_dtype) {
  return size_of(kv_dtype) > 1 ? head_dim : std::min(head_dim, 128) / 2;
}

namespace d6 {
// For the planner's cost model, timed: what starting and ending an item costs a CTA, in keys of 512 bytes; and what it costs
// more where so many partials meet that they are merged in groups. It is time that passes: shorter keys are more of them.
// (Keys of 1024 bytes are as many: the one CTA that an SM then holds reads at twice the rate.)
constexpr double keys_of_512_bytes(double keys, std::int32_t head_dim) {
  return head_dim < 128 ? keys * 128 / head_dim : keys;
}
constexpr double keys_per_item(std::int32_t head_dim) { return keys_of_512_bytes(80, head_dim); }
constexpr double keys_per_grouped_item(std::int32_t head_dim) { return keys_of_512_bytes(300, head_dim); }
}

namespace d7 {
inline constexpr std::int32_t ctas = 16;  // of a cluster
constexpr double keys_per_item(std::int32_t head_dim) { return ctas * d6::keys_per_item(head_dim); }

// most_keys: of a request.
struct BatchShape {
  std::int64_t tiles = 0;       // of all requests and KV heads
  std::int64_t most_keys = 0;
  std::int32_t rows = 1, head_dim = 128;
};

// Microseconds on an H200 of a launch among others of a graph, with programmatic dependent launch, K and V not in L2. Fitted
// to both kernels' times over 1 to 14 tiles of 256 to 16384 keys, of 4 and of 8 rows: how near they come says
// docs/measurements/h200-small-decode.md. D6: all SMs read, and each tile's partials meet in global memory. D7: a cluster
// that has its SMs for itself reads a key in 0.79 ns; with more clusters than GPCs they share SMs, in the end the memory.
// Where a tile is cut, its pieces meet in global memory too.
struct DecodeTimes {
  double d6 = 0, d7 = 0;
  std::int32_t clusters = 0;  // of D7, as many for each tile; 0: more tiles than clusters
};
inline double d7_time(double keys, double clusters, double resident, bool cut) {
  const double of_key = 2 * clusters <= resident ? 0.79e-3 : std::max(1.31e-3, 0.123e-3 * clusters);
  return 3.2 + 0.104 * clusters + (cut ? 1.9 : 0) + of_key * keys;
}
inline DecodeTimes expected_times(const BatchShape& batch, std::int32_t resident) {
  const double tiles = static_cast<double>(batch.tiles);
  const double keys = static_cast<double>(batch.most_keys) * batch.head_dim / 128;  // of 512 bytes
  const double partials = std::min({264 / tiles, std::ceil(keys / 64), 64.0});      // of a tile in D6
  DecodeTimes times{.d6 = 4.8 + 0.0099 * partials * batch.rows + 0.126e-3 * tiles * keys};
  if (batch.tiles < 1) return times;
  for (std::int32_t pieces = 1; pieces * batch.tiles <= resident; ++pieces) {
    const double time = d7_time(keys / pieces, pieces * tiles, resident, pieces > 1);
    if (times.clusters > 0 && time >= times.d7) continue;
    times.d7 = time, times.clusters = static_cast<std::int32_t>(pieces * batch.tiles);
  }
  return times;
}

// Clusters that a batch should be planned for, or 0, if D6 is the faster. resident: clusters() of decode.hpp.
inline std::int32_t worth_clusters(const BatchShape& batch, std::int32_t resident) {
  if (batch.tiles < 1) return 0;
  const DecodeTimes times = expected_times(batch, resident);
  return times.clusters > 0 && times.d7 < times.d6 ? times.clusters : 0;
}
}

}  // namespace flashladder::gpu
