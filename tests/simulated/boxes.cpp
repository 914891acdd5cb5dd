// The simulated copy engine at the edges of a tensor, in time, and asked for what it does not do.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "gpu/ptx/tma.cuh"
#include "gpu/tensor_map.hpp"
#include "tests/simulated/run_kernel.hpp"

using namespace flashladder;
using test::has, test::late, test::run;

namespace {

constexpr unsigned columns = 72, rows = 4, box_rows = 4, around = 4;  // rows before the tensor, and behind it
alignas(16) std::array<std::uint16_t, columns * (around + rows + around)> memory;
std::uint16_t* const numbered = memory.data() + around * columns;  // never 0
CUtensorMap map_of_numbered() {
  memory.fill(9999);
  for (unsigned i = 0; i < columns * rows; ++i) numbered[i] = static_cast<std::uint16_t>(i + 1);
  return gpu::tensor_map(gpu::BoxedTensor<4>{.data = numbered,
                                             .dims = {columns, rows, 1, 1},
                                             .strides = {2 * columns, 2 * columns * rows, 2 * columns * rows},
                                             .box = {64, box_rows, 1, 1}});
}
std::uint16_t in_tensor(int row, int column) {
  const bool outside = row < 0 || row >= static_cast<int>(rows) || column < 0 || column >= static_cast<int>(columns);
  return outside ? 0 : numbered[static_cast<unsigned>(row) * columns + static_cast<unsigned>(column)];
}

constexpr std::uint32_t box_bytes = box_rows * 128;
struct Shared {
  alignas(1024) std::uint16_t box[1024];
  gpu::Mbarrier full;
};

}  // namespace

TEST_CASE("a box that begins before a tensor or ends behind it has zeros there") {
  const CUtensorMap map = map_of_numbered();
  for (const int column : {-8, 0, 8, 64}) {
    for (const int row : {-2, 0, 3}) {
      std::vector<std::uint16_t> got(box_rows * 64);
      CHECK(run({.threads = 1}, [&] {
              auto& shared = *simt::dynamic_shared<Shared>();
              shared.full.init(1), shared.full.arrive_expecting(box_bytes);
              gpu::copy_box(map, shared.box, shared.full, gpu::L2Policy::evict_first, {column, row, 0, 0});
              shared.full.wait(0);
              for (unsigned i = 0; i < got.size(); ++i) got[i] = shared.box[i ^ i / 64 % 8 * 8];
            }).empty());
      int wrong = 0;
      for (int i = 0; i < static_cast<int>(got.size()); ++i) {
        wrong += got[static_cast<unsigned>(i)] != in_tensor(row + i / 64, column + i % 64);
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a box that nobody waited for has not come when copies are late") {
  const CUtensorMap map = map_of_numbered();
  std::uint16_t before = 0, after = 0;
  CHECK(run({.order = late, .threads = 1}, [&] {
          auto& shared = *simt::dynamic_shared<Shared>();
          shared.full.init(1), shared.full.arrive_expecting(box_bytes);
          gpu::copy_box(map, shared.box, shared.full, gpu::L2Policy::evict_first, {0, 0, 0, 0});
          before = shared.box[0];
          shared.full.wait(0);
          after = shared.box[0];
        }).empty());
  CHECK(before == 0xffff);
  CHECK(after == 1);
}

TEST_CASE("boxes come in the order of a seed") {
  const CUtensorMap map = map_of_numbered();
  int first_came_last = 0;
  constexpr unsigned seeds = 20;
  for (unsigned seed = 1; seed <= seeds; ++seed) {
    CHECK(run({.order = {.late = true, .seed = seed}, .threads = 1}, [&] {
            auto& shared = *simt::dynamic_shared<Shared>();
            shared.full.init(1), shared.full.arrive_expecting(2 * box_bytes);
            for (const int row : {0, 1}) {  // to one place
              gpu::copy_box(map, shared.box, shared.full, gpu::L2Policy::evict_first, {0, row, 0, 0});
            }
            shared.full.wait(0);
            first_came_last += shared.box[0] == in_tensor(0, 0);
          }).empty());
  }
  CHECK(first_came_last > 0);
  CHECK(first_came_last < static_cast<int>(seeds));
}

TEST_CASE("a box of another rank, or to where no box may begin, is an error") {
  const CUtensorMap map = map_of_numbered();
  CHECK(has(run({.threads = 1}, [&] {
              auto& shared = *simt::dynamic_shared<Shared>();
              gpu::copy_box(map, shared.box, shared.full, gpu::L2Policy::evict_first, {0, 0, 0, 0, 0});
            }), "another rank"));
  CHECK(has(run({.threads = 1}, [&] {
              auto& shared = *simt::dynamic_shared<Shared>();
              gpu::copy_box(map, shared.box + 64, shared.full, gpu::L2Policy::evict_first, {0, 0, 0, 0});
            }), "a multiple of 1024"));
}
