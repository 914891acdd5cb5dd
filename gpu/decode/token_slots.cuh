// From a token to the addresses of its key and value, a warp's 32 tokens at a time: lane l walks token -> page id -> offset
// for the l-th of them, so that the division and the dependent load happen once a token, and a round before they are needed.
#pragma once

#include <cstdint>

#include "gpu/decode/decode_params.hpp"

namespace flashladder::gpu {

struct TokenSlots {
  std::int64_t k = 0, v = 0;  // elements from the caches' pointers; not to be used if the token is unseen
  bool seen = false;

  __device__ TokenSlots(const DecodeParams& p, const WorkItem& item, std::int32_t token) : seen(token < item.keys.end) {
    if (!seen) return;
    const KvSlot slot = p.table.locate(item.request, token);
    k = p.k_strides.offset(slot, item.kv_head);
    v = p.v_strides.offset(slot, item.kv_head);
  }
};

}  // namespace flashladder::gpu
