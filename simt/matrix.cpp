#include "simt/matrix.hpp"

#include <cstring>

#include "core/half.hpp"
#include "simt/memory.hpp"
#include "simt/warp.hpp"

namespace flashladder::simt {
namespace {

constexpr unsigned lanes = 32, all = 0xffffffffu;

struct Rows {
  std::uint32_t row;
  std::uint32_t* a;        // [4]
  const std::uint32_t* from;  // [4], of a store
  bool transposed;
};

std::byte* row_of(Rows* const* of, unsigned block, unsigned row) {
  std::byte* const at = at_shared(of[block * 8 + row]->row, 16);
  if (of[block * 8 + row]->row % 16 != 0) cluster->fail("a matrix row at an address that is not a multiple of 16");
  return at;
}

struct Load {
  void operator()(Rows* const* of, unsigned) const {
    for (unsigned block = 0; block < 4; ++block) {
      std::uint16_t element[8][8];
      for (unsigned row = 0; row < 8; ++row) std::memcpy(element[row], row_of(of, block, row), 16);
      for (unsigned lane = 0; lane < lanes; ++lane) {
        const unsigned r = lane / 4, c = lane % 4 * 2;
        of[lane]->a[block] = of[lane]->transposed ? element[c][r] | std::uint32_t{element[c + 1][r]} << 16
                                                  : element[r][c] | std::uint32_t{element[r][c + 1]} << 16;
      }
    }
  }
};
struct Store {
  void operator()(Rows* const* of, unsigned) const {
    for (unsigned block = 0; block < 4; ++block) {
      for (unsigned lane = 0; lane < lanes; ++lane) {
        std::memcpy(row_of(of, block, lane / 4) + lane % 4 * 4, &of[lane]->from[block], 4);
      }
    }
  }
};

struct Block {
  std::uint32_t in, out;
};
struct Transpose {
  void operator()(Block* const* of, unsigned) const {
    const auto element = [&](unsigned row, unsigned column) {
      return of[row * 4 + column / 2]->in >> column % 2 * 16 & 0xffffu;
    };
    for (unsigned lane = 0; lane < lanes; ++lane) {
      of[lane]->out = element(lane % 4 * 2, lane / 4) | element(lane % 4 * 2 + 1, lane / 4) << 16;
    }
  }
};

template <class Element>
float value(std::uint32_t pair, unsigned which) {
  Element x;
  x.bits = static_cast<std::uint16_t>(pair >> which * 16);
  return static_cast<float>(x);
}

struct Fragments {
  float* c;
  const std::uint32_t *a, *b;
};
template <class Element>
struct Multiply {
  void operator()(Fragments* const* of, unsigned) const {
    float a[16][16], b[16][8];  // [row][k], [k][column]
    for (unsigned lane = 0; lane < lanes; ++lane) {
      for (unsigned e = 0; e < 2; ++e) {
        const unsigned k = lane % 4 * 2 + e;
        for (unsigned i = 0; i < 4; ++i) a[lane / 4 + i % 2 * 8][k + i / 2 * 8] = value<Element>(of[lane]->a[i], e);
        for (unsigned i = 0; i < 2; ++i) b[k + i * 8][lane / 4] = value<Element>(of[lane]->b[i], e);
      }
    }
    for (unsigned lane = 0; lane < lanes; ++lane) {
      for (unsigned i = 0; i < 4; ++i) {
        float sum = 0;
        for (unsigned k = 0; k < 16; ++k) sum += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
        of[lane]->c[i] += sum;
      }
    }
  }
};

}  // namespace

void load_matrices(std::uint32_t (&a)[4], std::uint32_t row, bool transposed) {
  Rows mine{row, a, nullptr, transposed};
  meet<Load>(all, "ldmatrix", mine);
}
void store_matrices(std::uint32_t row, const std::uint32_t (&a)[4]) {
  Rows mine{row, nullptr, a, false};
  meet<Store>(all, "stmatrix", mine);
}
std::uint32_t transposed_block(std::uint32_t block) {
  Block mine{block, 0};
  meet<Transpose>(all, "movmatrix", mine);
  return mine.out;
}

template <class Element>
void multiply_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  Fragments mine{c, a, b};
  meet<Multiply<Element>>(all, "mma", mine);
}
template void multiply_16x8x16<Half>(float (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2]);
template void multiply_16x8x16<BFloat16>(float (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2]);

}  // namespace flashladder::simt
