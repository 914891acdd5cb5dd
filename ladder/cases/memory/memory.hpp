// What doesn't fit is refused with both numbers before anything is allocated, rather than killed halfway by the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace flashladder::ladder {

// Bytes that new allocations can take without swapping (MemAvailable of /proc/meminfo); SIZE_MAX where that is unknown.
std::size_t available_memory();

// Throws InputError, naming `what`, unless `bytes` are available.
void require_memory(std::size_t bytes, const std::string& what);

// "1.5 GiB"
std::string bytes_text(std::size_t bytes);

}  // namespace flashladder::ladder
