// Who runs which items of a plan's queues on the CPU. In a header of its own, because who only chooses needs no threads.
#pragma once

#include <cstdint>

namespace flashladder::reference {

enum class Schedule : std::uint8_t {
  fixed,    // each worker those of its own queue
  stealing  // and, when that is empty, those at the far end of another's
};

}  // namespace flashladder::reference
