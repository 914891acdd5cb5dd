// A plan without its shortcuts: every piece of work of every part and head as one list, and queues that name its entries.
#pragma once

#include <string>
#include <vector>

#include "core/plan.hpp"

namespace flashladder::test {

struct FlatPlan {
  struct Work {
    WorkItem item;  // its merge counts through all parts
    std::int32_t part, query_tile, pack;
  };
  std::vector<Work> work;      // part by part, in the order of for_each_work
  std::vector<Merge> merges;   // part by part
  std::vector<std::vector<std::int32_t>> queues;  // [num_ctas]  indices into work: those of part 0, then of part 1

  explicit FlatPlan(const Plan& plan) : queues(static_cast<std::size_t>(plan.num_ctas())) {
    for (std::size_t p = 0; p < plan.parts.size(); ++p) {
      const PlanPart& part = plan.parts[p];
      const auto first_merge = static_cast<std::int32_t>(merges.size());
      std::vector<std::int32_t> place(static_cast<std::size_t>(part.num_work()), -1);  // of work w in the list
      for_each_work(part, [&](std::int32_t w) {
        place.at(static_cast<std::size_t>(w)) = static_cast<std::int32_t>(work.size());
        work.push_back({part.work(w), static_cast<std::int32_t>(p), part.query_tile, part.pack});
        if (!work.back().item.whole()) work.back().item.merge += first_merge;
      });
      for (std::int64_t m = 0; m < part.num_merges(); ++m) merges.push_back(part.merge(m));
      for (std::size_t c = 0; c < queues.size(); ++c) {
        for (std::int32_t q = part.queue_indptr.at(c); q < part.queue_indptr.at(c + 1); ++q) {
          queues[c].push_back(place.at(static_cast<std::size_t>(part.queue.at(static_cast<std::size_t>(q)))));
        }
      }
    }
  }

  std::vector<WorkItem> items() const {
    std::vector<WorkItem> all;
    for (const Work& w : work) all.push_back(w.item);
    return all;
  }
};

inline std::string text(Range r) { return "[" + std::to_string(r.begin) + "," + std::to_string(r.end) + ")"; }

// "request head rows keys", with the partial slot where there is one: a failure shows the whole plan.
inline std::string text(const WorkItem& i) {
  return std::to_string(i.request) + " " + std::to_string(i.head) + " " + text(i.rows) + " " + text(i.keys) +
         (i.whole() ? "" : " @" + std::to_string(i.partial_slot));
}
inline std::vector<std::string> texts(const Plan& plan) {
  std::vector<std::string> lines;
  for (const FlatPlan::Work& w : FlatPlan(plan).work) lines.push_back(text(w.item));
  return lines;
}

}  // namespace flashladder::test
