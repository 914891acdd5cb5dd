// Two warp groups take turns at starting products (ping-pong), at two barriers of the hardware, one a group: who wants to
// start syncs at its own, and who has started arrives at the other's. A barrier opens when both groups have come to it, the
// one by syncing and the other by arriving.
//
//   group 1   begin: arrives at 0's |              take: waits ........ | products | give
//   group 0                         | take: opens | products | give ----^          ^---- take: waits for group 1's give
//
// Nobody waits for a product here. Whose turn it is decides in which order products queue up for the tensor cores: those of
// one group, all of them, then those of the other. Without turns nothing keeps the groups out of step: where both start at
// the same time, their products share the tensor cores and end together, and then both compute exponents.
#pragma once

#include "gpu/ptx/named_barrier.cuh"

namespace flashladder::gpu {

// Groups 0 and 1, of 128 threads. Both take and give the same number of turns. (Barriers 1 and 2 are sync_group()'s.)
struct Turns {
  static constexpr int threads = 256;
  int group;

  // Group 0 has the first turn: as if group 1 had just had one.
  __device__ explicit Turns(int group_) : group(group_) {
    if (group == 1) give();
  }
  __device__ void take() const { named_barrier_sync<threads>(3 + group); }
  __device__ void give() const { named_barrier_arrive<threads>(3 + (1 - group)); }
};

}  // namespace flashladder::gpu
