// How kernels that append by requests and positions append by slots too. An int64 slot, page * page_size + entry, is a
// position, its lower half, in a request that holds all pages of the pool in their order. Which request that is says the
// upper half: 0, or -1 for the slot -1, padding. So both halves are index arrays with an entry every 8 bytes; there is no
// indptr, and no list of page ids.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "core/error.hpp"
#include "core/kv_cache.hpp"

namespace flashladder::gpu {

struct SlotHalves {
  const std::int32_t* requests = nullptr;
  const std::int32_t* positions = nullptr;
  static constexpr std::int32_t index_bytes = 8;
};

// Throws InputError if the lower half is too little for the pool's slots.
inline SlotHalves slot_halves(std::span<const std::int64_t> slot_mapping, const PagedKvCache& cache) {
  const std::int64_t slots = std::int64_t{cache.num_pages} * cache.page_size;
  require(slots <= std::numeric_limits<std::int32_t>::max(), "paged_kv_cache", slots,
          "slots are more than 2^31 - 1, which are too many for slot_mapping on the GPU");
  if (slot_mapping.empty()) return {};
  const auto* halves = reinterpret_cast<const std::int32_t*>(slot_mapping.data());  // device memory, little endian
  return {.requests = halves + 1, .positions = halves};
}

}  // namespace flashladder::gpu
