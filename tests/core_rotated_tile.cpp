// RoPE inside decode, without a GPU: which lane rotates what of a tile, and how far a walked rotation drifts.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <set>
#include <tuple>
#include <utility>

#include "core/rotated_tile.hpp"
#include "core/swizzle.hpp"
#include "gpu/rope/turns.hpp"

using namespace flashladder;

namespace {

template <int chunks>
void check_places() {
  using Place = RotatedPlace<chunks>;
  CAPTURE(chunks);
  std::set<std::tuple<int, int>> chunk_of_token;
  for (int lane = 0; lane < 32; ++lane) {
    for (int u = 0; u < Place::steps; ++u) {
      for (const int half : {0, chunks / 2}) {
        const int token = Place::token(lane) + u * Place::at_once, chunk = Place::chunk(lane) + half;
        CHECK((token >= 0 && token < 16 && chunk >= half && chunk < chunks / 2 + half));
        CHECK(chunk_of_token.insert({token, chunk}).second);
      }
    }
  }
  CHECK(chunk_of_token.size() == 16 * chunks);
  // The lanes of a phase read the same half of one token or two.
  for (int first = 0; first < 32; first += lanes_per_phase) {
    for (const int half : {0, chunks / 2}) {
      std::array<std::int32_t, lanes_per_phase> offsets{};
      for (int i = 0; i < lanes_per_phase; ++i) {
        const int token = Place::token(first + i), chunk = Place::chunk(first + i) + half;
        offsets[i] = (token * chunks + swizzled_chunk(Swizzle::bytes_128, token, chunk)) * chunk_bytes;
      }
      CHECK(bank_conflict_ways(offsets) == 1);
    }
  }
}

// As a lane multiplies: gpu/rope/rotate.cuh.
Rotation<float> walked(Rotation<float> at, Rotation<float> step) {
  return {std::fma(at.cos, step.cos, -(at.sin * step.sin)), std::fma(at.sin, step.cos, at.cos * step.sin)};
}

}  // namespace

TEST_CASE("every pair of a tile is rotated by one lane once and no bank serves two lanes of a phase") {
  check_places<8>();
  check_places<16>();
  check_places<32>();
}

TEST_CASE("a walked rotation is off by less than rounding to 16 bits loses") {
  constexpr double allowed = 0x1p-15;
  double worst = 0;
  for (const double theta : {1e4, 5e5}) {
    for (const auto& [head_dim, at_once] : {std::pair{64, 8}, {128, 4}, {256, 2}}) {
      for (const std::int32_t tile_step : {64, 1024}) {  // D6's, D7's
        for (std::int32_t pair = 0; pair < head_dim / 2; ++pair) {
          const long double turns = std::pow(static_cast<long double>(theta), -2.0L * pair / head_dim) /
                                    (2 * std::numbers::pi_v<long double>);
          const auto per_position = static_cast<std::uint64_t>(std::ldexp(turns, 64));
          const auto tile = gpu::rotation_by(tile_step, per_position), token = gpu::rotation_by(at_once, per_position);
          for (const std::int32_t first : {3, 70'001, 2'000'000'003}) {
            Rotation<float> of_tile = gpu::rotation_by(first, per_position);
            for (int t = 0; t < rotation_exact_every; ++t) {
              if (t > 0) of_tile = walked(of_tile, tile);
              Rotation<float> r = of_tile;
              for (int u = 0; u < 16 / at_once; ++u) {
                if (u > 0) r = walked(r, token);
                const long double position = static_cast<long double>(first) + t * tile_step + u * at_once;
                const long double exact = position * std::ldexp(static_cast<long double>(per_position), -64);
                const double angle = static_cast<double>((exact - std::floor(exact)) * 2 * std::numbers::pi_v<long double>);
                worst = std::max({worst, std::abs(r.cos - std::cos(angle)), std::abs(r.sin - std::sin(angle))});
              }
            }
          }
        }
      }
    }
  }
  MESSAGE("at most ", worst / 0x1p-24, " * 2^-24 after ", rotation_exact_every, " tiles");
  CHECK(worst <= allowed);
  CHECK(worst > 0);
}
