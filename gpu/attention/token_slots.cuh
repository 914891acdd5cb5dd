// From a token to the addresses of its key and value, a warp's 32 tokens at a time: lane l walks token -> page id -> offset
// for the l-th of them, so that the division and the dependent load happen once a token, and a round before they are needed.
#pragma once

#include <cstdint>

#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

struct TokenSlots {
  std::int64_t k = 0, v = 0;  // elements from the caches' pointers; not to be used if the token is unseen
  bool seen = false;

  TokenSlots() = default;
  // first_page: where the request's pages begin in the table's list. Tokens from `end` on are unseen; they are unsigned,
  // since the one behind 2^31 - 1 is asked for too.
  __device__ TokenSlots(const KvPages& kv, std::int32_t first_page, std::int32_t kv_head, std::uint32_t token,
                        std::uint32_t end)
      : seen(token < end) {
    if (!seen) return;
    const KvSlot slot = kv.pages.locate_from(first_page, static_cast<std::int32_t>(token));
    k = kv.k_strides.offset(slot, kv_head);
    v = kv.v_strides.offset(slot, kv_head);
  }
};

}  // namespace flashladder::gpu
