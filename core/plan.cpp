#include "core/plan.hpp"

#include <cstdio>

namespace flashladder {

std::string to_string(const WorkItem& item) {
  char text[128];
  std::snprintf(text, sizeof text, "req=%d head=%d kv=[%d,%d) tier=%d flags=0x%02x", item.request, item.kv_head,
                item.keys.begin, item.keys.end, item.tier, item.flags);
  return text;
}

}  // namespace flashladder
