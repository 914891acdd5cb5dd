// A packed plan, read by a CTA: the items that it claims, and where their rows lie in q and o.
#pragma once

#include <cstdint>

#include "core/row.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/write_row.cuh"
#include "gpu/ptx/cp_async.cuh"

namespace flashladder::gpu {

// Work w of a claimed part: the stored item, for the head whose turn it is. w < header->num_work.
__device__ inline PackedItem work_of(const PackedParams& plan, std::int32_t group_size, std::int32_t w) {
  const PackedHeader& header = *plan.view.header;
  return header.of_copy(plan.view.items[w / header.copies], w % header.copies, plan.pack, group_size);
}

// The same by a warp, in two steps and in the order of sections, so that the record is under way while other work goes on:
// its copy to shared memory starts (cp.async, not committed), and when it has come, one lane moves it to the head whose turn
// it is, and to where all threads read it.
__device__ inline PackedHeader::Place start_work(const PackedParams& plan, const PackedHeader& header, std::int32_t w,
                                                 PackedItem& coming) {
  const PackedHeader::Place place = header.in_sections(w);
  const unsigned lane = threadIdx.x % 32;
  const auto* from = reinterpret_cast<const uint4*>(plan.view.items + place.item);
  if (lane < sizeof(PackedItem) / sizeof(uint4)) cp_async_16(reinterpret_cast<uint4*>(&coming) + lane, from + lane, true);
  return place;
}
__device__ inline void settle_work(const PackedParams& plan, std::int32_t group_size, std::int32_t copy,
                                   const PackedItem& coming, PackedItem& item) {
  if (threadIdx.x % 32 == 0) {
#pragma unroll 1
    for (unsigned i = 0; i < sizeof(PackedItem) / sizeof(uint4); ++i) {  // not all at once: such a warp has few registers
      reinterpret_cast<uint4*>(&item)[i] = reinterpret_cast<const uint4*>(&coming)[i];
    }
    plan.view.header->move_to_copy(item, copy, plan.pack, group_size);
  }
  __syncwarp();  // the record is there, and the next may come
}

// Merge m of a part, whose copies follow each other.
__device__ inline PackedMerge merge_of(const PackedParams& plan, std::int32_t m) {
  const PackedHeader& header = *plan.view.header;
  return header.of_copy(plan.view.merges[m % header.merges], m / header.merges);
}

// Claims the next work; header->num_work or more: there is none. The counter wraps to zero with the last CTA that finds
// nothing, and is ready for the next launch. By one thread.
__device__ inline std::int32_t claim(const PackedParams& plan) {
  PackedHeader& header = *plan.view.header;
  const std::uint32_t last = static_cast<std::uint32_t>(header.num_work) + gridDim.x - 1;
  return static_cast<std::int32_t>(atomicInc(&header.claimed, last));
}

// Where row r (from 0) of an item or a merge lies. In general, any number of queries:
struct PackedRows {
  static constexpr bool one_query = false;
  std::int32_t pack;

  template <class Tile>
  __device__ RowPlace operator()(const Tile& tile, int r) const {
    const RowPlace place = row_of(tile.head, tile.rows.begin + r, pack);
    return {tile.query + place.query, place.qo_head};
  }
  // Of q, in elements.
  template <class Tile>
  __device__ std::int64_t q_offset(const QueryRows& rows, const Tile& tile, int r) const {
    return rows.q_offset((*this)(tile, r));
  }
};

// One query for each request and pack = group, as decode has it: rows are heads that lie side by side, no division.
struct OneQueryRows {
  static constexpr bool one_query = true;
  std::int32_t pack;

  template <class Tile>
  __device__ RowPlace operator()(const Tile& tile, int r) const {
    return {tile.query, tile.head * pack + tile.rows.begin + r};
  }
  template <class Tile>
  __device__ std::int64_t q_offset(const QueryRows& rows, const Tile& tile, int r) const {
    return rows.q_offset((*this)(tile, 0)) + std::int64_t{r} * rows.q_head;
  }
};

// Row r of a finished decode item, `Value` features of it: to the output, or to the partials if its tile is cut.
template <int head_dim, class Value>
__device__ void write_item_row(const QueryRows& rows, const PackedParams& plan, const PackedItem& item, int r, int feature,
                               SoftmaxState<float> state, Value value) {
  if (item.merge < 0) {
    write_output(rows, OneQueryRows{plan.pack}(item, r), feature, state, value);
  } else {
    write_partial(plan.partial_o, plan.partial_lse_log2, std::int64_t{item.slot} + r, head_dim, feature, state, value);
  }
}

}  // namespace flashladder::gpu
