// Whose the n-th copied token, or query, is: a search in the list that pack_compaction wrote.
#pragma once

#include "gpu/prefill/compact_pages.hpp"

namespace flashladder::gpu {

__device__ inline std::int32_t first_of(const CompactedRequest& r) { return r.first_copy; }
__device__ inline std::int32_t first_of(const RotatedQueries& r) { return r.first_query; }

// The last request that begins at or before n. (An empty one begins where the next one does.)
template <class Request>
__device__ Request request_of(const Request* requests, std::int32_t num_requests, std::int32_t n) {
  std::int32_t low = 0, high = num_requests;
  while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    (first_of(requests[middle]) <= n ? low : high) = middle;
  }
  return requests[low];
}

}  // namespace flashladder::gpu
