// What the GPU's planners keep while they plan, and where: what is small or often asked for in the block's shared memory, the
// rest in scratch memory of the workspace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/least_loaded.hpp"
#include "gpu/plan/decode_plan.hpp"

namespace flashladder::gpu {

// What lies before a request, in the line of all: tokens, what its tiles cost uncut, and the most keys that one of them has.
struct alignas(8) RequestSums {
  std::int64_t tokens = 0, cost = 0;
  std::int32_t most_keys = 0;
  FL_HD constexpr RequestSums& operator+=(const RequestSums& b) {
    tokens += b.tokens, cost += b.cost;
    most_keys = most_keys < b.most_keys ? b.most_keys : most_keys;
    return *this;
  }
};
// Before a lane, or a request, of one copy.
struct WorkSums {
  std::int32_t items = 0, merges = 0, partial_rows = 0, groups = 0;
  FL_HD constexpr WorkSums& operator+=(const WorkSums& b) {
    items += b.items, merges += b.merges, partial_rows += b.partial_rows, groups += b.groups;
    return *this;
  }
};
struct ChunkSums {
  std::int64_t tokens = 0;
  WorkSums work;
  FL_HD constexpr ChunkSums& operator+=(const ChunkSums& b) {
    tokens += b.tokens, work += b.work;
    return *this;
  }
};
// Where a lane begins: at the beginning of a unit (a tile of one head of the line), or at one of its keys, where it is cut.
struct LaneBegin {
  std::int32_t request = 0, unit = 0;
  std::int32_t key = -1;  // -1: the beginning
};
struct Given {
  std::int32_t cta, place;  // which of the CTA's items it is
};

// Where a planner keeps what it needs: shared memory of the block, and scratch in the workspace for what is large.
struct DecodePlanMemory {
  void* of_threads = nullptr;       // [2, threads] sums
  WorkSums* lanes = nullptr;        // [lanes + 1]
  void* before = nullptr;           // [batch + 1] RequestSums or ChunkSums
  LaneBegin* begins = nullptr;      // [lanes + 1]
  std::uint64_t* loads = nullptr;   // [LeastLoaded::nodes(num_ctas)]
  std::int32_t* queues = nullptr;   // [2, num_ctas + 1] how many items each has, and where they begin
  Given* given = nullptr;           // [most_work]
  std::size_t shared_bytes = 0, scratch_bytes = 0;  // what all that takes
};

// Of the block that plans on the GPU.
inline constexpr std::int32_t plan_threads = 512;
// What every GPU from sm_80 on gives a block.
inline constexpr std::size_t most_shared_bytes = 96 * 1024;

// One piece of memory after the other, each aligned to 16 bytes.
struct PlanPieces {
  std::byte* at = nullptr;
  std::size_t bytes = 0;

  template <class T>
  FL_HD constexpr T* take(std::int64_t n) {
    T* const piece = at == nullptr ? nullptr : reinterpret_cast<T*>(at + bytes);
    bytes += (static_cast<std::size_t>(n) * sizeof(T) + 15) / 16 * 16;
    return piece;
  }
  // Of shared memory.
  template <class T>
  FL_HD constexpr bool has_room_for(std::int64_t n) const {
    return bytes + (static_cast<std::size_t>(n) * sizeof(T) + 15) / 16 * 16 <= most_shared_bytes;
  }
};

// threads: of the block. Null pointers for the memory: only how much it must be.
FL_HD inline DecodePlanMemory decode_plan_memory(const DecodePlanParams& p, std::int32_t threads, std::byte* shared,
                                                 std::byte* scratch) {
  PlanPieces near{shared}, far{scratch};
  const std::int32_t lanes = p.line().lanes;
  DecodePlanMemory m;
  if (p.even) {
    m.of_threads = near.take<RequestSums>(2 * threads);
    m.lanes = near.take<WorkSums>(lanes + 1);
    m.begins = near.take<LaneBegin>(lanes + 1);
  } else {
    m.of_threads = near.take<ChunkSums>(2 * threads);
    m.queues = near.take<std::int32_t>(2 * (p.num_ctas + 1));
    m.loads = near.take<std::uint64_t>(static_cast<std::int64_t>(LeastLoaded::nodes(static_cast<std::uint32_t>(p.num_ctas))));
    m.given = far.take<Given>(p.most_work);
  }
  const std::int64_t size = p.even ? sizeof(RequestSums) : sizeof(ChunkSums), before = (p.batch() + 1) * size;
  if (near.has_room_for<std::byte>(before)) m.before = near.take<std::byte>(before);
  else m.before = far.take<std::byte>(before);
  m.shared_bytes = near.bytes, m.scratch_bytes = far.bytes;
  return m;
}

}  // namespace flashladder::gpu
