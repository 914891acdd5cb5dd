// What is asynchronous on the simulated GPU is as late as it may be, and no later: waits for some of it leave the rest under
// way, arrivals follow it, and nobody waits for a thread that has ended.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <vector>

#include "gpu/ptx/cluster.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/ptx/cp_async_arrive.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/ptx/tma.cuh"
#include "gpu/ptx/wgmma.cuh"
#include "gpu/tensor_map.hpp"
#include "tests/simulated/run_kernel.hpp"

using namespace flashladder;
using test::early, test::late, test::run;

namespace {

alignas(16) const std::uint32_t sevens[4] = {7, 7, 7, 7};
constexpr std::uint32_t nothing = 0xffffffffu;  // as shared memory begins

void copy_to(std::uint32_t* shared) { gpu::cp_async_16(shared, sevens, true), gpu::cp_async_commit(); }

// By one thread: what it finds where it copies to.
using Words = std::vector<std::uint32_t>;
Words found(const std::function<Words(std::uint32_t*)>& kernel) {
  Words words;
  CHECK(run({.order = late, .threads = 1}, [&] { words = kernel(simt::dynamic_shared<std::uint32_t>()); }).empty());
  return words;
}

}  // namespace

TEST_CASE("who waits for all copies but the last group has the others, and not that one") {
  CHECK(found([](std::uint32_t* shared) {
          copy_to(shared), copy_to(shared + 4);
          gpu::cp_async_wait<1>();
          return Words{shared[0], shared[4]};
        }) == Words{7, nothing});
}

TEST_CASE("a group of copies counts where nothing is in it") {
  CHECK(found([](std::uint32_t* shared) {
          copy_to(shared);
          gpu::cp_async_commit();
          gpu::cp_async_wait<1>();
          return Words{shared[0]};
        }) == Words{7});
}

TEST_CASE("a thread's copies arrive at an mbarrier when they are there, also those of open groups") {
  for (const bool committed : {false, true}) {
    for (const simt::Order order : {early, late}) {
      std::uint32_t got = 0;
      CHECK(run({.order = order}, [&] {
              auto* const shared = simt::dynamic_shared<std::uint32_t>();
              auto& full = *reinterpret_cast<gpu::Mbarrier*>(shared + 4);
              if (threadIdx.x == 0) full.init(1);
              __syncthreads();
              if (threadIdx.x == 0) {
                gpu::cp_async_16(shared, sevens, true);
                if (committed) gpu::cp_async_commit();
                gpu::cp_async_arrive(full);
              }
              if (threadIdx.x == 32) full.wait(0), got = shared[0];
            }).empty());
      CHECK(got == 7);
    }
  }
}

TEST_CASE("who waits for all products but the last group has the others, and not that one") {
  float first = 0, second = 0;
  CHECK(run({.order = late, .threads = 128, .shared_bytes = 16384}, [&] {
          auto* const shared = simt::dynamic_shared<unsigned char>();
          for (unsigned i = threadIdx.x; i < 16384; i += 128) shared[i] = 0;
          __syncthreads();
          const std::uint64_t zeros = gpu::wgmma_operand(gpu::shared_address(shared), 0, 1024);
          float sums[2][32];
          for (auto& of_one : sums) {
            for (float& x : of_one) x = 5;
            gpu::Wgmma<Half, 64>::multiply<false>(of_one, zeros, zeros, false);
            gpu::wgmma_commit();
          }
          gpu::wgmma_wait<1>();
          if (threadIdx.x == 0) first = sums[0][0], second = sums[1][0];
          gpu::wgmma_wait<0>();
        }).empty());
  CHECK(first == 0);
  CHECK(second == 5);
}

TEST_CASE("a box that nobody waited for is still to be read when stores are late") {
  alignas(16) static std::uint16_t out[8 * 64];
  const CUtensorMap map = gpu::tensor_map(
      gpu::BoxedTensor<4>{.data = out, .dims = {64, 8, 1, 1}, .strides = {128, 1024, 1024}, .box = {64, 8, 1, 1}});
  for (const simt::Order order : {early, late}) {
    CHECK(run({.order = order, .threads = 1}, [&] {
            auto* const tile = simt::dynamic_shared<std::uint16_t>();
            for (unsigned i = 0; i < 8 * 64; ++i) tile[i] = 1;
            gpu::store_box(map, tile, {0, 0, 0, 0});
            gpu::commit_stores();
            for (unsigned i = 0; i < 8 * 64; ++i) tile[i] = 2;  // too early
            gpu::wait_for_reads_of_stores();
          }).empty());
    CHECK(out[0] == (order.late ? 2 : 1));
  }
}

TEST_CASE("nobody waits for threads that have ended: a warp, a CTA, a cluster") {
  int gone_on = 0;
  CHECK(run({.threads = 32}, [&] {
          if (threadIdx.x >= 16) return;  // after the others have come
          __syncwarp();
          ++gone_on;
        }).empty());
  CHECK(gone_on == 16);
  gone_on = 0;
  CHECK(run({}, [&] {
          if (threadIdx.x >= 32) return;
          __syncthreads();
          ++gone_on;
        }).empty());
  CHECK(gone_on == 32);
  gone_on = 0;
  CHECK(run({.threads = 32, .blocks = 2, .cluster = 2}, [&] {
          if (blockIdx.x == 1) return;
          gpu::cluster_arrive(), gpu::cluster_wait();
          ++gone_on;
        }).empty());
  CHECK(gone_on == 32);
}
