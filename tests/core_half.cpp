// 16-bit floats against the formats' definitions: every bit pattern, every tie, random floats.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

#include "core/half.hpp"

using namespace flashladder;

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

template <class T>
T from_bits(int bits) {
  T x;
  x.bits = static_cast<std::uint16_t>(bits);
  return x;
}

// The formats by their definition (IEEE 754, 3.3): significand bits with the leading one, smallest and largest exponent.
template <class T>
constexpr int precision = std::is_same_v<T, Half> ? 11 : 8;
template <class T>
constexpr int max_exponent = std::is_same_v<T, Half> ? 15 : 127;

template <class T>
double decoded(int bits) {
  constexpr int fraction_bits = precision<T> - 1, exponents = 2 * max_exponent<T> + 1;
  const int fraction = bits & ((1 << fraction_bits) - 1), biased = (bits & 0x7fff) >> fraction_bits;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (biased == exponents) return fraction ? std::nan("") : sign * infinite;
  const int leading = biased > 0 ? 1 << fraction_bits : 0;
  return sign * std::ldexp(leading + fraction, std::max(biased, 1) - max_exponent<T> - fraction_bits);
}

// Rounds to nearest even by the default rounding of double arithmetic.
template <class T>
double rounded(double x) {
  if (x == 0 || std::isinf(x)) return x;
  const int exponent = std::max(std::ilogb(x), 1 - max_exponent<T>);
  const double ulp = std::ldexp(1.0, exponent - precision<T> + 1), r = std::nearbyint(x / ulp) * ulp;
  return std::abs(r) >= std::ldexp(1.0, max_exponent<T> + 1) ? std::copysign(infinite, x) : r;
}

template <class T>
int wrong_round_trips() {
  int wrong = 0;
  for (int bits = 0; bits < 65536; ++bits) {
    const double expected = decoded<T>(bits);
    const auto x = static_cast<float>(from_bits<T>(bits));
    const T back(x);
    if (std::isnan(expected)) {
      wrong += !(std::isnan(x) && std::isnan(static_cast<float>(back)));
    } else {
      wrong += !(x == expected && back.bits == bits);
    }
  }
  return wrong;
}

// Between any two neighbours: the middle goes to the even one, the floats beside the middle to the nearer one.
template <class T>
int wrong_ties() {
  const int infinity = T(std::numeric_limits<float>::infinity()).bits;
  int wrong = 0;
  for (int sign : {0, 0x8000}) {
    for (int low = 0; low < infinity; ++low) {
      const double a = decoded<T>(low | sign), ulp = std::abs(decoded<T>(low | sign) - decoded<T>((low ^ 1) | sign));
      // Above the largest number comes infinity; it takes over half an ulp further on.
      const double b = low + 1 < infinity ? decoded<T>((low + 1) | sign) : a + std::copysign(ulp, a);
      const auto middle = static_cast<float>((a + b) / 2);
      const int even = low % 2 == 0 ? low : low + 1;
      wrong += T(middle).bits != (even | sign);
      wrong += T(std::nextafter(middle, static_cast<float>(a))).bits != (low | sign);
      wrong += T(std::nextafter(middle, sign ? -INFINITY : INFINITY)).bits != ((low + 1) | sign);
    }
  }
  return wrong;
}

template <class T>
int wrong_random_floats() {
  std::mt19937 random(1);
  int wrong = 0;
  for (int n = 0; n < 500000; ++n) {
    // Every third one near the format's own range, where Half is neither 0 nor infinite.
    const auto any = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    const float x = n % 3 ? any : std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 48) - 60);
    const double y = static_cast<float>(T(x));
    wrong += std::isnan(x) ? !std::isnan(y) : !(y == rounded<T>(x) && std::signbit(y) == std::signbit(x));
  }
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("16-bit floats: all bit patterns and all ties and random floats", T, Half, BFloat16) {
  CHECK(wrong_round_trips<T>() == 0);
  CHECK(wrong_ties<T>() == 0);
  CHECK(wrong_random_floats<T>() == 0);
  for (std::uint32_t nan : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0x7fc00000u}) {
    CHECK(std::isnan(static_cast<float>(T(std::bit_cast<float>(nan)))));
  }
}

TEST_CASE("16-bit floats by hand") {
  static_assert(Half(1.0f).bits == 0x3c00 && BFloat16(1.0f).bits == 0x3f80);
  CHECK(Half(65504.0f).bits == 0x7bff);
  CHECK(Half(65519.99f).bits == 0x7bff);
  CHECK(Half(65520.0f).bits == 0x7c00);
  CHECK(Half(-1e9f).bits == 0xfc00);
  CHECK(Half(0x1p-24f).bits == 1);     // the smallest subnormal
  CHECK(Half(0x1p-25f).bits == 0);     // half of it ties to even
  CHECK(Half(0x1.8p-25f).bits == 1);
  CHECK(Half(-0.0f).bits == 0x8000);
  CHECK(BFloat16(3.3895314e38f).bits == 0x7f7f);
  CHECK(BFloat16(3.4e38f).bits == 0x7f80);
}
