// A Plan: who computes what. Made on the host by planner/, executed by the CPU rung C4 and by the GPU kernels.
//
// Query heads that share a KV head are packed into rows, so that K and V are read once per group:
//   packed row r of (request, kv head)  =  query r / group_size,  query head kv_head * group_size + r % group_size
// A work item is a tile of packed rows against a range of keys. Rows and keys are absolute in the request, so masks, ALiBi
// and RoPE never know where the cuts are. A tile whose keys are cut among several items leaves partials (fp32 normalised o
// and lse_log2) in the workspace, and one Merge joins them in slot order, never in the order of arrival.
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

  std::int32_t request = 0, kv_head = 0;
  Range rows;                     // packed query rows
  Range keys;                     // may be empty: the item still writes o = 0, lse = -inf
  std::uint8_t tier = 0;          // which size class of keys (policy target); 0 elsewhere
  std::uint8_t flags = first | last;
  std::int64_t partial_slot = -1;  // first of rows.size() partial rows in the workspace; -1 writes o directly

  FL_HD constexpr bool whole() const { return partial_slot < 0; }
  friend bool operator==(const WorkItem&, const WorkItem&) = default;
};

struct Merge {
  std::int32_t request = 0, kv_head = 0;
  Range rows;                     // packed query rows of the tile
  std::int64_t first_slot = 0;    // partial p of row r lies at first_slot + p * rows.size() + (r - rows.begin)
  std::int32_t num_partials = 0;  // >= 2

  friend bool operator==(const Merge&, const Merge&) = default;
};

struct Plan {
  std::int32_t batch = 0, group_size = 1, num_kv_heads = 1, head_dim_vo = 0;  // what it was made for
  std::vector<std::int32_t> qo_lens, kv_lens;  // [batch]  lengths it was made for: it fits no others
  std::int32_t query_tile = 1;            // packed rows in a full tile
  std::int32_t chunk_size = 0;            // most keys in one item that the policy aimed at; 0 = not split
  std::vector<WorkItem> items;            // request, then tile, then KV head, then keys
  std::vector<std::int32_t> queue_indptr;  // [num_ctas + 1]  CTA c runs queue[queue_indptr[c] .. queue_indptr[c + 1])
  std::vector<std::int32_t> queue;         // [items]         indices into items
  std::vector<Merge> merges;
  std::int64_t partial_rows = 0;          // rows of partials in the workspace
  std::vector<float> cta_cost;            // [num_ctas]  predicted, in key-equivalents (planner's CostModel)
  float total_cost = 0, makespan = 0;     // makespan = the largest cta_cost

  std::int32_t num_ctas() const { return static_cast<std::int32_t>(queue_indptr.size()) - 1; }
  // Exact bytes of the workspace: partial o [partial_rows, head_dim_vo], then partial lse_log2 [partial_rows], both f32.
  std::size_t workspace_bytes() const { return static_cast<std::size_t>(partial_rows) * (head_dim_vo + 1) * sizeof(float); }
};

std::string to_string(const WorkItem& item);  // req=0 head=0 kv=[0,512) tier=0 flags=0x03

}  // namespace flashladder
