// Positions and their cosines and sines, on host and GPU.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.hpp"
#include "gpu/device_buffer.hpp"

namespace flashladder::bench {

class RopeTable {
 public:
  static constexpr std::int32_t max_pos = 32768, rotary_dim = 128;
  // x cos - y sin in float: two products and their difference may each err by 2^-24 of |x| + |y|. That stays below 16 for
  // drawn numbers (|x| < 4.9): 20,000 rotations in place, rounded to f16 each time, made no pair longer by more than 41 %
  // (6,000 angles tried).
  static constexpr double slack = 3 * 16 * 0x1p-24;

  RopeTable(std::int32_t tokens, std::uint64_t seed);             // positions drawn from 0 .. max_pos - 1
  explicit RopeTable(std::vector<std::int32_t> positions);

  std::span<const std::int32_t> device_positions() const {
    return {device_positions_.as<const std::int32_t>(), positions_.size()};
  }
  Tensor device_cache() const { return contiguous(device_cache_.data(), DType::f32, {max_pos, rotary_dim}); }
  std::vector<std::int32_t> positions_of(std::span<const std::int64_t> rows) const;
  Tensor host_cache() const { return contiguous(cache_.data(), DType::f32, {max_pos, rotary_dim}); }

 private:
  std::vector<std::int32_t> positions_;
  std::span<float> cache_;  // [max_pos, rotary_dim], to read: a Tensor knows no const
  gpu::DeviceBuffer device_positions_, device_cache_;
};

}  // namespace flashladder::bench
