// CUDA's memory: the host's own, with a list of what was asked for as what.
#include "simt/memory.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "simt/errors.hpp"
#include "simt/launch.hpp"

namespace simt = flashladder::simt;

namespace {

struct Piece {
  std::size_t bytes;
  cudaMemoryType type;
};
std::mutex mutex;
std::map<std::uintptr_t, Piece>& pieces() {
  static auto& all = *new std::map<std::uintptr_t, Piece>;  // buffers may be freed while the program ends
  return all;
}
constexpr std::size_t total_bytes = std::size_t{4} << 30;

std::size_t device_bytes() {
  std::size_t sum = 0;
  for (const auto& [at, piece] : pieces()) sum += piece.type == cudaMemoryTypeDevice ? piece.bytes : 0;
  return sum;
}

cudaError_t take(void** memory, std::size_t bytes, cudaMemoryType type) {
  constexpr std::size_t alignment = 256;
  const std::lock_guard lock(mutex);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > total_bytes || (type == cudaMemoryTypeDevice && device_bytes() + bytes > total_bytes)) {
    return simt::said(cudaErrorMemoryAllocation);
  }
  *memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (*memory == nullptr) return simt::said(cudaErrorMemoryAllocation);
  if (bytes < 1 << 20) std::memset(*memory, 0xff, bytes);  // not initialised, and nobody should think so
  pieces()[reinterpret_cast<std::uintptr_t>(*memory)] = {bytes, type};
  return cudaSuccess;
}
cudaError_t give(void* memory) {
  const std::lock_guard lock(mutex);
  if (memory == nullptr) return cudaSuccess;
  if (pieces().erase(reinterpret_cast<std::uintptr_t>(memory)) == 0) return simt::said(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return take(memory, bytes, cudaMemoryTypeDevice); }
cudaError_t cudaFree(void* memory) { return give(memory); }
cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t) { return cudaMalloc(memory, bytes); }
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return give(memory); }
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return take(memory, bytes, cudaMemoryTypeHost); }
cudaError_t cudaFreeHost(void* memory) { return give(memory); }

cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned) {
  const std::lock_guard lock(mutex);
  pieces()[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, cudaMemoryTypeHost};
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* memory) {
  const std::lock_guard lock(mutex);
  return simt::said(pieces().erase(reinterpret_cast<std::uintptr_t>(memory)) == 0 ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::lock_guard lock(mutex);
  *total = total_bytes, *free = total_bytes - device_bytes();
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const std::lock_guard lock(mutex);
  const auto at = reinterpret_cast<std::uintptr_t>(memory);
  *attributes = {};
  auto piece = pieces().upper_bound(at);
  if (piece == pieces().begin()) return cudaSuccess;
  --piece;
  if (at < piece->first + piece->second.bytes) attributes->type = piece->second.type;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return simt::on_stream(stream, [to, from, bytes] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemset(void* to, int byte, std::size_t bytes) { return cudaMemsetAsync(to, byte, bytes, nullptr); }
cudaError_t cudaMemsetAsync(void* to, int byte, std::size_t bytes, cudaStream_t stream) {
  return simt::on_stream(stream, [to, byte, bytes] { std::memset(to, byte, bytes); });
}
