// 8-bit floats against the formats' definitions: every bit pattern, every tie with the floats beside it, random floats,
// saturation. The definition is written a second time here, slowly: a list of all values, and a search for the nearest.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "core/float8.hpp"
#include "core/tensor.hpp"

using namespace flashladder;

namespace float8 {
namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

template <class T>
float value(int bits) {
  T x{};
  x.bits = static_cast<std::uint8_t>(bits);
  return static_cast<float>(x);
}

template <class T>
constexpr bool is_e4m3 = std::is_same_v<T, Float8E4M3>;
template <class T>
constexpr int fraction_bits = is_e4m3<T> ? 3 : 2;
template <class T>
constexpr int bias = is_e4m3<T> ? 7 : 15;

// OFP8: E4M3 gives all but one pattern of its top exponent to numbers, E5M2 is IEEE 754's.
template <class T>
double decoded(int bits) {
  const int fraction = bits & ((1 << fraction_bits<T>) - 1), biased = (bits & 0x7f) >> fraction_bits<T>;
  const double sign = bits & 0x80 ? -1 : 1;
  if (is_e4m3<T> ? (bits & 0x7f) == 0x7f : biased == 31 && fraction != 0) return std::nan("");
  if (!is_e4m3<T> && biased == 31) return sign * infinite;
  const int leading = biased > 0 ? 1 << fraction_bits<T> : 0;
  return sign * std::ldexp(leading + fraction, std::max(biased, 1) - bias<T> - fraction_bits<T>);
}

template <class T>
std::vector<double> finite_magnitudes() {  // entry b is that of pattern b
  std::vector<double> values;
  for (int bits = 0; std::isfinite(decoded<T>(bits)); ++bits) values.push_back(decoded<T>(bits));
  return values;
}

// The pattern of the nearest finite number, of two the even one.
template <class T>
int nearest(const std::vector<double>& magnitudes, float x) {
  if (std::isnan(x)) return 0x7f;
  const double magnitude = std::min(std::abs(double{x}), magnitudes.back());  // saturates
  int best = 0;
  for (int bits = 1; bits < static_cast<int>(magnitudes.size()); ++bits) {
    const double gain = std::abs(magnitudes[best] - magnitude) - std::abs(magnitudes[bits] - magnitude);
    if (gain > 0 || (gain == 0 && bits % 2 == 0)) best = bits;
  }
  return best | (std::signbit(x) ? 0x80 : 0);
}

template <class T>
int wrong_patterns() {
  int wrong = 0;
  for (int bits = 0; bits < 256; ++bits) {
    const double expected = decoded<T>(bits);
    const float x = value<T>(bits);
    const int back = T(x).bits;
    if (std::isnan(expected)) {
      wrong += !(std::isnan(x) && back == 0x7f);
    } else if (std::isinf(expected)) {
      wrong += !(x == expected && back == bits - 1);  // the largest finite number comes right before infinity
    } else {
      wrong += !(x == expected && std::signbit(x) == (bits >= 128) && back == bits);
    }
  }
  return wrong;
}

// The middle between any two neighbours, and the floats beside it.
template <class T>
int wrong_ties() {
  const std::vector<double> magnitudes = finite_magnitudes<T>();
  int wrong = 0;
  for (int low = 0; low + 1 < static_cast<int>(magnitudes.size()); ++low) {
    for (float sign : {1.0f, -1.0f}) {
      const int bit = sign < 0 ? 0x80 : 0;
      const auto middle = static_cast<float>((magnitudes[low] + magnitudes[low + 1]) / 2);
      wrong += T(sign * middle).bits != ((low + low % 2) | bit);
      wrong += T(sign * std::nextafter(middle, 0.0f)).bits != (low | bit);
      wrong += T(sign * std::nextafter(middle, infinite)).bits != ((low + 1) | bit);
      wrong += T(sign * middle).bits != nearest<T>(magnitudes, sign * middle);
    }
  }
  return wrong;
}

template <class T>
int wrong_random_floats() {
  const std::vector<double> magnitudes = finite_magnitudes<T>();
  std::mt19937 random(1);
  int wrong = 0;
  for (int n = 0; n < 50000; ++n) {
    // Of three two in the format's own range, where numbers are neither 0 nor the largest.
    const auto any = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    const float x = n % 3 == 0 ? any : std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 40) - 52);
    wrong += T(x).bits != nearest<T>(magnitudes, x);
  }
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("8-bit floats: all bit patterns and all ties and random floats", T, Float8E4M3, Float8E5M2) {
  CHECK(wrong_patterns<T>() == 0);
  CHECK(wrong_ties<T>() == 0);
  CHECK(wrong_random_floats<T>() == 0);
  for (std::uint32_t nan : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0x7fc00000u}) {
    CHECK(T(std::bit_cast<float>(nan)).bits == 0x7f);
  }
}

TEST_CASE("8-bit floats by hand") {
  static_assert(Float8E4M3(1.0f).bits == 0x38 && Float8E5M2(1.0f).bits == 0x3c);
  CHECK(static_cast<float>(Float8E4M3(448.0f)) == 448);
  CHECK(Float8E4M3(464.0f).bits == 0x7e);    // half-way to what would be 480
  CHECK(Float8E4M3(480.0f).bits == 0x7e);    // saturates
  CHECK(Float8E4M3(-infinite).bits == 0xfe);
  CHECK(Float8E4M3(3.4e38f).bits == 0x7e);
  CHECK(Float8E4M3(0x1p-9f).bits == 1);      // the smallest subnormal
  CHECK(Float8E4M3(0x1p-10f).bits == 0);     // half of it ties to even
  CHECK(Float8E4M3(0x1.000002p-10f).bits == 1);
  CHECK(Float8E4M3(0x1p-6f).bits == 8);      // the smallest normal number
  CHECK(Float8E4M3(-0.0f).bits == 0x80);
  CHECK(Float8E4M3(0x1p-140f).bits == 0);    // a subnormal float
  CHECK(Float8E5M2(57344.0f).bits == 0x7b);
  CHECK(Float8E5M2(61440.0f).bits == 0x7b);  // where IEEE 754 rounds to infinity
  CHECK(Float8E5M2(infinite).bits == 0x7b);
  CHECK(Float8E5M2(0x1p-16f).bits == 1);
  CHECK(Float8E5M2(0x1p-17f).bits == 0);
}

TEST_CASE("DType: the numbers that other languages know stay") {
  static_assert(static_cast<int>(DType::f32) == 0 && static_cast<int>(DType::u8) == 5);
  static_assert(static_cast<int>(DType::f8_e4m3) == 6 && static_cast<int>(DType::f8_e5m2) == 7);
  for (DType t : {DType::f8_e4m3, DType::f8_e5m2}) {
    CHECK(is_dtype(t));
    CHECK(size_of(t) == 1);
    CHECK_FALSE(is_attention_dtype(t));
    CHECK(is_cache_dtype(t));
  }
  CHECK(std::string(name_of(DType::f8_e4m3)) == "f8_e4m3");
  CHECK(std::string(name_of(DType::f8_e5m2)) == "f8_e5m2");
  // Between 1 and the next number lie 2 u.
  CHECK(value<Float8E4M3>(0x39) - 1 == 2 * unit_roundoff(DType::f8_e4m3));
  CHECK(value<Float8E5M2>(0x3d) - 1 == 2 * unit_roundoff(DType::f8_e5m2));
  CHECK_FALSE(is_dtype(static_cast<DType>(8)));
}

}  // namespace float8
