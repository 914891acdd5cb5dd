// The copy engine: boxes of a tensor of 16-bit elements, in swizzled rows of 128 bytes. What lies outside of the tensor is
// read as zeros and not written.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace flashladder::simt {

// What cuTensorMapEncodeTiled keeps of its arguments, in place of what a GPU would read.
struct BoxedTensor {
  std::byte* data;
  std::uint64_t dims[5], strides[4];  // elements; bytes, of dimension 1 and on
  std::uint32_t box[5], rank;
};
static_assert(sizeof(BoxedTensor) <= sizeof(CUtensorMap));

// at [rank]: the first element, innermost dimension first. copied(bytes) when they are there.
void load_box(const CUtensorMap& map, void* to, const std::int32_t* at, std::size_t rank,
              std::function<void(std::uint32_t)> copied);
void store_box(const CUtensorMap& map, const void* from, const std::int32_t* at, std::size_t rank);
void wait_for_stores();  // of this thread

}  // namespace flashladder::simt
