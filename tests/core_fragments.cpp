// Fragment maps and swizzles: each map reaches every element exactly once, and the banks are counted.
#include <doctest/doctest.h>

#include <set>
#include <string>
#include <utility>

#include "core/fragment_map.hpp"
#include "core/swizzle.hpp"

using namespace flashladder;

namespace {

// True if (lane, i) -> element fills a rows x cols tile without holes or doubles.
template <class Map>
bool fills_once(Map map, int lanes, int elements, int rows, int cols) {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < lanes; ++lane) {
    for (int i = 0; i < elements; ++i) {
      const FragmentElement e = map(lane, i);
      if (e.row < 0 || e.row >= rows || e.col < 0 || e.col >= cols || !seen.insert({e.row, e.col}).second) return false;
    }
  }
  return static_cast<int>(seen.size()) == rows * cols;
}

}  // namespace

TEST_CASE("every fragment map is a bijection") {
  CHECK(fills_once(mma_a_element, 32, mma_a_elements, 16, 16));
  CHECK(fills_once(mma_b_element, 32, mma_b_elements, 16, 8));
  CHECK(fills_once(mma_c_element, 32, mma_c_elements, 16, 8));
  CHECK(fills_once(wgmma_a_element, 128, 8, 64, 16));
  for (int n : {8, 64, 128, 256}) CHECK(fills_once(wgmma_d_element, 128, n / 2, 64, n));
}

// The formulas of the PTX ISA, in its own words: groupID = lane >> 2, threadID_in_group = lane % 4, and a case for each i.
TEST_CASE("mma fragments follow the PTX formulas") {
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      const int col = i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
      CHECK(mma_a_element(lane, i) == FragmentElement{row, col});
    }
    for (int i = 0; i < 4; ++i) {
      CHECK(mma_b_element(lane, i) == FragmentElement{i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8, group});
      CHECK(mma_c_element(lane, i) == FragmentElement{i < 2 ? group : group + 8, thread * 2 + (i & 1)});
    }
  }
}

TEST_CASE("wgmma: a few elements by hand") {
  CHECK(wgmma_d_element(0, 0) == FragmentElement{0, 0});
  CHECK(wgmma_d_element(0, 2) == FragmentElement{8, 0});
  CHECK(wgmma_d_element(0, 4) == FragmentElement{0, 8});
  CHECK(wgmma_d_element(33, 3) == FragmentElement{24, 3});    // warp 1, lane 1: row 16 + 0 + 8, column 2 + 1
  CHECK(wgmma_d_element(127, 127) == FragmentElement{63, 255});
  CHECK(wgmma_a_element(127, 7) == FragmentElement{63, 15});
}

TEST_CASE("the rows that lanes name for ldmatrix give operand A: as it lies and transposed") {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < mma_a_elements; ++i) {  // of block i / 2 a lane gets two neighbours of row lane / 4 ...
      const NamedRow plain = ldmatrix_a_row(i / 2 * 8 + lane / 4);
      CHECK(mma_a_element(lane, i) == FragmentElement{plain.row, plain.chunk * 8 + lane % 4 * 2 + i % 2});
      const NamedRow trans = ldmatrix_trans_a_row(i / 2 * 8 + lane % 4 * 2 + i % 2);  // ... or of column lane / 4
      CHECK(mma_a_element(lane, i) == FragmentElement{trans.chunk * 8 + lane / 4, trans.row});
    }
  }
}

TEST_CASE("two C tiles side by side are one A operand") {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < mma_a_elements; ++i) {
      FragmentElement in_c = mma_c_element(lane, i % 4);
      in_c.col += i / 4 * 8;
      CHECK(mma_a_element(lane, i) == in_c);
    }
  }
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < 128; ++i) {  // N = 256: 16 A fragments
      FragmentElement in_a = wgmma_a_element(thread, i % 8);
      in_a.col += i / 8 * 16;
      CHECK(wgmma_d_element(thread, i) == in_a);
    }
  }
}

TEST_CASE("a swizzle permutes the chunks of each row and agrees with the pattern on addresses") {
  for (Swizzle s : {Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
    CAPTURE(std::string(name_of(s)));
    const int row_bytes = static_cast<int>(s);
    for (int row = 0; row < 64; ++row) {
      std::set<int> taken;
      for (int chunk = 0; chunk < row_bytes / chunk_bytes; ++chunk) {
        const int moved = swizzled_chunk(s, row, chunk);
        taken.insert(moved);
        CHECK(swizzled_offset(s, row * row_bytes + chunk * chunk_bytes + 6) == row * row_bytes + moved * chunk_bytes + 6);
        CHECK(swizzled_chunk(s, row, moved) == chunk);  // XOR undoes itself
      }
      CHECK(static_cast<int>(taken.size()) == row_bytes / chunk_bytes);
      CHECK(*taken.begin() == 0);
      CHECK(*taken.rbegin() == row_bytes / chunk_bytes - 1);
    }
  }
  CHECK(swizzled_offset(Swizzle::none, 1234) == 1234);
}

TEST_CASE("the swizzles by hand") {
  CHECK(swizzled_chunk(Swizzle::bytes_128, 5, 3) == 6);   // 3 ^ 5
  CHECK(swizzled_chunk(Swizzle::bytes_128, 13, 3) == 6);  // repeats after 8 rows
  CHECK(swizzled_chunk(Swizzle::bytes_64, 5, 3) == 1);    // 3 ^ 2
  CHECK(swizzled_chunk(Swizzle::bytes_32, 5, 1) == 0);    // 1 ^ 1
  CHECK(swizzled_chunk(Swizzle::bytes_32, 3, 1) == 1);
}

TEST_CASE("bank conflicts of a column: 8 ways without a swizzle and 1 way with it") {
  const auto ways = [](Swizzle s, int row_bytes, int first_row, int chunk) {
    return bank_conflict_ways(column_phase(s, row_bytes, first_row, chunk));
  };
  static_assert(bank_conflict_ways(column_phase(Swizzle::none, 128, 0, 0)) == 8);
  static_assert(bank_conflict_ways(column_phase(Swizzle::bytes_128, 128, 0, 0)) == 1);
  for (int first_row : {0, 8, 56}) {
    for (int chunk = 0; chunk < 8; ++chunk) {
      CHECK(ways(Swizzle::none, 128, first_row, chunk) == 8);
      CHECK(ways(Swizzle::bytes_128, 128, first_row, chunk) == 1);
      CHECK(ways(Swizzle::none, 64, first_row, chunk % 4) == 4);
      CHECK(ways(Swizzle::bytes_64, 64, first_row, chunk % 4) == 1);
      CHECK(ways(Swizzle::none, 32, first_row, chunk % 2) == 2);
      CHECK(ways(Swizzle::bytes_32, 32, first_row, chunk % 2) == 1);
    }
  }
  CHECK(ways(Swizzle::bytes_64, 128, 0, 0) == 2);       // too narrow a swizzle for the row
  CHECK(ways(Swizzle::none, 128 + 16, 0, 0) == 1);      // padding, the other cure
  CHECK(bank_conflict_ways({0, 0, 0, 0, 0, 0, 0, 0}) == 1);      // one chunk for all: a broadcast
  CHECK(bank_conflict_ways({0, 128, 0, 128, 16, 32, 48, 64}) == 2);
}
