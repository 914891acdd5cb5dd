// A Plan as the persistent decode kernels read it: one block of bytes, copied to the GPU at once.
//
//   queues [num_ctas]   the first item of each CTA, by value, and where the rest of its items lie
//   items  [items]      in queue order
//   merges [merges]     where the partials of a cut tile lie, and the rows that they become
//   arrivals            zeros: how many partials are written, of each merge [merges], and of each group of partials in the
//                       merges that have several [items]. They return to zero by themselves
//
// An item says all that a CTA needs, the request's first page included, so that keys are three loads away from the launch
// (queue, page id, key) and not five. The layout depends on the capacities alone: what a captured graph's kernel points to
// stays right when a smaller or larger plan is packed into the same block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/host_device.hpp"
#include "core/plan.hpp"
#include "core/range.hpp"

namespace flashladder::gpu {

struct alignas(16) PackedItem {
  std::int32_t row = 0, rows = 0;        // of q and o: request * num_qo_heads + first query head; how many. 0: no item
  std::int32_t kv_head = 0;
  std::int32_t first_page = 0;           // of the request, in paged_kv_indices
  std::int32_t begin = 0, end = 0;       // keys
  std::int32_t merge = -1, slot = 0;     // its tile's merge and its first partial row; -1 writes o
};

struct alignas(16) PackedQueue {
  PackedItem first;
  std::int32_t begin = 0, end = 0;       // the other items of the CTA
};

struct alignas(16) PackedMerge {
  std::int32_t row = 0, rows = 0;        // of o
  std::int32_t first_slot = 0, num_partials = 0;  // partial p of row r lies at first_slot + p * rows + r
  std::int32_t first_group = 0;          // into arrivals

  // Up to so many partials are merged at once. More of them meet in groups of group_size, each of which becomes one partial,
  // in the place of its first; then the groups are merged.
  static constexpr std::int32_t most_at_once = 32, group_size = 16;
  FL_HD constexpr bool grouped() const { return num_partials > most_at_once; }
  FL_HD constexpr std::int32_t num_groups() const { return grouped() ? div_up(num_partials, group_size) : 0; }
};

// Capacities.
struct PackedShape {
  std::int32_t num_ctas = 0;    // the grid: CTAs beyond the plan's find an empty queue
  std::int32_t query_tile = 1;  // most packed rows in an item: decides the kernel's instance
  std::int64_t items = 0, merges = 0, partial_rows = 0;
};
PackedShape shape_of(const Plan& plan);  // exactly what this plan takes

std::size_t packed_bytes(const PackedShape& shape);  // of the block, a multiple of 16
// Of the workspace, f32: partial o [partial_rows, head_dim], partial lse_log2 [partial_rows], groups' lse_log2
// [partial_rows].
std::size_t partial_bytes(const PackedShape& shape, std::int32_t head_dim);

// Writes the block of a plan for decode (one query a request) into out, all of capacity's bytes that a kernel reads.
// InputError if the plan is larger than capacity, or has more than 2^31 - 1 rows or pages.
void pack(const Plan& plan, std::int32_t page_size, const PackedShape& capacity, std::span<std::byte> out);

// The block's parts, on whichever side `packed` lies.
struct PackedView {
  PackedQueue* queues = nullptr;
  PackedItem* items = nullptr;
  PackedMerge* merges = nullptr;
  std::uint32_t* arrivals = nullptr;
};
PackedView view_of(const PackedShape& capacity, std::byte* packed);

}  // namespace flashladder::gpu
