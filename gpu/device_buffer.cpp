#include "gpu/device_buffer.hpp"

#include <algorithm>
#include <vector>

#include "gpu/check.hpp"

namespace flashladder::gpu {
namespace {

constexpr int guard_byte = 0xa5, poison_byte = 0xff;

}  // namespace

DeviceBuffer::DeviceBuffer(std::size_t bytes, std::size_t guard) : size_(bytes), guard_(guard) {
  if (bytes + guard == 0) return;
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes + 2 * guard));
  base_ = static_cast<std::byte*>(memory);
}

DeviceBuffer::DeviceBuffer(const void* host, std::size_t bytes) : DeviceBuffer(bytes) {
  upload(host, bytes);
}

DeviceBuffer::~DeviceBuffer() { cudaFree(base_); }  // an error here is an earlier kernel's: whoever synchronises reports it

void DeviceBuffer::poison() {
  if (base_ == nullptr) return;
  check(cudaMemset(base_, guard_byte, size_ + 2 * guard_));
  check(cudaMemset(data(), poison_byte, size_));
  check(cudaStreamSynchronize(nullptr));  // a memset comes back before it is done, and other streams would not wait for it
}

void DeviceBuffer::upload(const void* host, std::size_t bytes, std::size_t offset) {
  if (bytes == 0) return;
  check(cudaMemcpy(data() + offset, host, bytes, cudaMemcpyHostToDevice));
  check(cudaStreamSynchronize(nullptr));  // the copy may come back before the bytes have arrived: other streams do not wait
}

bool DeviceBuffer::guards_intact() const {
  std::vector<unsigned char> band(guard_);
  for (const std::byte* at : {base_, base_ + guard_ + size_}) {
    if (guard_ > 0) check(cudaMemcpy(band.data(), at, guard_, cudaMemcpyDeviceToHost));
    if (!std::all_of(band.begin(), band.end(), [](unsigned char b) { return b == guard_byte; })) return false;
  }
  return true;
}

void DeviceBuffer::download(void* host) const {
  if (size_ > 0) check(cudaMemcpy(host, data(), size_, cudaMemcpyDeviceToHost));
}

}  // namespace flashladder::gpu
