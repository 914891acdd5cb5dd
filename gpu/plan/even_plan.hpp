// Policy even on the GPU (planner/even_cuts.cpp is the host's). Where a lane begins is arithmetic, so that no thread waits for
// what another one has found but for sums:
//
//   1  sums over the requests say where each one begins in the line of cost
//   2  each lane looks there for where it begins, but if whole tiles are as level: then it counts them
//   3  sums over the lanes say where a lane's items, merges and partial rows lie
//   4  all records are written in any order
#pragma once

#include <cstdint>

#include "gpu/plan/block_sums.hpp"
#include "gpu/plan/plan_memory.hpp"
#include "gpu/plan/write_records.hpp"

namespace flashladder::gpu {

class EvenPlan {
 public:
  FL_HD EvenPlan(const DecodePlanParams& p, const DecodePlanMemory& memory) : EvenPlan(p, memory, p.line()) {}

  template <class Block>
  FL_HD void run(Block& block) {
    exclusive_sums(block, static_cast<RequestSums*>(memory_.of_threads), p_.batch(),
                   [&](std::int32_t request) { return sums_of(request); }, before_);
    const RequestSums& line = before_[p_.batch()];
    const auto total = static_cast<double>(line.cost);
    const std::int32_t whole = whole_units(total, static_cast<double>(std::int64_t{p_.per_item} + line.most_keys),
                                           p_.batch() * units_, lanes_, p_.per_item, p_.chunk_align);
    block.each([&](std::int32_t t) {
      FL_ROLLED for (std::int32_t lane = t; lane <= lanes_; lane += Block::threads) {
        begins_[lane] = whole > 0 ? whole_from(std::int64_t{lane} * whole) : begin_of(lane, total);
      }
    });
    exclusive_sums(block, static_cast<WorkSums*>(memory_.of_threads), lanes_,
                   [&](std::int32_t lane) { return work_of(lane); }, memory_.lanes);
    all_ = memory_.lanes[lanes_];
    block.each([&](std::int32_t t) {
      write_header(p_, all_, copies_, t, Block::threads);
      const std::int32_t work = p_.num_ctas + all_.items * copies_, records = work + lanes_ * copies_;
      FL_ROLLED for (std::int32_t i = t; i < records; i += Block::threads) {
        if (i < work) write_work(i);
        else write_merge(i - work);
      }
    });
  }

 private:
  FL_HD EvenPlan(const DecodePlanParams& p, const DecodePlanMemory& memory, const BalancedLine& line)
      : p_(p), memory_(memory), before_(static_cast<RequestSums*>(memory.before)), begins_(memory.begins), heads_(line.heads),
        copies_(line.copies), lanes_(line.lanes), units_(p.tiles() * line.heads) {}

  FL_HD RequestSums sums_of(std::int32_t request) const {
    const std::int32_t kv_len = p_.kv_len(request), keys = p_.keys(kv_len).size();
    return {kv_len, units_ * (std::int64_t{p_.per_item} + keys), keys};
  }
  FL_HD std::int32_t kv_len(std::int32_t request) const {
    return static_cast<std::int32_t>(before_[request + 1].tokens - before_[request].tokens);
  }
  FL_HD std::int32_t unit_index(const LaneBegin& at) const { return at.request * units_ + at.unit; }
  FL_HD Range rows_of(std::int32_t unit) const { return p_.rows(unit / heads_); }

  // Where lanes have whole units: at unit `index` of all.
  FL_HD LaneBegin whole_from(std::int64_t index) const {
    if (index >= p_.batch() * units_) return {p_.batch(), 0, -1};
    const auto at = static_cast<std::int32_t>(index);
    return {at / units_, at % units_, -1};
  }
  FL_HD LaneBegin begin_of(std::int32_t lane, double total) const {
    if (lane == lanes_ || p_.batch() == 0) return {p_.batch(), 0, -1};
    const auto position = static_cast<std::int64_t>(even_position(total, lane, lanes_));
    const std::int32_t request =
        last_before(0, p_.batch(), [&](std::int32_t r) { return before_[r].cost <= position; });
    const Range keys = p_.keys(kv_len(request));
    const std::int64_t cost = std::int64_t{p_.per_item} + keys.size();  // of each of its units
    std::int64_t offset = position - before_[request].cost;
    const std::int32_t unit = units_ == 1 ? 0 : static_cast<std::int32_t>(offset / cost);
    offset -= unit * cost;
    const std::int32_t key = even_cut<std::int64_t>(offset, keys, p_.per_item, 1, p_.chunk_align);
    if (key == keys.begin) return {request, unit, -1};
    if (key < keys.end) return {request, unit, key};
    return unit + 1 < units_ ? LaneBegin{request, unit + 1, -1} : LaneBegin{request + 1, 0, -1};
  }

  // Pieces of the unit whose first cut is where a lane begins. Where lanes are at least chunk_align keys apart, each of those
  // in the unit cuts it; where they are closer, they cut it at every multiple, several lanes at one.
  FL_HD std::int32_t pieces_from(std::int32_t lane) const {
    const std::int32_t unit = unit_index(begins_[lane]);
    const std::int32_t last = last_before(lane, lanes_, [&](std::int32_t l) { return unit_index(begins_[l]) == unit; });
    const std::int32_t multiples = (begins_[last].key - begins_[lane].key) / p_.chunk_align;
    return (last - lane < multiples ? last - lane : multiples) + 2;
  }
  // Begins a lane inside of the unit in which it ends?
  FL_HD bool inside(const LaneBegin& begin, const LaneBegin& end) const {
    return begin.key >= 0 && unit_index(begin) == unit_index(end);
  }
  FL_HD WorkSums work_of(std::int32_t lane) const {
    const LaneBegin begin = begins_[lane], end = begins_[lane + 1];
    if (inside(begin, end) && begin.key == end.key) return {};
    WorkSums work{.items = unit_index(end) - unit_index(begin) + (end.key >= 0)};
    if (begin.key >= 0) work.partial_rows += rows_of(begin.unit).size();
    if (end.key < 0 || inside(begin, end)) return work;
    work.merges = 1;  // of the tile that is cut here for the first time
    work.partial_rows += rows_of(end.unit).size();
    work.groups = groups_of(pieces_from(lane + 1));
    return work;
  }
  // First partial row of the tile that a lane is the first to cut: behind what it has of the tile in which it begins.
  FL_HD std::int32_t first_slot(std::int32_t lane) const {
    const LaneBegin begin = begins_[lane];
    return memory_.lanes[lane].partial_rows + (begin.key >= 0 ? rows_of(begin.unit).size() : 0);
  }

  FL_HD TilePlace place(std::int32_t request, std::int32_t unit, std::int32_t copy) const {
    const std::int32_t tile = unit / heads_;
    return {request, unit - tile * heads_ + copy, p_.rows(tile), kv_len(request), p_.queries, before_[request].tokens};
  }
  // Item `which` of a lane.
  FL_HD void write_item(std::int32_t lane, std::int32_t which, std::int32_t copy, PackedItem& to) const {
    const LaneBegin begin = begins_[lane], end = begins_[lane + 1];
    const std::int32_t index = unit_index(begin) + which, request = index / units_;
    const bool from_cut = which == 0 && begin.key >= 0, to_cut = end.key >= 0 && index == unit_index(end);
    const TilePlace at = place(request, index - request * units_, copy);
    Range keys = p_.keys(at.kv_len);
    if (from_cut) keys.begin = begin.key;
    if (to_cut) keys.end = end.key;
    std::int32_t merge = -1, slot = 0;
    if (from_cut || to_cut) {
      const WorkSums& sums = memory_.lanes[lane];
      merge = sums.merges - from_cut + copy * all_.merges;
      slot = (from_cut ? sums.partial_rows : first_slot(lane)) + copy * all_.partial_rows;
    }
    to = packed_item(p_.table, at, keys, merge, slot);
  }

  // First the queues: CTA lane * copies + copy runs the lane's items for that copy. Behind them the items.
  FL_HD void write_work(std::int32_t i) const {
    const bool of_queue = i < p_.num_ctas;
    const std::int32_t at = i - p_.num_ctas;  // of the items
    const std::int32_t lane =
        of_queue ? i / copies_
                 : last_before(0, lanes_, [&](std::int32_t l) { return memory_.lanes[l].items * copies_ <= at; });
    const std::int32_t begin = lane < lanes_ ? memory_.lanes[lane].items : 0;
    const std::int32_t items = lane < lanes_ ? memory_.lanes[lane + 1].items - begin : 0;
    std::int32_t copy = 0, which = 0;
    PackedItem* to = nullptr;
    if (of_queue) {
      PackedQueue& queue = p_.view.queues[i];
      queue = {};
      if (items == 0) return;
      copy = i - lane * copies_, to = &queue.first;
      queue.begin = begin * copies_ + copy * items + 1, queue.end = queue.begin + items - 1;
    } else {
      const std::int32_t of_lane = at - begin * copies_;
      copy = of_lane / items, which = of_lane - copy * items, to = &p_.view.items[at];
    }
    write_item(lane, which, copy, *to);
  }
  FL_HD void write_merge(std::int32_t which) const {
    const std::int32_t lane = which / copies_, copy = which - lane * copies_;
    const WorkSums& sums = memory_.lanes[lane];
    if (memory_.lanes[lane + 1].merges == sums.merges) return;
    const LaneBegin cut = begins_[lane + 1];
    const std::int32_t group = gpu::first_group(p_, all_, copies_) + sums.groups + copy * all_.groups;
    p_.view.merges[sums.merges + copy * all_.merges] =
        packed_merge(place(cut.request, cut.unit, copy), first_slot(lane) + copy * all_.partial_rows, pieces_from(lane + 1),
                     group);
  }

  const DecodePlanParams& p_;
  const DecodePlanMemory& memory_;
  RequestSums* before_;  // [batch + 1]
  LaneBegin* begins_;    // [lanes + 1]
  std::int32_t heads_, copies_, lanes_, units_;  // units_: tiles of a request, of the heads of the line
  WorkSums all_;                                 // of one copy
};

}  // namespace flashladder::gpu
