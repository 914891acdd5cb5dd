// Policy balanced on the GPU (planner/stream_k.cpp is the host's, and says why lanes get what they get).
//
//   1  sums over the requests say where each one begins in the line of cost
//   2  every share that the host's bisection might try is walked at once, each by a thread: lane after lane, the units that
//      fit uncut found by a search in the sums. The bisection then only looks up who kept to his share
//   3  sums over the lanes of the share that won say where a lane's items, merges and partial rows lie
//   4  all records are written in any order
//
// The walk counts in whole numbers: costs are whole, so that what fits a share fits the share rounded down. It is one thread's
// work, who waits for each result: it counts in 32 bits where the cost of all fits, and looks no further than it must.
#pragma once

#include <cstdint>
#include <limits>

#include "gpu/plan/block_sums.hpp"
#include "gpu/plan/plan_memory.hpp"
#include "gpu/plan/write_records.hpp"

namespace flashladder::gpu {

class BalancedPlan {
 public:
  FL_HD BalancedPlan(const DecodePlanParams& p, const DecodePlanMemory& memory)
      : p_(p), memory_(memory), before_(static_cast<RequestSums*>(memory.before)), heads_(p.line().heads),
        copies_(p.line().copies), lanes_(static_cast<std::int32_t>(p.line().lanes)), units_(p.tiles() * heads_) {}

  template <class Block>
  FL_HD void run(Block& block) {
    exclusive_sums(
        block, static_cast<RequestSums*>(memory_.of_threads), p_.batch(),
        [&](std::int32_t request) {
          const std::int32_t kv_len = p_.kv_len(request);
          return RequestSums{kv_len, units_ * (std::int64_t{p_.per_item} + p_.keys(kv_len).size())};
        },
        [&](std::int32_t request, const RequestSums& sums) { before_[request] = sums; });
    const ShareSearch search = p_.search(before_[p_.batch()].cost);
    const std::int32_t candidates = 1 << search.num_steps, apart = Block::threads / candidates;
    // A share is at most all the cost and the slack, so that the sums of a walk, of no more than two of these, fit 32 bits.
    const bool narrow = static_cast<double>(before_[p_.batch()].cost) + search.slack < 1 << 30;
    block.each([&](std::int32_t t) {  // as far apart as there is room: those of one warp would wait for each other
      const std::int32_t candidate = t / apart;
      if (t % apart != 0 || candidate >= candidates) return;
      const double share = search.share(candidate);
      LaneBegin* const begins = begins_of(candidate);
      const bool kept = narrow ? walk<std::int32_t>(share, candidate == 0, begins)
                               : walk<std::int64_t>(share, candidate == 0, begins);
      memory_.enough[candidate] = kept;
    });
    begins_ = begins_of(search.smallest([&](std::int32_t candidate) { return memory_.enough[candidate] != 0; }));
    exclusive_sums(
        block, static_cast<WorkSums*>(memory_.of_threads), lanes_, [&](std::int32_t lane) { return work_of(lane); },
        [&](std::int32_t lane, const WorkSums& sums) { memory_.lanes[lane] = sums; });
    all_ = memory_.lanes[lanes_];
    block.each([&](std::int32_t t) {
      write_header(p_, all_, copies_, t, Block::threads);
      FL_ROLLED for (std::int32_t cta = t; cta < p_.num_ctas; cta += Block::threads) write_queue(cta);
      FL_ROLLED for (std::int32_t at = t; at < all_.items * copies_; at += Block::threads) write_item(at);
      FL_ROLLED for (std::int32_t i = t; i < lanes_ * copies_; i += Block::threads) write_merge(i);
    });
  }

 private:
  FL_HD LaneBegin* begins_of(std::int32_t candidate) const { return memory_.begins + candidate * (lanes_ + 1); }
  FL_HD std::int32_t kv_len(std::int32_t request) const {
    return static_cast<std::int32_t>(before_[request + 1].tokens - before_[request].tokens);
  }
  FL_HD std::int32_t unit_index(const LaneBegin& at) const { return at.request * units_ + at.unit; }
  FL_HD Range rows_of(std::int32_t unit) const { return p_.rows(unit / heads_); }

  // A walk along the line: where it is, and the sums before and behind that request.
  struct Walk {
    LaneBegin at;
    RequestSums before, behind;
    Range keys;  // of a unit of the request
  };
  FL_HD void move_to(Walk& walk, std::int32_t request) const {
    walk.at.request = request;
    walk.before = before_[request];
    if (request == p_.batch()) return;
    walk.behind = before_[request + 1];
    walk.keys = p_.keys(static_cast<std::int32_t>(walk.behind.tokens - walk.before.tokens));
  }
  // Moves over all units that fit into space, and takes them from it. fresh: the lane has nothing yet.
  template <class Cost>
  FL_HD void take_uncut(Walk& walk, Cost& space, bool& fresh) const {
    LaneBegin& at = walk.at;
    const auto cost = [&] { return static_cast<Cost>(p_.per_item) + walk.keys.size(); };  // of a unit
    if ((units_ - at.unit) * cost() <= space) {  // the rest of the request
      const std::int64_t reach = walk.before.cost + at.unit * std::int64_t{cost()} + space;
      std::int32_t low = at.request + 1, step = 1;  // where the lane ends is mostly near
      FL_ROLLED while (low + step <= p_.batch() && before_[low + step].cost <= reach) low += step, step *= 2;
      const std::int32_t high = low + step <= p_.batch() ? low + step : p_.batch() + 1;
      move_to(walk, last_before(low, high, [&](std::int32_t r) { return before_[r].cost <= reach; }));
      at.unit = 0, fresh = false;
      space = static_cast<Cost>(reach - walk.before.cost);
    }
    if (units_ == 1 || at.request == p_.batch() || space < cost()) return;
    const Cost units = space / cost();
    at.unit += static_cast<std::int32_t>(units), fresh = false;
    space -= units * cost();
  }

  // How many lanes, `lanes` at most, one after the other get nothing but a piece of rest, as long as a lane has room for: what
  // longest_piece() says of each until the end of the tile is near. rest begins at a cut, room: keys.
  template <class Cost>
  FL_HD std::int32_t full_pieces(Range rest, Cost room, std::int32_t lanes) const {
    const Cost ends_before = align_down(rest.end - p_.chunk_align, p_.chunk_align) - room;
    if (room < p_.chunk_align || ends_before < rest.begin) return 0;
    const auto piece = align_down(static_cast<std::int32_t>(room), p_.chunk_align);
    const std::int32_t pieces = (static_cast<std::int32_t>(ends_before) - rest.begin) / piece + 1;
    return pieces < lanes ? pieces : lanes;
  }

  // Gives each lane as much as brings its cost to no more than share; the last one takes what is left. begins [lanes + 1].
  // Did every lane keep to its share? Where it matters not, the walk goes on to the end only if it did.
  template <class Cost>
  FL_HD bool walk(double share, bool to_the_end, LaneBegin* begins) const {
    const auto most = static_cast<Cost>(share);
    const double few = p_.few_partials * share, largest = std::numeric_limits<std::int32_t>::max();
    const auto many = static_cast<std::int32_t>(few < largest ? few : largest);  // keys, of which no tile has more
    Walk walk;
    move_to(walk, 0);
    LaneBegin& at = walk.at;
    std::int32_t lane = 0;
    Cost space = most;
    bool kept = true, fresh = true;
    begins[0] = at;
    FL_ROLLED while (at.request < p_.batch() && (kept || to_the_end)) {
      take_uncut(walk, space, fresh);
      if (at.request == p_.batch()) break;
      Range rest = walk.keys;
      const Cost per_item = p_.per_item + (rest.size() > many ? p_.per_many : 0);
      FL_ROLLED while (true) {
        if (fresh && at.key >= 0 && rest.size() > most - per_item) {
          FL_ROLLED for (std::int32_t n = full_pieces(rest, most - per_item, lanes_ - 1 - lane); n > 0; --n) {
            rest.begin = at.key = rest.begin + align_down(static_cast<std::int32_t>(most - per_item), p_.chunk_align);
            begins[++lane] = at;
          }
        }
        std::int32_t end = longest_piece<Cost>(rest, space, per_item, 1, p_.chunk_align);
        if (end != rest.end && (lane == lanes_ - 1 || (end < 0 && fresh))) kept = false, end = rest.end;
        if (end >= 0) {
          space -= per_item + (end - rest.begin);
          fresh = false;
          if (end == rest.end) break;
          rest.begin = at.key = end;
        }
        begins[++lane] = at;
        space = most, fresh = true;
      }
      at.key = -1;
      if (++at.unit == units_) {
        at.unit = 0;
        move_to(walk, at.request + 1);
      }
    }
    FL_ROLLED while (lane < lanes_) begins[++lane] = {p_.batch(), 0, -1};
    return kept;
  }

  // Pieces of the unit whose first cut is where a lane begins.
  FL_HD std::int32_t pieces_from(std::int32_t lane) const {
    const std::int32_t unit = unit_index(begins_[lane]);
    return last_before(lane, lanes_, [&](std::int32_t l) { return unit_index(begins_[l]) == unit; }) - lane + 2;
  }
  // Begins a lane inside of the unit in which it ends?
  FL_HD bool inside(const LaneBegin& begin, const LaneBegin& end) const {
    return begin.key >= 0 && unit_index(begin) == unit_index(end);
  }
  FL_HD WorkSums work_of(std::int32_t lane) const {
    const LaneBegin begin = begins_[lane], end = begins_[lane + 1];
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

  // CTA lane * copies + copy runs the lane's items for that copy.
  FL_HD void write_queue(std::int32_t cta) const {
    const std::int32_t lane = cta / copies_, copy = cta - lane * copies_;
    PackedQueue& queue = p_.view.queues[cta];
    const std::int32_t items = lane < lanes_ ? memory_.lanes[lane + 1].items - memory_.lanes[lane].items : 0;
    queue = {};
    if (items == 0) return;
    const std::int32_t begin = memory_.lanes[lane].items * copies_ + copy * items;
    queue.begin = begin + 1, queue.end = begin + items;
    write_item(lane, 0, copy, queue.first);
  }
  FL_HD void write_item(std::int32_t at) const {
    const std::int32_t lane =
        last_before(0, lanes_, [&](std::int32_t l) { return memory_.lanes[l].items * copies_ <= at; });
    const std::int32_t items = memory_.lanes[lane + 1].items - memory_.lanes[lane].items;
    const std::int32_t of_lane = at - memory_.lanes[lane].items * copies_, copy = of_lane / items;
    write_item(lane, of_lane - copy * items, copy, p_.view.items[at]);
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
  std::int32_t heads_, copies_, lanes_, units_;  // units_: tiles of a request, of the heads of the line
  const LaneBegin* begins_ = nullptr;            // [lanes + 1] of the share that won
  WorkSums all_;                                 // of one copy
};

}  // namespace flashladder::gpu
