#include "bench/gpu/device_rows.hpp"

#include <algorithm>
#include <cmath>

#include "gpu/check.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::bench {
namespace {

std::string place(const char* what, std::int64_t row, std::int64_t column, Half got, Half want) {
  return std::string(what) + ": row " + std::to_string(row) + " column " + std::to_string(column) + " is " +
         std::to_string(static_cast<float>(got)) + ", should be " + std::to_string(static_cast<float>(want));
}

// The first element for which right(got, want) does not hold.
template <class Right>
std::string first_wrong(const char* what, const HostRows& got, const HostRows& want, std::span<const std::int64_t> rows,
                        const Right& right) {
  if (got.values.size() != want.values.size()) return std::string(what) + ": sizes differ";
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    if (right(got.values[i], want.values[i])) continue;
    const auto at = static_cast<std::int64_t>(i);
    return place(what, rows[static_cast<std::size_t>(at / got.width)], at % got.width, got.values[i], want.values[i]);
  }
  return "";
}

}  // namespace

gpu::DeviceBuffer random_halves(std::int64_t count, std::uint64_t seed) {
  constexpr std::int64_t drawn = std::int64_t{1} << 24;
  ladder::Random random(seed);
  std::vector<Half> host(static_cast<std::size_t>(std::min(count, drawn)));
  for (Half& x : host) x = Half(static_cast<float>(random.normal()));
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Half), block = host.size() * sizeof(Half);
  gpu::DeviceBuffer buffer(bytes);
  for (std::size_t at = 0; at < bytes; at += block) {
    buffer.upload(host.data(), std::min(block, bytes - at), at);
  }
  return buffer;
}

std::vector<std::int64_t> sampled_rows(std::int64_t rows) {
  const std::int64_t count = std::min<std::int64_t>(rows, 1024);
  std::vector<std::int64_t> sample;
  for (std::int64_t i = 0; i < count; ++i) sample.push_back(count == 1 ? 0 : i * (rows - 1) / (count - 1));
  return sample;
}

HostRows::HostRows(const std::byte* device, std::span<const std::int64_t> rows, std::int64_t width_)
    : width(width_), values(rows.size() * static_cast<std::size_t>(width_)) {
  const std::size_t row_bytes = static_cast<std::size_t>(width) * sizeof(Half);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::byte* row = device + static_cast<std::size_t>(rows[i]) * row_bytes;
    gpu::check(cudaMemcpy(&values[i * static_cast<std::size_t>(width)], row, row_bytes, cudaMemcpyDeviceToHost));
  }
}

std::string compare_rows(const char* what, const HostRows& got, const HostRows& want, std::span<const std::int64_t> rows,
                         double slack) {
  return first_wrong(what, got, want, rows, [slack](Half g, Half w) {
    const double value = static_cast<float>(w);
    const double last_place = 2 * unit_roundoff(DType::f16) * std::abs(value) + 0x1p-24;  // or the step of a subnormal
    return std::abs(static_cast<float>(g) - value) <= last_place + slack;
  });
}

std::string same_rows(const char* what, const HostRows& got, const HostRows& want, std::span<const std::int64_t> rows) {
  return first_wrong(what, got, want, rows, [](Half g, Half w) { return g.bits == w.bits; });
}

std::string rows_text(std::span<const std::int64_t> rows, std::int64_t all) {
  const std::string count = std::to_string(rows.size());
  return (static_cast<std::int64_t>(rows.size()) == all ? "all " + count : count + " of " + std::to_string(all)) +
         " rows equal the CPU reference";
}

}  // namespace flashladder::bench
