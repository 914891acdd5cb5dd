// Every CUDA call is checked: check(cudaMalloc(...)) throws a CudaError that says what failed, and in which line of ours.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace flashladder::gpu {

class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t code_, const std::source_location& where)
      : std::runtime_error(std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " +
                           cudaGetErrorName(code_) + ": " + cudaGetErrorString(code_)),
        code(code_) {}

  cudaError_t code;
};

inline void check(cudaError_t code, const std::source_location& where = std::source_location::current()) {
  if (code != cudaSuccess) throw CudaError(code, where);
}

}  // namespace flashladder::gpu
