// What the tests of the GPU's operations share: a Padded tensor's copy on the device, between guard bands, and the count of
// elements that are not the exact answer rounded once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/device_buffer.hpp"
#include "tests/ops_data.hpp"

namespace ops_test {

using flashladder::gpu::DeviceBuffer;

inline constexpr DType gpu_dtypes[] = {DType::f16, DType::bf16};
inline constexpr double u = 0x1p-24;  // what one float operation loses at most, relative

// All bytes of `host`, padding too, on the device.
class OnDevice {
 public:
  explicit OnDevice(const Padded& host) : tensor_(host.t()), buffer_(host.bytes().size(), DeviceBuffer::guard_band) {
    buffer_.poison();
    buffer_.upload(host.bytes().data(), host.bytes().size());
    tensor_.data = buffer_.data();
  }
  const Tensor& t() const { return tensor_; }
  bool guards_intact() const { return buffer_.guards_intact(); }

  // Waits, and puts what is on the device now into `host`, a tensor of the same form.
  void fetch(Padded& host) const {
    flashladder::gpu::check(cudaDeviceSynchronize());
    buffer_.download(host.t().data);
  }
  std::vector<unsigned char> bytes() const {
    flashladder::gpu::check(cudaDeviceSynchronize());
    std::vector<unsigned char> all(buffer_.size());
    buffer_.download(all.data());
    return all;
  }

 private:
  Tensor tensor_;
  DeviceBuffer buffer_;
};

// An index array on the device, as the functions under test take it.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host)
      : size_(host.size()), buffer_(host.size() * sizeof(T), DeviceBuffer::guard_band) {
    buffer_.poison();
    buffer_.upload(host.data(), host.size() * sizeof(T));
  }
  std::span<T> span() const { return {buffer_.as<T>(), size_}; }
  bool guards_intact() const { return buffer_.guards_intact(); }
  std::vector<T> fetch() const {
    flashladder::gpu::check(cudaDeviceSynchronize());
    std::vector<T> host(size_);
    buffer_.download(host.data());
    return host;
  }

 private:
  std::size_t size_;
  DeviceBuffer buffer_;
};

// Compares element by element and remembers the first that is wrong: a doctest check for each would take longer than the op.
class Wrong {
 public:
  // got must be `exact` rounded once, if float arithmetic was off by at most `slack`; and no further from the CPU's answer
  // (which may have been off on the other side) than both slacks and one step of the dtype.
  void check(DType dtype, std::int64_t i, double got, double exact, double slack, double cpu) {
    const bool right = is_rounded_once(dtype, got, exact, slack) &&
                       std::abs(got - cpu) <= spacing(dtype, cpu) + spacing(dtype, got) + 2 * slack;
    if (right) return;
    if (count_++ == 0) {
      first_ = "element " + std::to_string(i) + ": " + std::to_string(got) + ", exact " + std::to_string(exact) + ", CPU " +
               std::to_string(cpu) + ", slack " + std::to_string(slack / u) + " u";
    }
  }
  std::int64_t count() const { return count_; }
  const std::string& first() const { return first_; }

 private:
  std::int64_t count_ = 0;
  std::string first_;
};

}  // namespace ops_test
