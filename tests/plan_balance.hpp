// How level the plans of policies balanced and even are: what their headers promise, from the plan alone.
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "planner/planner.hpp"
#include "tests/flat_plan.hpp"

namespace flashladder::test {

using namespace planner;

// CTAs with a lane: all, or a number that the heads divide.
inline double lanes_of(const PlanInputs& in, const PlanPart& part) {
  const std::int64_t ctas = in.machine.num_ctas(), heads = in.num_qo_heads / part.pack, by_head = ctas / heads * heads;
  return static_cast<double>(20 * by_head >= 19 * ctas ? by_head : ctas);
}

inline double dearest_key(const PlanInputs& in, const FlatPlan& plan) {
  double dearest = 1;
  for (const FlatPlan::Work& w : plan.work) dearest = std::max(dearest, in.cost.per_key(w.item.rows.size()));
  return dearest;
}

inline std::string stretches_of_a_line(const PlanInputs& in, const FlatPlan& flat) {
  for (const auto& queue : flat.queues) {
    std::array<int, 2> pieces{};  // of cut tiles, in each part
    for (const std::int32_t i : queue) {
      const WorkItem& item = flat.work[i].item;
      if (item.whole()) continue;
      ++pieces[flat.work[i].part];
      const bool from_cut = (item.flags & WorkItem::first) == 0, to_cut = (item.flags & WorkItem::last) == 0;
      if (item.keys.size() < in.chunk_align && (from_cut || to_cut)) return "a sliver";
    }
    if (pieces[0] > 2 || pieces[1] > 2) return "a CTA with more than two partial items of a part";
  }
  return "";
}

inline std::string balance(const PlanInputs& in, const Plan& plan) {
  double lanes = plan.num_ctas();
  for (const PlanPart& part : plan.parts) lanes = std::min(lanes, lanes_of(in, part));
  // Parts that have different heads, and so different lanes, count with what the fullest CTA of a lane has: then each of
  // them is even by itself, but not always their sum.
  const bool same_lanes = plan.parts.size() == 1 || plan.parts[0].pack == plan.parts[1].pack;
  const double slack = 2 * (in.cost.per_item + in.cost.per_many) + 3 * in.chunk_align * dearest_key(in, FlatPlan(plan));
  const double bound = plan.total_cost / lanes + (same_lanes ? 1 : 2) * slack;
  return plan.makespan <= bound ? "" : "makespan " + std::to_string(plan.makespan) + " > " + std::to_string(bound);
}

// Each part by itself, and from what its tiles would cost uncut.
inline std::string evenness(const PlanInputs& in, const FlatPlan& flat, const Plan& plan) {
  for (std::size_t p = 0; p < plan.parts.size(); ++p) {
    const auto is_of_part = [&](const FlatPlan::Work& w) { return w.part == static_cast<std::int32_t>(p); };
    double uncut = 0;
    for (const FlatPlan::Work& w : flat.work) {
      if (!is_of_part(w)) continue;
      uncut += in.cost.item(w.item.rows.size(), w.item.keys.size());
      if ((w.item.flags & WorkItem::first) == 0) uncut -= in.cost.per_item;
    }
    const double bound =
        uncut / lanes_of(in, plan.parts[p]) + in.cost.per_item + 3 * in.chunk_align * dearest_key(in, flat);
    for (const auto& queue : flat.queues) {
      double cost = 0;
      for (const std::int32_t i : queue) {
        const WorkItem& item = flat.work[i].item;
        if (is_of_part(flat.work[i])) cost += in.cost.item(item.rows.size(), item.keys.size());
      }
      if (cost >= bound) return "a lane of " + std::to_string(cost) + ", not below " + std::to_string(bound);
    }
  }
  return "";
}

}  // namespace flashladder::test
