// What kernels have been allowed beyond what any kernel gets, on which device. The driver is told once, and not at each
// launch.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <unordered_map>

namespace flashladder::gpu {

class KernelAllowances {
 public:
  // Calls tell(), where this kernel was not allowed as much on this device before; what tell() throws leaves it so. For any
  // number of threads: an allowance grows and never sinks, since the next tell() waits for the one before.
  template <class Tell>
  void raise(const void* kernel, int device, std::size_t amount, const Tell& tell) {
    const std::lock_guard lock(mutex_);
    std::size_t& allowed = allowed_[{kernel, device}];
    if (amount <= allowed) return;
    tell();
    allowed = amount;
  }

 private:
  struct Key {
    const void* kernel;
    int device;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return std::hash<const void*>()(key.kernel) * 31 + static_cast<std::size_t>(key.device);
    }
  };

  std::mutex mutex_;
  std::unordered_map<Key, std::size_t, Hash> allowed_;
};

}  // namespace flashladder::gpu
