// From a token to the addresses of its key and value, a warp's 32 tokens at a time: lane l walks token -> page id -> offset
// for the l-th of them, so that the division and the dependent load happen once a token, and a round before they are needed.
// In two steps, for whoever does other work until the page id has come: a TokenPlace asks for it, a TokenSlots needs it.
#pragma once

#include <cstdint>

#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

struct TokenPlace {
  std::int32_t page = 0, entry = 0;  // of its slot; mean nothing if the token is unseen. 32 bits: to widen is to wait
  std::int32_t kv_head = 0;
  bool seen = false;

  TokenPlace() = default;
  // first_page: where the request's pages begin in the table's list. Tokens from `end` on are unseen; they are unsigned,
  // since the one behind 2^31 - 1 is asked for too.
  __device__ TokenPlace(const KvPages& kv, std::int32_t first_page, std::int32_t kv_head_, std::uint32_t token,
                        std::uint32_t end)
      : kv_head(kv_head_), seen(token < end) {
    if (!seen) return;
    const KvSlot slot = kv.pages.locate_from(first_page, static_cast<std::int32_t>(token));
    page = static_cast<std::int32_t>(slot.page), entry = slot.entry;
  }
};

struct TokenSlots {
  std::int64_t k = 0, v = 0;  // elements from the caches' pointers; not to be used if the token is unseen
  bool seen = false;

  TokenSlots() = default;
  __device__ TokenSlots(const KvPages& kv, const TokenPlace& at) : seen(at.seen) {
    if (!seen) return;
    const KvSlot slot{at.page, at.entry};
    k = kv.k_strides.offset(slot, at.kv_head);
    v = kv.v_strides.offset(slot, at.kv_head);
  }
  __device__ TokenSlots(const KvPages& kv, std::int32_t first_page, std::int32_t kv_head, std::uint32_t token,
                        std::uint32_t end)
      : TokenSlots(kv, TokenPlace(kv, first_page, kv_head, token, end)) {}
};

}  // namespace flashladder::gpu
