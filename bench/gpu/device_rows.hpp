// Rows of f16 numbers on the GPU: drawn, and a sample of them brought back and compared with what the CPU references say.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/half.hpp"
#include "core/tensor.hpp"
#include "gpu/device_buffer.hpp"

namespace flashladder::bench {

// `count` numbers, nearly N(0, 1). From 2^24 on they repeat: drawing a gigabyte on the host would take longer than all else.
gpu::DeviceBuffer random_halves(std::int64_t count, std::uint64_t seed);

// The first, the last, and evenly spread ones between: at most 1024 of 0 .. rows - 1.
std::vector<std::int64_t> sampled_rows(std::int64_t rows);

// Rows of a device buffer [.., width] on the host.
struct HostRows {
  std::int64_t width = 0;
  std::vector<Half> values;  // [rows.size(), width]

  HostRows() = default;
  HostRows(const std::byte* device, std::span<const std::int64_t> rows, std::int64_t width);
  std::int64_t count() const { return static_cast<std::int64_t>(values.size()) / width; }
  Tensor tensor() { return contiguous(values.data(), DType::f16, {count(), width}); }
  Tensor heads(std::int64_t head_dim) {
    return contiguous(values.data(), DType::f16, {count(), width / head_dim, head_dim});
  }
};

// "" if every |got - want| <= one unit in the last place of want + `slack`, else where not. Both were computed in float and
// rounded once, so two right answers are the same number or neighbours; slack is for what cancels in float. NaN is wrong.
std::string compare_rows(const char* what, const HostRows& got, const HostRows& want, std::span<const std::int64_t> rows,
                         double slack = 0);
// The same bits, or where not.
std::string same_rows(const char* what, const HostRows& got, const HostRows& want, std::span<const std::int64_t> rows);

std::string rows_text(std::span<const std::int64_t> rows, std::int64_t all);  // "1024 of 65536 rows equal the CPU reference"

}  // namespace flashladder::bench
