// One part of a Plan as kernels read it: one block of bytes, copied to the GPU at once.
//
//   header               how much work there is, and the counter by which CTAs claim it
//   queues [num_ctas]    a part with queues: the first item of each CTA, by value, and where the rest of its items lie
//   items  [items]       in queue order, those of every head; a claimed part: in the order in which they are claimed, stored
//                        once for all the heads that share them (core/plan.hpp: copies)
//   merges [merges]      where the partials of a cut tile lie, and the rows that they become
//   arrivals             zeros: how many partials are written, of each merge, or of each row of it (PackedShape::counters),
//                        and of each group of partials in the merges that have several. They return to zero by
//                        themselves, and so does the header's counter
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
#include "core/row.hpp"

namespace flashladder::gpu {

// What masks and ALiBi ask of the request that a query belongs to.
struct RequestShape {
  std::int32_t kv_len = 0, diagonal = 0;  // query i stands on key diagonal + i: diagonal = kv_len - qo_len
  std::int64_t mask = 0;                  // where its rows begin in a custom mask, in words (core/mask_bits.hpp)

  FL_HD constexpr std::int32_t qo_len() const { return kv_len - diagonal; }
  friend bool operator==(const RequestShape&, const RequestShape&) = default;
};

// Records are padded to sectors of memory, 32 bytes: what a kernel without masks reads, everything but `request`, lies in as
// few of them as it can.
struct alignas(16) PackedItem {
  std::int32_t query = 0, head = 0;      // token of q and o where the request's queries begin; head of core/row.hpp
  Range rows;                            // packed rows. Empty: no item
  Range keys;
  std::int32_t kv_head = 0;
  std::int32_t first_page = 0;           // of the request, in the table's list of pages
  std::int32_t merge = -1, slot = 0;     // its tile's merge and its first partial row; -1 writes o
  RequestShape request;
  friend bool operator==(const PackedItem&, const PackedItem&) = default;
};

struct alignas(16) PackedQueue {
  std::int32_t begin = 0, end = 0;       // the other items of the CTA
  PackedItem first;
  std::int32_t padding[4] = {};
  friend bool operator==(const PackedQueue&, const PackedQueue&) = default;
};

struct alignas(16) PackedMerge {
  std::int32_t query = 0, head = 0;      // as in the items
  Range rows;
  std::int32_t first_slot = 0, num_partials = 0;  // partial p of row r lies at first_slot + p * rows.size() + r - rows.begin
  std::int32_t first_group = 0;          // into arrivals
  RequestShape request;
  std::int32_t padding[4] = {};

  // Up to so many partials are merged at once. More of them meet in groups of group_size, each of which becomes one partial,
  // in the place of its first; then the groups are merged.
  static constexpr std::int32_t most_at_once = 32, group_size = 16;
  FL_HD constexpr bool grouped() const { return num_partials > most_at_once; }
  FL_HD constexpr std::int32_t num_groups() const { return grouped() ? div_up(num_partials, group_size) : 0; }
  friend bool operator==(const PackedMerge&, const PackedMerge&) = default;
};

struct alignas(16) PackedHeader {
  std::uint32_t claimed = 0;             // counts claims; returns to zero when every CTA has found nothing more to do
  std::int32_t num_work = 0;             // items * copies
  std::int32_t copies = 1;
  std::int32_t merges = 0;               // of one copy, as all that follows
  std::int32_t partial_rows = 0, groups = 0;
  std::int32_t section = 1, narrow = 0;  // copies whose keys and values the L2 cache holds together: who claims by sections
                                         // takes all items of one section, then those of the next. `narrow` sections have
                                         // so many, the last one all that are left

  struct Place {
    std::int32_t item, copy;
  };
  // Work w in the order of the sections. Inside a section as without: item by item, its copies side by side.
  FL_HD constexpr Place in_sections(std::int32_t w) const {
    const std::int32_t items = num_work / copies, by_width = w / (items * section);
    const std::int32_t at = by_width < narrow ? by_width : narrow, first = at * section;
    const std::int32_t width = at < narrow ? section : copies - first, rest = w - first * items;
    const std::int32_t item = rest / width;
    return {item, first + rest - item * width};
  }

  // What is stored once, for the head whose turn it is. pack, group_size: those of the rows (core/row.hpp).
  FL_HD constexpr void move_to_copy(PackedItem& item, std::int32_t copy, std::int32_t pack, std::int32_t group_size) const {
    item.head += copy;
    item.kv_head = pack == group_size ? item.head : kv_head_of(item.head, pack, group_size);
    if (item.merge >= 0) item.merge += copy * merges, item.slot += copy * partial_rows;
  }
  FL_HD constexpr PackedItem of_copy(PackedItem item, std::int32_t copy, std::int32_t pack, std::int32_t group_size) const {
    move_to_copy(item, copy, pack, group_size);
    return item;
  }
  FL_HD constexpr PackedMerge of_copy(PackedMerge merge, std::int32_t copy) const {
    merge.head += copy;
    merge.first_slot += copy * partial_rows;
    merge.first_group += copy * groups;
    return merge;
  }
  friend bool operator==(const PackedHeader&, const PackedHeader&) = default;
};

static_assert(sizeof(PackedItem) % 32 == 0 && sizeof(PackedQueue) % 32 == 0 && sizeof(PackedMerge) % 32 == 0 &&
              sizeof(PackedHeader) % 32 == 0, "records must be whole sectors");

// Capacities, and what does not change from plan to plan.
struct PackedShape {
  bool claimed = false;
  std::int32_t num_ctas = 0;    // the grid: CTAs beyond the plan's find an empty queue
  std::int32_t query_tile = 1;  // most packed rows in an item: decides the kernel's instance
  std::int32_t pack = 1;        // query heads a row tile packs
  // Heads that share the stored items: 1 with queues, where each head's are written out. A block of copies = 1 has room for
  // any number of them: items then counts those of all heads.
  std::int32_t copies = 1;
  std::int32_t counters = 1;           // of a merge: who merges row by row has one for each row of a tile
  std::int64_t items = 0, merges = 0;  // stored
  std::int64_t partial_rows = 0;       // of the whole plan: slots count through all its parts

  std::int64_t num_work() const { return items * copies; }
};
PackedShape shape_of(const Plan& plan, std::size_t part = 0);  // exactly what this part of the plan takes

std::size_t packed_bytes(const PackedShape& shape);  // of the block, a multiple of 16
// Of the workspace, f32: partial o [partial_rows, head_dim_vo], partial lse_log2 [partial_rows], groups' lse_log2
// [partial_rows].
std::size_t partial_bytes(const PackedShape& shape, std::int32_t head_dim_vo);

// Where a request's pages begin in the table's list: one after the other (what paged_kv_indptr says, since a valid table has
// no more pages than its tokens fill), or, in a dense block table, at multiples of a row.
struct PageRows {
  std::int32_t page_size = 1;
  std::int32_t row = 0;  // pages in a row of the block table; 0: no block table
};

// Writes the block of a part of the plan into out, all of capacity's bytes that a kernel reads. InputError if the part is
// larger than capacity, or has more than 2^31 - 1 rows or pages.
void pack(const Plan& plan, const PageRows& pages, const PackedShape& capacity, std::span<std::byte> out,
          std::size_t part = 0);

// The block's parts, on whichever side `packed` lies.
struct PackedView {
  PackedHeader* header = nullptr;
  PackedQueue* queues = nullptr;
  PackedItem* items = nullptr;
  PackedMerge* merges = nullptr;
  std::uint32_t* arrivals = nullptr;
};
PackedView view_of(const PackedShape& capacity, std::byte* packed);

// What a planned kernel is given beside QueryRows, KvPages and its variant's parameters.
struct PackedParams {
  PackedView view;
  float* partial_o = nullptr;           // [partial_rows, head_dim_vo], normalised
  float* partial_lse_log2 = nullptr;    // [partial_rows]
  float* group_lse_log2 = nullptr;      // [partial_rows] of groups: their o takes the place of their first partial's
  std::uint64_t* cta_times = nullptr;   // [num_ctas, 2] when each CTA began and ended, ns of the GPU's clock; or not asked
  std::int32_t pack = 1, counters = 1;
  bool programmatic = false;            // the kernel may start before what it reads has been written
  bool is_new = false;                  // the kernel before makes the plan: wait for it before the first read
};
// packed: a block of pack() for this capacity; partials: partial_bytes(). Both on the device.
PackedParams packed_params(const PackedShape& capacity, std::byte* packed, void* partials, std::int32_t head_dim_vo,
                           std::uint64_t* cta_times = nullptr);

}  // namespace flashladder::gpu
