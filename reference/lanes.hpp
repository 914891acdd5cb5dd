// A few floats side by side, one query row in each lane. The vector extension of GCC and Clang gives + - * < ?: a meaning
// lane by lane and compiles it to what the CPU has, so nothing here names an instruction.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace flashladder::reference {

#if defined(__AVX512F__)
inline constexpr int native_lanes = 16, vector_registers = 32;
#elif defined(__AVX__)
inline constexpr int native_lanes = 8, vector_registers = 16;
#else
inline constexpr int native_lanes = 4, vector_registers = 16;
#endif

template <int W>
struct LaneTypes {
  typedef float Float __attribute__((vector_size(W * sizeof(float))));
  typedef std::uint32_t Bits __attribute__((vector_size(W * sizeof(std::uint32_t))));
};
template <int W>
using Lanes = typename LaneTypes<W>::Float;

template <int W>
inline Lanes<W> load(const float* from) {
  Lanes<W> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <int W>
inline void store(Lanes<W> x, float* to) {
  std::memcpy(to, &x, sizeof x);
}

// 2^x for x <= 0, relative error below 2^-23; 0 where 2^x would be subnormal, and for -inf. With n = round(x) it is
// 2^n 2^(x - n): adding 1.5 * 2^23 leaves n in the lowest bits of the sum, from where it is shifted into an exponent, and
// 2^f = e^(f ln 2), |f| <= 1/2, is its Taylor polynomial of degree 7.
template <int W>
inline Lanes<W> exp2_below_1(Lanes<W> x) {
  constexpr auto coefficient = [] {
    std::array<float, 8> c{};
    double term = 1;
    for (int i = 0; i < 8; term *= 0.69314718055994530942 / ++i) c[i] = static_cast<float>(term);
    return c;
  }();
  constexpr float shift = 0x1.8p23f;
  constexpr std::uint32_t exponent_of_1 = 127u << 23;
  const Lanes<W> shifted = x + shift, f = x - (shifted - shift);
  Lanes<W> polynomial = f * coefficient[7] + coefficient[6];
  for (int i = 5; i >= 0; --i) polynomial = polynomial * f + coefficient[i];
  const auto power = std::bit_cast<Lanes<W>>((std::bit_cast<typename LaneTypes<W>::Bits>(shifted) << 23) + exponent_of_1);
  return x < -126.0f ? Lanes<W>{} : polynomial * power;
}

}  // namespace flashladder::reference
