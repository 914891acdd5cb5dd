// What chapter 15 counts: the short batches that it speaks of with the plans that D6 and D7 have for them, the ways in which
// a chip's GPCs may be incomplete, and what a protocol gives in many orders of the CTAs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "planner/planner.hpp"
#include "walkthroughs/cluster_model.hpp"
#include "walkthroughs/queue_run.hpp"

namespace flashladder::walkthroughs {

// Decode of one query a request, head_dim 128, 16 bits.
struct ShortBatch {
  std::string name;
  std::vector<std::int32_t> kv_lens;
  std::int32_t num_qo_heads, num_kv_heads;

  std::int32_t tiles() const { return static_cast<std::int32_t>(kv_lens.size()) * num_kv_heads; }
  std::int64_t kv_bytes() const {
    std::int64_t keys = 0;
    for (const std::int32_t len : kv_lens) keys += len;
    return keys * num_kv_heads * 128 * 2 * 2;
  }
  gpu::d7::BatchShape shape() const {
    return {tiles(), *std::ranges::max_element(kv_lens), num_qo_heads / num_kv_heads, 128};
  }
  std::int32_t clusters(std::int32_t resident) const { return gpu::d7::worth_clusters(shape(), resident); }

  planner::PlanInputs inputs() const {
    return {.kv_lens = kv_lens, .num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = 128,
            .head_dim_vo = 128};
  }
  Plan d6_plan() const {  // for 264 CTAs
    planner::PlanInputs in = inputs();
    in.cost = {.per_item = gpu::d6::keys_per_item(128), .per_many = gpu::d6::keys_per_grouped_item(128)};
    return planner::make_plan(in);
  }
  Plan d7_plan(std::int32_t clusters) const {
    planner::PlanInputs in = inputs();
    in.machine = {.num_sms = clusters, .ctas_per_sm = 1};
    in.cost = {.per_item = gpu::d7::keys_per_item(128)};
    return planner::make_plan(in);
  }
};

inline double mib(std::int64_t bytes) { return static_cast<double>(bytes) / 1048576; }

inline std::vector<WorkItem> pieces_of_tile(const Plan& plan, std::int32_t request, std::int32_t head) {
  std::vector<WorkItem> pieces;
  const PlanPart& part = plan.parts.front();
  for_each_work(part, [&](std::int32_t w) {
    const WorkItem item = part.work(w);
    if (item.request == request && item.head == head) pieces.push_back(item);
  });
  return pieces;
}

inline std::int32_t most_pieces(const Plan& plan) {
  std::int32_t most = 1;
  for (const Merge& m : plan.parts.front().merges) most = std::max(most, m.num_partials);
  return most;
}

// Bytes that the CTAs of all clusters put into their own shared memory: of each item's rows o, m and d.
inline std::int64_t cluster_bytes(const Plan& plan) {
  std::int64_t rows = 0;
  const PlanPart& part = plan.parts.front();
  for_each_work(part, [&](std::int32_t w) { rows += part.work(w).rows.size(); });
  return rows * cluster_ctas * (plan.head_dim_vo + 2) * 4;
}

// `total` as a sum of `places` numbers in falling order, in all ways.
inline void add_ways(int total, int most, std::vector<int> so_far, std::size_t places, std::vector<std::vector<int>>& ways) {
  if (so_far.size() == places) {
    if (total == 0) ways.push_back(so_far);
    return;
  }
  for (int next = std::min(total, most); next >= 0; --next) {
    std::vector<int> longer = so_far;
    longer.push_back(next);
    add_ways(total - next, next, longer, places, ways);
  }
}
inline std::vector<std::vector<int>> ways_to_miss(int total, std::size_t places) {
  std::vector<std::vector<int>> ways;
  add_ways(total, total, {}, places, ways);
  return ways;
}

// One counter for all rows of a tile that is cut among clusters, in the place of one a row. The clusters come one after the
// other, the rows of each in order. {row, how many of its partials are there when it is told to be last}
inline std::map<int, int> told_by_a_shared_counter(const Merge& tile) {
  std::map<int, int> told;
  std::vector<int> there(tile.rows.size());
  std::atomic<std::uint32_t> counter = 0;
  const auto last = static_cast<std::uint32_t>(tile.num_partials - 1);
  for (int cluster = 0; cluster < tile.num_partials; ++cluster) {
    for (int r = 0; r < tile.rows.size(); ++r) {
      ++there[r];
      if (inc(counter, last) == last) told[r] = there[r];
    }
  }
  return told;
}

inline bool same_bits(const FinishedRow& a, const FinishedRow& b) {
  return a.state.m == b.state.m && a.state.d == b.state.d && a.o == b.o;
}

// Orders that are tried: the lowest CTA first, the highest first, and random ones.
inline constexpr int tried_orders = 100;
inline Order tried_order(int number) {
  return number == 0 ? lowest_first() : number == 1 ? highest_first() : random_order(static_cast<std::uint32_t>(number));
}

struct Trial {
  int wrong_orders = 0, most_wrong = 0, most_nan = 0;  // rows, in the worst order
};
inline Trial try_orders(const Protocol& protocol, const std::vector<CtaParts>& items, const std::vector<Rows>& right) {
  Trial trial;
  for (int number = 0; number < tried_orders; ++number) {
    const std::vector<Rows> got = Cluster(protocol, items).run(tried_order(number));
    int wrong = 0, nan = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      for (std::size_t r = 0; r < right[i].size(); ++r) {
        wrong += !same_bits(got[i][r], right[i][r]);
        nan += std::isnan(got[i][r].state.d);
      }
    }
    trial.wrong_orders += wrong > 0;
    trial.most_wrong = std::max(trial.most_wrong, wrong);
    trial.most_nan = std::max(trial.most_nan, nan);
  }
  return trial;
}

}  // namespace flashladder::walkthroughs
