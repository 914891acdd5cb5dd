#include "planner/list_schedule.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <span>
#include <vector>

#include "core/least_loaded.hpp"

namespace flashladder::planner {
namespace {

LeastLoaded tournament(std::vector<std::uint64_t>& nodes, std::span<const float> loads) {
  const auto num_ctas = static_cast<std::uint32_t>(loads.size());
  nodes.resize(LeastLoaded::nodes(num_ctas));
  LeastLoaded ctas(nodes.data(), num_ctas);
  for (std::uint32_t c = 0; c < ctas.width(); ++c) ctas.set_leaf(c, c < num_ctas ? loads[c] : 0);
  for (std::uint32_t n = ctas.width() - 1; n >= 1; --n) ctas.set_inner(n);
  return ctas;
}

float cost_of(const PlanInputs& in, const WorkItem& item) {
  return static_cast<float>(in.cost.item(item.rows.size(), item.keys.size()));
}

// Sorts by the upper 32 bits; equal ones stay in their order. Digit by digit from the lowest, each time by counting: no
// branch depends on what is compared, which is what a sort of a thousand numbers would spend its time on. Only those bits
// are looked at in which the values differ: costs are small whole numbers of keys as floats, so that two digits are mostly
// enough.
void sort_by_high_half(std::vector<std::uint64_t>& values, std::vector<std::uint64_t>& scratch) {
  constexpr int most_bits = 11;
  std::uint64_t differ = 0;
  for (const std::uint64_t v : values) differ |= v ^ values.front();
  differ &= ~std::uint64_t{0} << 32;
  if (differ == 0) return;
  const int low = std::countr_zero(differ), width = std::bit_width(differ) - low;
  const int digits = div_up(width, most_bits), bits = div_up(width, digits);
  scratch.resize(values.size());
  for (int n = 0; n < digits; ++n) {
    const auto digit = [shift = low + n * bits, bits](std::uint64_t v) { return v >> shift & ((1u << bits) - 1); };
    std::array<std::uint32_t, 1 << most_bits> places{};  // how many there are, then where the next one goes
    for (const std::uint64_t v : values) ++places[digit(v)];
    std::exclusive_scan(places.begin(), places.begin() + (1 << bits), places.begin(), 0u);
    for (const std::uint64_t v : values) scratch[places[digit(v)]++] = v;
    values.swap(scratch);
  }
}

}  // namespace

// The scratch vectors outlive the call, so that planning again allocates nothing.
void list_schedule(const PlanInputs& in, Plan& plan, PlanPart& part) {
  thread_local std::vector<std::uint64_t> nodes;
  thread_local std::vector<std::uint32_t> given_to;  // the CTA of each piece of work, in the order in which it is given
  const auto num_ctas = static_cast<std::uint32_t>(plan.cta_cost.size());
  given_to.resize(static_cast<std::size_t>(part.num_work()));
  part.queue.resize(given_to.size());
  part.queue_indptr.assign(num_ctas + 1, 0);

  LeastLoaded ctas = tournament(nodes, plan.cta_cost);
  std::size_t given = 0;
  for_each_work(part, [&](std::int32_t w) {
    const std::uint32_t cta = ctas.give(cost_of(in, part.items[static_cast<std::size_t>(w / part.copies)]));
    given_to[given++] = cta;
    ++part.queue_indptr[cta + 1];
  });
  for (std::uint32_t c = 0; c < num_ctas; ++c) plan.cta_cost[c] = ctas.load_of(c);

  // Counting sort: indptr[c] is where queue c begins, then where its next entry goes, in the end where it ends.
  std::partial_sum(part.queue_indptr.begin(), part.queue_indptr.end(), part.queue_indptr.begin());
  given = 0;
  for_each_work(part, [&](std::int32_t w) {
    const std::int32_t place = part.queue_indptr[given_to[given++]]++;
    part.queue[static_cast<std::size_t>(place)] = w;
  });
  std::move_backward(part.queue_indptr.begin(), part.queue_indptr.end() - 1, part.queue_indptr.end());
  part.queue_indptr[0] = 0;
}

void costliest_first(const PlanInputs& in, PlanPart& part) {
  constexpr float nearly_the_same = 0.9f;
  // Cost, then index. A positive float's bits are inverted: most is first.
  thread_local std::vector<std::uint64_t> order, scratch;
  thread_local std::vector<WorkItem> items;
  order.clear();
  for (const WorkItem& item : part.items) {
    const std::uint32_t cheapness = ~std::bit_cast<std::uint32_t>(cost_of(in, item));
    order.push_back((std::uint64_t{cheapness} << 32) | order.size());
  }
  // Where all cost nearly the same, a request's stay together: its keys and values are then read by everybody at one time,
  // and stay in the L2 cache meanwhile. That is worth more than the last bit of balance.
  const auto cheapness = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
  if (order.empty()) return;
  const auto [dearest, cheapest] = std::ranges::minmax(order, {}, cheapness);
  const auto cost = [&](std::uint64_t v) { return std::bit_cast<float>(~cheapness(v)); };
  if (cost(cheapest) >= nearly_the_same * cost(dearest)) return;
  sort_by_high_half(order, scratch);
  items = part.items;
  for (std::size_t i = 0; i < order.size(); ++i) part.items[i] = items[static_cast<std::uint32_t>(order[i])];
}

}  // namespace flashladder::planner
