// Random numbers that are the same on every machine and compiler: integers from splitmix64 (Steele, Lea and Flood, Fast
// Splittable Pseudorandom Number Generators, OOPSLA 2014), and a bell curve made of them by adding, so that no library's
// log or cos has a say in the bits. A seed has independent streams, one for each thing that is drawn.
#pragma once

#include <cstdint>

namespace flashladder::ladder {

class Random {
 public:
  explicit constexpr Random(std::uint64_t seed, std::uint64_t stream = 0) : state_(mix(mix(seed) + stream)) {}

  constexpr std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15u); }

  // 0 .. n - 1; as even as 32 bits divide into n parts.
  constexpr std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32); }

  constexpr int sign() { return next() >> 63 ? 1 : -1; }

  // Nearly N(0, 1): the sum of eight uniform 16-bit numbers (Irwin-Hall), shifted and scaled. Mean 0, variance 1,
  // |x| < 4.9, kurtosis 2.85 where the normal curve has 3.
  constexpr double normal() {
    std::int32_t sum = 0;
    for (int half = 0; half < 2; ++half) {
      for (std::uint64_t bits = next(), i = 0; i < 4; ++i, bits >>= 16) sum += static_cast<std::int32_t>(bits & 0xffffu);
    }
    constexpr std::int32_t mean = 4 * 65535;                     // of eight numbers of 0 .. 65535
    constexpr double inverse_sigma = 1 / 53509.919921450079;    // sigma = sqrt(8 (2^32 - 1) / 12)
    return (sum - mean) * inverse_sigma;
  }

 private:
  static constexpr std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

}  // namespace flashladder::ladder
