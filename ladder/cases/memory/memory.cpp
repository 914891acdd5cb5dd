#include "ladder/cases/memory/memory.hpp"

#include <cstdio>
#include <fstream>
#include <limits>

#include "core/error.hpp"

namespace flashladder::ladder {

std::size_t available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, unit;
  std::size_t kib = 0;
  while (meminfo >> key >> kib && std::getline(meminfo, unit)) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return std::numeric_limits<std::size_t>::max();
}

void require_memory(std::size_t bytes, const std::string& what) {
  const std::size_t available = available_memory();
  if (bytes <= available) return;
  throw InputError(what, "", "needs about " + bytes_text(bytes) + " of memory, and this machine has " +
                                 bytes_text(available) + " available");
}

std::string bytes_text(std::size_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double n = static_cast<double>(bytes);
  int unit = 0;
  for (; n >= 1024 && unit < 6; ++unit) n /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
  return text;
}

}  // namespace flashladder::ladder
