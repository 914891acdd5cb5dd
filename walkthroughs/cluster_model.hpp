// A cluster on the CPU: CTAs whose shared memory the others can read, a barrier for all of them, and the order in which the
// hardware lets them run, which nobody promises. A CTA is a list of steps, and the model asks an order which CTA goes on
// next, so that a wrong protocol can be shown the order that it can't stand.
#pragma once

#include <array>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "gpu/decode/decode_cost.hpp"
#include "walkthroughs/tensor_core.hpp"

namespace flashladder::walkthroughs {

inline constexpr int cluster_ctas = gpu::d7::ctas, warps_of_cta = 4, cluster_warps = cluster_ctas * warps_of_cta;

using Rows = std::vector<FinishedRow>;             // [rows of a tile], not normalised
using CtaParts = std::array<Rows, cluster_ctas>;   // what each CTA found of an item

// Which CTA's tiles a CTA takes: its own, unless the story wants to know what else would come.
using TakesTilesOf = int (*)(int rank);
inline int own_tiles(int rank) { return rank; }

// What the CTAs of a cluster find of an item, each with four warps.
inline CtaParts find_parts(const AttentionProblem& problem, const WorkItem& item, TakesTilesOf tiles_of = own_tiles) {
  CtaParts parts;
  for (int rank = 0; rank < cluster_ctas; ++rank) {
    parts[rank].resize(item.rows.size());
    for (int warp = 0; warp < warps_of_cta; ++warp) {
      const Rows found = attend_in_turn(problem, item, {tiles_of(rank) * warps_of_cta + warp, cluster_warps});
      for (int r = 0; r < item.rows.size(); ++r) parts[rank][r].absorb(found[r]);
    }
  }
  return parts;
}

// An item's rows, joined in the order of the ranks as if all parts lay in one memory: what any protocol has to give.
inline Rows join_plainly(const CtaParts& parts) {
  Rows joined(parts[0].size());
  for (const Rows& part : parts) {
    for (std::size_t r = 0; r < joined.size(); ++r) joined[r].absorb(part[r]);
  }
  return joined;
}

// What keeps CTAs apart. D7's is the default.
struct Protocol {
  int places = 2;                  // for a CTA's rows, used in turn
  bool barrier = true;             // behind the writes of an item
  bool barrier_behind_reads = false;
  bool last_barrier = true;        // a CTA's shared memory goes when it ends: it waits for its readers
};

// Of the CTAs that can go on, as ranks in rising order, the one that does.
using Order = std::function<int(const std::vector<int>& ready)>;
inline Order lowest_first() { return [](const std::vector<int>& ready) { return ready.front(); }; }
inline Order highest_first() { return [](const std::vector<int>& ready) { return ready.back(); }; }
inline Order random_order(std::uint32_t seed) {
  return [dice = std::mt19937(seed)](const std::vector<int>& ready) mutable { return ready[dice() % ready.size()]; };
}

class Cluster {
 public:
  Cluster(const Protocol& protocol, const std::vector<CtaParts>& items) : protocol_(protocol), items_(items) {
    for (const CtaParts& item : items) joined_.emplace_back(item[0].size());
    for (int rank = 0; rank < cluster_ctas; ++rank) {
      steps_[rank] = steps_of(rank);
      shared_[rank].assign(protocol.places, Rows(most_rows(), never_written()));
    }
  }

  // The rows of all items, as the CTAs' warps join them.
  std::vector<Rows> run(Order order) {
    while (true) {
      std::vector<int> ready;
      for (int rank = 0; rank < cluster_ctas; ++rank) {
        if (can_go_on(rank)) ready.push_back(rank);
      }
      if (ready.empty()) return joined_;
      go_on(order(ready));
    }
  }

 private:
  enum class Kind { write, barrier, read, end };
  struct Step {
    Kind kind;
    int item = 0, row = 0, from = 0;  // write: all rows; read: this row of CTA `from`
  };

  std::vector<Step> steps_of(int rank) const {
    std::vector<Step> steps;
    for (int i = 0; i < static_cast<int>(items_.size()); ++i) {
      steps.push_back({Kind::write, i});
      if (protocol_.barrier) steps.push_back({Kind::barrier});
      for (int r = rank; r < static_cast<int>(items_[i][0].size()); r += cluster_ctas) {
        for (int from = 0; from < cluster_ctas; ++from) steps.push_back({Kind::read, i, r, from});
      }
      if (protocol_.barrier_behind_reads) steps.push_back({Kind::barrier});
    }
    if (protocol_.last_barrier) steps.push_back({Kind::barrier});
    steps.push_back({Kind::end});
    return steps;
  }

  bool can_go_on(int rank) const {
    if (at_[rank] == steps_[rank].size()) return false;
    if (!arrived_[rank]) return true;
    for (int other = 0; other < cluster_ctas; ++other) {
      if (arrivals_[other] < arrivals_[rank]) return false;  // waits for whoever has not come to this barrier
    }
    return true;
  }

  void go_on(int rank) {
    const Step step = steps_[rank][at_[rank]];
    if (step.kind == Kind::barrier && !arrived_[rank]) {
      arrived_[rank] = true, ++arrivals_[rank];
      return;
    }
    ++at_[rank];
    arrived_[rank] = false;
    if (step.kind == Kind::write) std::ranges::copy(items_[step.item][rank], place(rank, step.item).begin());
    if (step.kind == Kind::read) joined_[step.item][step.row].absorb(place(step.from, step.item)[step.row]);
    if (step.kind == Kind::end) shared_[rank].assign(protocol_.places, Rows(most_rows(), never_written()));
  }

  Rows& place(int rank, int item) { return shared_[rank][item % protocol_.places]; }
  std::size_t most_rows() const {
    std::size_t most = 0;
    for (const CtaParts& item : items_) most = std::max(most, item[0].size());
    return most;
  }
  FinishedRow never_written() const {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    return {{nan, nan}, std::vector<float>(items_[0][0][0].o.size(), nan)};
  }

  Protocol protocol_;
  const std::vector<CtaParts>& items_;
  std::vector<Rows> joined_;
  std::array<std::vector<Step>, cluster_ctas> steps_;
  std::array<std::size_t, cluster_ctas> at_{};
  std::array<bool, cluster_ctas> arrived_{};  // at the barrier of its step, and may not have passed it
  std::array<int, cluster_ctas> arrivals_{};  // at any barrier so far
  std::array<std::vector<Rows>, cluster_ctas> shared_;  // [place][row]
};

}  // namespace flashladder::walkthroughs
