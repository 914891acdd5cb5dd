// A Plan: who computes what. Made on the host by planner/, executed by the CPU rung C4 and by the GPU kernels.
//
// A work item is a tile of packed query rows (row.hpp) of one request and one head against a range of keys. Rows and keys
// are absolute in the request, so masks, ALiBi and RoPE never know where the cuts are. A tile whose keys are cut among
// several items leaves partials (fp32 normalised o and lse_log2) in the workspace, and one Merge joins them in slot order,
// never in the order of arrival.
//
// A plan is a list of parts. The work of one part has tiles of one height, so that one kernel instance runs all of it. Heads
// differ in nothing but their number: where a part's heads are cut alike, it stores the items of one of them only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/host_device.hpp"
#include "core/range.hpp"

namespace flashladder {

struct WorkItem {
  static constexpr std::uint8_t first = 1, last = 2;  // flags: holds the first, the last chunk of its tile's keys

  std::int32_t request = 0, head = 0;  // head: of packed rows, 0 .. num_qo_heads / pack - 1
  Range rows;                      // packed query rows
  Range keys;                      // may be empty: the item still writes o = 0, lse = -inf
  std::uint8_t tier = 0;           // which size class of keys (policy target); 0 elsewhere
  std::uint8_t flags = first | last;
  std::int32_t merge = -1;         // its tile's merge, an index into the part's merges; -1 where the tile is not cut
  std::int64_t partial_slot = -1;  // first of rows.size() partial rows in the workspace; -1 writes o directly

  FL_HD constexpr bool whole() const { return partial_slot < 0; }
  friend bool operator==(const WorkItem&, const WorkItem&) = default;
};

struct Merge {
  std::int32_t request = 0, head = 0;
  Range rows;                     // packed query rows of the tile
  std::int64_t first_slot = 0;    // partial p of row r lies at first_slot + p * rows.size() + (r - rows.begin)
  std::int32_t num_partials = 0;  // >= 2

  friend bool operator==(const Merge&, const Merge&) = default;
};

struct PlanPart {
  std::int32_t query_tile = 1;   // packed rows in a full tile
  std::int32_t pack = 1;         // query heads whose rows are packed: 1, or the group
  std::int32_t copies = 1;       // heads that share the items: work w is item w / copies for head w % copies, and then its
                                 // slots and its merge are those of that copy
  std::vector<WorkItem> items;   // of copy 0. By request, tile, head and keys; if claimed, the costliest first
  std::vector<Merge> merges;     // of copy 0. By request, tile and head
  std::int64_t partial_rows = 0;  // in the workspace, of one copy; the copies' rows follow each other
  // false: CTA c runs its queue. true: the CTAs claim work 0, 1, 2 ... by a counter, and the queues only predict who gets
  // what; they are empty where nobody asked for a prediction. The result is the same bits, because items write to places of
  // their own and merges go by slots.
  bool claimed = false;
  std::vector<std::int32_t> queue_indptr;  // [num_ctas + 1]  CTA c runs queue[queue_indptr[c] .. queue_indptr[c + 1])
  std::vector<std::int32_t> queue;         // [num_work()]    which work

  std::int64_t num_work() const { return static_cast<std::int64_t>(items.size()) * copies; }
  std::int64_t num_merges() const { return static_cast<std::int64_t>(merges.size()) * copies; }
  WorkItem work(std::int64_t w) const { return of_copy(items[static_cast<std::size_t>(w / copies)], w % copies); }
  // Merge m of copy 0's list, then those of copy 1, and so on: what WorkItem::merge of work(w) counts.
  Merge merge(std::int64_t m) const {
    const auto one = static_cast<std::int64_t>(merges.size());
    return of_copy(merges[static_cast<std::size_t>(m % one)], m / one);
  }

  WorkItem of_copy(WorkItem item, std::int64_t copy) const {
    item.head += static_cast<std::int32_t>(copy);
    if (item.whole()) return item;
    item.partial_slot += copy * partial_rows;
    item.merge += static_cast<std::int32_t>(copy * std::ssize(merges));
    return item;
  }
  Merge of_copy(Merge merge, std::int64_t copy) const {
    merge.head += static_cast<std::int32_t>(copy);
    merge.first_slot += copy * partial_rows;
    return merge;
  }

  friend bool operator==(const PlanPart&, const PlanPart&) = default;
};

// visit(w) for all work of a part, in the order in which it is listed and scheduled: by request, tile, head and keys. Of a
// claimed part: in the order of the claims.
template <class Visit>
void for_each_work(const PlanPart& part, Visit&& visit) {
  const auto size = static_cast<std::int32_t>(part.items.size());
  for (std::int32_t begin = 0, end = 0; begin < size; begin = end) {  // the items of one tile
    end = begin + 1;
    while (!part.claimed && (part.items[static_cast<std::size_t>(end) - 1].flags & WorkItem::last) == 0) ++end;
    for (std::int32_t copy = 0; copy < part.copies; ++copy) {
      for (std::int32_t i = begin; i < end; ++i) visit(i * part.copies + copy);
    }
  }
}

struct Plan {
  std::int32_t batch = 0, num_qo_heads = 1, num_kv_heads = 1, head_dim_vo = 0;  // what it was made for
  std::vector<std::int32_t> qo_lens, kv_lens;  // [batch]  lengths it was made for: it fits no others
  std::int32_t chunk_size = 0;            // most keys in one item that the policy aimed at; 0 = not split
  std::vector<PlanPart> parts;            // at least one; their rows are in no order
  std::int64_t partial_rows = 0;          // rows of partials in the workspace, of all parts and copies
  std::vector<float> cta_cost;            // [num_ctas]  predicted, of all parts, in key-equivalents (planner's CostModel); 0
                                          // without a prediction, as the two sums below
  float total_cost = 0, makespan = 0;     // makespan = the largest cta_cost

  std::int32_t group_size() const { return num_qo_heads / num_kv_heads; }
  std::int32_t num_heads(const PlanPart& part) const { return num_qo_heads / part.pack; }
  std::int32_t num_ctas() const { return static_cast<std::int32_t>(cta_cost.size()); }
  std::int64_t num_work() const;    // of all parts
  std::int64_t num_merges() const;
  // Exact bytes of the workspace: partial o [partial_rows, head_dim_vo], then partial lse_log2 [partial_rows], both f32.
  std::size_t workspace_bytes() const {
    return static_cast<std::size_t>(partial_rows) * (static_cast<std::size_t>(head_dim_vo) + 1) * sizeof(float);
  }
  friend bool operator==(const Plan&, const Plan&) = default;
};

std::string to_string(const WorkItem& item);  // req=0 head=0 kv=[0,512) tier=0 flags=0x03

}  // namespace flashladder
