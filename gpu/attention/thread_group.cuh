// The threads of a CTA that work together, and the barrier at which they meet: the whole CTA, or a part of its warps.
#pragma once

#include "gpu/ptx/named_barrier.cuh"

namespace flashladder::gpu {

// Threads first .. first + threads - 1 of the CTA, whole warps. barrier: 0 .. 15, another for each group of a kernel.
// (PTX ISA, "Parallel Synchronization and Communication Instructions: bar.sync".)
template <int threads_, int first = 0, int barrier = 0>
struct ThreadGroup {
  static constexpr int threads = threads_;
  static_assert(threads % 32 == 0 && first % 32 == 0, "a named barrier counts whole warps");
  static_assert(barrier >= 0 && barrier < 16, "a CTA has sixteen barriers");

  __device__ static int rank() { return static_cast<int>(threadIdx.x) - first; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x / 32) - first / 32; }  // of the group
  __device__ static void sync() { named_barrier_sync<threads>(barrier); }
};

// Four warps of a CTA that has several such groups, each with work of its own: all of them run the same code.
struct WarpGroup {
  static constexpr int threads = 128;

  __device__ static int rank() { return static_cast<int>(threadIdx.x % threads); }
  __device__ static int warp() { return static_cast<int>(threadIdx.x % threads / 32); }
  __device__ static void sync() { named_barrier_sync<threads>(1 + static_cast<int>(threadIdx.x / threads)); }
};

}  // namespace flashladder::gpu
