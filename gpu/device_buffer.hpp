// Bytes on the GPU, owned: freed when the buffer goes. For tests they can lie between guard bands, so that a write outside
// of them is seen, and be poisoned: every byte 0xff, which is a NaN in f32, f16 and bf16.
#pragma once

#include <cstddef>
#include <utility>

namespace flashladder::gpu {

class DeviceBuffer {
 public:
  static constexpr std::size_t guard_band = 256;  // bytes on each side; keeps cudaMalloc's alignment of 256

  DeviceBuffer() = default;
  // guard: 0, or guard_band for a buffer under test. All of these throw CudaError.
  explicit DeviceBuffer(std::size_t bytes, std::size_t guard = 0);
  DeviceBuffer(const void* host, std::size_t bytes);  // a copy of host memory
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return base_ == nullptr ? nullptr : base_ + guard_; }
  std::size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }

  void poison();  // and paints the guard bands anew
  bool guards_intact() const;
  // bytes of the buffer, from offset on; returns when they have arrived, for every stream.
  void upload(const void* host, std::size_t bytes, std::size_t offset = 0);
  void download(void* host) const;  // size() bytes; returns when they are there

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(guard_, other.guard_);
  }

  std::byte* base_ = nullptr;
  std::size_t size_ = 0, guard_ = 0;
};

}  // namespace flashladder::gpu
