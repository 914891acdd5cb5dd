// What the function of a planned rung works with (AttendItem of plan_executor.hpp).
#pragma once

#include <vector>

#include "reference/key_stream.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference {

// Memory that a worker keeps from item to item.
struct ItemBuffers {
  KeyStream::Buffers keys;
  Buffer q, o, s;
  std::vector<float> logits;
};

}  // namespace flashladder::reference
