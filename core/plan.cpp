#include "core/plan.hpp"

#include <cstdio>

namespace flashladder {

std::int64_t Plan::num_work() const {
  std::int64_t sum = 0;
  for (const PlanPart& part : parts) sum += part.num_work();
  return sum;
}

std::int64_t Plan::num_merges() const {
  std::int64_t sum = 0;
  for (const PlanPart& part : parts) sum += part.num_merges();
  return sum;
}

std::string to_string(const WorkItem& item) {
  char text[128];
  std::snprintf(text, sizeof text, "req=%d head=%d kv=[%d,%d) tier=%d flags=0x%02x", item.request, item.head,
                item.keys.begin, item.keys.end, item.tier, item.flags);
  return text;
}

}  // namespace flashladder
