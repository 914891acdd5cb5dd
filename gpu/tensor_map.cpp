#include "gpu/tensor_map.hpp"

#include <cuda_runtime_api.h>

#include "gpu/check.hpp"

namespace flashladder::gpu {
namespace {

// The driver's function, found at run time: a program linked against libcuda would not start on a machine without a GPU.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result));
    check(result == cudaDriverEntryPointSuccess ? cudaSuccess : cudaErrorNotSupported);
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return found;
}

template <std::size_t rank>
CUtensorMap encode(const BoxedTensor<rank>& tensor) {
  std::array<std::uint32_t, rank> steps;
  steps.fill(1);
  CUtensorMap map;
  const CUresult result = encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, rank, const_cast<void*>(tensor.data),
                                    tensor.dims.data(), tensor.strides.data(), tensor.box.data(), steps.data(),
                                    CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue);
  return map;
}

}  // namespace

CUtensorMap tensor_map(const BoxedTensor<4>& tensor) { return encode(tensor); }
CUtensorMap tensor_map(const BoxedTensor<5>& tensor) { return encode(tensor); }

}  // namespace flashladder::gpu
