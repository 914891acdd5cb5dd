// Descriptions of tensors for the copy engine (TMA, sm_90): gpu/ptx/tma.cuh copies boxes of them.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>

namespace flashladder::gpu {

// Elements of 16 bits, innermost dimension first and dense: 64 of them, one swizzled row of 128 bytes. What lies outside of
// the dims arrives as zeros.
template <std::size_t rank>
struct BoxedTensor {
  const void* data = nullptr;                  // a multiple of 16 bytes
  std::array<std::uint64_t, rank> dims{};      // each at least 1
  std::array<std::uint64_t, rank - 1> strides{};  // bytes, multiples of 16, of dimension 1 and on. Dimensions may overlap
  std::array<std::uint32_t, rank> box{};       // each at most 256
};

// CudaError if the driver refuses it, or is too old to know such descriptions.
CUtensorMap tensor_map(const BoxedTensor<4>& tensor);
CUtensorMap tensor_map(const BoxedTensor<5>& tensor);

}  // namespace flashladder::gpu
