// An entry of an index array whose entries lie 4 bytes apart, or 8: one half of each int64 of a slot_mapping, or the lower
// half of each int64 of an array of positions, which is the position (device memory is little endian).
#pragma once

#include <cstdint>

namespace flashladder::gpu {

__device__ inline const std::int32_t* index_place(const std::int32_t* array, std::int32_t index_bytes, std::int32_t i) {
  return reinterpret_cast<const std::int32_t*>(reinterpret_cast<const char*>(array) + std::int64_t{i} * index_bytes);
}
__device__ inline std::int32_t index_entry(const std::int32_t* array, std::int32_t index_bytes, std::int32_t i) {
  return *index_place(array, index_bytes, i);
}

}  // namespace flashladder::gpu
