#include "planner/list_schedule.hpp"

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

namespace flashladder::planner {
namespace {

// A tournament over the CTAs: leaf width + c is CTA c, every inner node the smaller of its two children, node 1 the winner.
// A node is one integer, load before index: the bits of a non-negative float order like the float itself, so the smallest
// integer is the least loaded CTA and, among equals, the lowest one. An update is a walk of minima, without a branch.
class Tournament {
 public:
  explicit Tournament(std::vector<std::uint64_t>& nodes, std::uint32_t num_ctas)
      : nodes_(nodes), width_(std::bit_ceil(num_ctas)) {
    nodes_.assign(2 * std::size_t{width_}, ~std::uint64_t{0});  // leaves beyond the last CTA never win
    for (std::uint32_t c = 0; c < num_ctas; ++c) nodes_[width_ + c] = c;
    for (std::uint32_t n = width_ - 1; n >= 1; --n) nodes_[n] = std::min(nodes_[2 * n], nodes_[2 * n + 1]);
  }

  // Adds cost to the winner and returns its index.
  std::uint32_t give(float cost) {
    const auto cta = static_cast<std::uint32_t>(nodes_[1]);
    const auto bits = std::bit_cast<std::uint32_t>(load(nodes_[1]) + cost);
    std::uint64_t winner = (std::uint64_t{bits} << 32) | cta;
    std::uint32_t n = width_ + cta;
    nodes_[n] = winner;
    while (n > 1) {
      winner = std::min(winner, nodes_[n ^ 1]);
      n /= 2;
      nodes_[n] = winner;
    }
    return cta;
  }

  float load_of(std::uint32_t cta) const { return load(nodes_[width_ + cta]); }

 private:
  static float load(std::uint64_t node) { return std::bit_cast<float>(static_cast<std::uint32_t>(node >> 32)); }

  std::vector<std::uint64_t>& nodes_;
  std::uint32_t width_;
};

}  // namespace

void list_schedule(const PlanInputs& in, Plan& plan) {
  // Scratch that outlives the call, so that planning again allocates nothing.
  thread_local std::vector<std::uint64_t> nodes;
  thread_local std::vector<std::uint32_t> cta_of_item;
  const auto num_ctas = static_cast<std::uint32_t>(in.machine.num_ctas());
  cta_of_item.resize(plan.items.size());
  plan.queue.resize(plan.items.size());
  plan.queue_indptr.assign(num_ctas + 1, 0);
  plan.cta_cost.resize(num_ctas);

  Tournament ctas(nodes, num_ctas);
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const WorkItem& item = plan.items[i];
    cta_of_item[i] = ctas.give(static_cast<float>(in.cost.item(item.rows.size(), item.keys.size())));
    ++plan.queue_indptr[cta_of_item[i]];
  }
  for (std::uint32_t c = 0; c < num_ctas; ++c) plan.cta_cost[c] = ctas.load_of(c);

  // Counting sort: indptr first holds each queue's end; filling the queues from the back leaves their begins.
  std::partial_sum(plan.queue_indptr.begin(), plan.queue_indptr.end(), plan.queue_indptr.begin());
  for (std::size_t i = plan.items.size(); i-- > 0;) {
    plan.queue[--plan.queue_indptr[cta_of_item[i]]] = static_cast<std::int32_t>(i);
  }
}

}  // namespace flashladder::planner
