// The simulated GPU finds what it is there to find: each kernel here is right, or wrong in one way, and said to be so.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "gpu/ptx/cluster.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/ptx/mbarrier.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/ptx/named_barrier.cuh"
#include "gpu/ptx/wgmma.cuh"
#include "simt/launch.hpp"
#include "tests/simulated/run_kernel.hpp"

using namespace flashladder;
using test::early, test::has, test::late, test::run;

TEST_CASE("what a barrier orders is so in every order of threads, and what none orders is not") {
  const auto sum_is_right = [](bool with_barrier, unsigned seed) {
    int sum = 0;
    const std::string error = run({.order = {.seed = seed}}, [&] {
      auto* const mine = simt::dynamic_shared<int>();
      mine[threadIdx.x] = static_cast<int>(threadIdx.x);
      if (with_barrier) __syncthreads();
      if (threadIdx.x == 0) sum = std::accumulate(mine, mine + 64, 0);
    });
    CHECK(error.empty());
    return sum == 64 * 63 / 2;
  };
  int wrong = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    CHECK(sum_is_right(true, seed));
    wrong += !sum_is_right(false, seed);
  }
  CHECK(wrong > 0);
}

TEST_CASE("a copy that nobody waited for has not come when copies are late") {
  alignas(16) static const std::uint32_t there[4] = {7, 7, 7, 7};
  const auto read = [&](simt::Order order, bool waits) {
    std::uint32_t got = 0;
    CHECK(run({.order = order, .threads = 32}, [&] {
            auto* const here = simt::dynamic_shared<std::uint32_t>();
            if (threadIdx.x != 0) return;
            gpu::cp_async_16(here, there, true);
            gpu::cp_async_commit();
            if (waits) gpu::cp_async_wait<0>();
            got = here[0];
          }).empty());
    return got;
  };
  CHECK(read(early, true) == 7);
  CHECK(read(late, true) == 7);
  CHECK(read(early, false) == 7);
  CHECK(read(late, false) == 0xffffffffu);
}

TEST_CASE("a copy into what is still read has come too early when copies happen at once") {
  alignas(16) static const std::uint32_t next[4] = {2, 2, 2, 2};
  const auto second_warp_reads = [&](simt::Order order) {
    std::uint32_t got = 0;
    CHECK(run({.order = order}, [&] {
            auto* const tile = simt::dynamic_shared<std::uint32_t>();
            if (threadIdx.x == 0) tile[0] = 1;
            __syncthreads();
            if (threadIdx.x == 0) gpu::cp_async_16(tile, next, true), gpu::cp_async_commit();  // no barrier behind the readers
            if (threadIdx.x == 32) got = tile[0];
            __syncthreads();
            gpu::cp_async_wait<0>();
          }).empty());
    return got;
  };
  CHECK(second_warp_reads(early) == 2);
  CHECK(second_warp_reads(late) == 1);
}

TEST_CASE("what a thread does behind its arrival may come too late in a drawn order") {
  // How much of what the first warp writes the second one finds there.
  const auto found = [](unsigned seed, bool writes_first, bool named) {
    int sum = 0;
    CHECK(run({.order = {.seed = seed}}, [&] {
            auto* const shared = simt::dynamic_shared<std::uint64_t>();
            auto& said = *reinterpret_cast<gpu::Mbarrier*>(shared);
            auto* const there = shared + 1;
            if (threadIdx.x == 0) said.init(32);
            if (threadIdx.x < 32) there[threadIdx.x] = 0;
            __syncthreads();
            if (threadIdx.x < 32) {
              if (writes_first) there[threadIdx.x] = 1;
              named ? gpu::named_barrier_arrive<64>(1) : said.arrive();
              there[threadIdx.x] = 1;
            } else {
              named ? gpu::named_barrier_sync<64>(1) : said.wait(0);
              if (threadIdx.x == 32) sum = static_cast<int>(std::accumulate(there, there + 32, std::uint64_t{0}));
            }
          }).empty());
    return sum;
  };
  for (const bool named : {false, true}) {
    int too_late = 0;
    for (unsigned seed = 1; seed <= 60; ++seed) {
      CHECK(found(seed, true, named) == 32);
      too_late += found(seed, false, named) < 32;
    }
    CHECK(too_late > 0);
  }
}

TEST_CASE("who waits for nobody is told, in place of a GPU that hangs") {
  CHECK(has(run({}, [] { if (threadIdx.x < 32) gpu::named_barrier_sync<64>(3); }), "32 threads wait for a named barrier"));
  CHECK(has(run({}, [] {
          auto& b = *simt::dynamic_shared<gpu::Mbarrier>();
          if (threadIdx.x == 0) b.init(2);
          __syncthreads();
          if (threadIdx.x == 0) b.arrive();
          b.wait(0);
        }), "64 threads wait for an mbarrier"));
  CHECK(has(run({}, [] {
          auto& b = *simt::dynamic_shared<gpu::Mbarrier>();
          if (threadIdx.x != 0) return;
          b.init(1);
          for (int i = 0; i < 3; ++i) b.arrive();  // each ends a phase
          b.wait(0), b.wait(1);
        }), "wait for an mbarrier"));
}

TEST_CASE("what a GPU does not do is an error") {
  CHECK(has(run({}, [] {
          if (threadIdx.x % 2 == 0) __syncwarp();
          else static_cast<void>(__shfl_sync(0xffffffffu, 1, 0));
        }), "the lanes of a warp are at"));
  CHECK(has(run({}, [] { gpu::named_barrier_sync<32>(1); gpu::named_barrier_arrive<32>(16); }), "a CTA has sixteen"));
  CHECK(has(run({.shared_bytes = 64}, [] { gpu::cp_async_16(simt::dynamic_shared<std::byte>() + 64, nullptr, false); }),
            "shared memory at 64 and on, of 64 bytes"));
  CHECK(has(run({}, [] { gpu::cp_async_16(simt::dynamic_shared<std::byte>() + 4, nullptr, false); }), "multiple of 16"));
  CHECK(has(run({}, [] {
          if (threadIdx.x < 33) gpu::named_barrier_arrive<64>(1);
          if (threadIdx.x == 40) gpu::named_barrier_arrive<32>(1);
        }), "more threads came to barrier 1"));
  CHECK(has(run({.threads = 1}, [] {
          auto& b = *simt::dynamic_shared<gpu::Mbarrier>();
          b.init(1), b.arrive_expecting(16), b.arrive();  // in one phase
        }), "more threads arrived at an mbarrier"));
  CHECK(has(run({.threads = 32}, [] {
          std::uint32_t a[4];
          gpu::ldmatrix_x4(a, simt::dynamic_shared<std::byte>() + 2);
        }), "a matrix row at an address"));
  CHECK(has(run({.threads = 128, .shared_bytes = 16384}, [] {
          if (threadIdx.x >= 120) return;
          float sums[32];
          const std::uint64_t any = gpu::wgmma_operand(0, 0, 1024);
          gpu::Wgmma<Half, 64>::multiply<false>(sums, any, any, false);
        }), "wgmma without all lanes"));
  const simt::LaunchOf too_many{.grid = {1, 1, 1}, .block = {1025, 1, 1}, .kernel = [] {}};
  CHECK(simt::launch_on(nullptr, too_many) == cudaErrorInvalidValue);
  CHECK(has(run({.shared_bytes = 300 * 1024}, [] {}), "at most 227 KB"));
}

TEST_CASE("a kernel gets more than 48 KB of shared memory when that is allowed, and what it declares itself counts") {
  void (*kernel)() = [] {};
  cudaLaunchConfig_t config{.gridDim = {1, 1, 1}, .blockDim = {32, 1, 1}, .dynamicSmemBytes = 32 * 1024};
  CHECK(cudaLaunchKernelEx(&config, kernel) == cudaSuccess);
  config.dynamicSmemBytes = 48 * 1024;
  CHECK(cudaLaunchKernelEx(&config, kernel) == cudaErrorInvalidValue);
  const auto* address = reinterpret_cast<const void*>(kernel);
  CHECK(cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize, 48 * 1024) == cudaSuccess);
  CHECK(cudaLaunchKernelEx(&config, kernel) == cudaSuccess);
  config.dynamicSmemBytes += 1;
  CHECK(cudaLaunchKernelEx(&config, kernel) == cudaErrorInvalidValue);
}

TEST_CASE("device memory is not initialised, and ends where it was asked to") {
  constexpr std::size_t bytes = 100;
  void* memory = nullptr;
  REQUIRE(cudaMalloc(&memory, bytes) == cudaSuccess);
  auto* const first = static_cast<unsigned char*>(memory);
  CHECK(std::count(first, first + bytes, 0xff) == bytes);
  const auto type_at = [&](std::size_t byte) {
    cudaPointerAttributes about{};
    CHECK(cudaPointerGetAttributes(&about, first + byte) == cudaSuccess);
    return about.type;
  };
  CHECK(type_at(0) == cudaMemoryTypeDevice);
  CHECK(type_at(bytes - 1) == cudaMemoryTypeDevice);
  CHECK(type_at(bytes) == cudaMemoryTypeUnregistered);
  CHECK(cudaFree(memory) == cudaSuccess);
}

TEST_CASE("an mbarrier's phase ends with its arrivals and its bytes") {
  std::vector<int> order;
  CHECK(run({.threads = 96}, [&] {
          auto& b = *simt::dynamic_shared<gpu::Mbarrier>();
          if (threadIdx.x == 0) b.init(1);
          __syncthreads();
          if (threadIdx.x == 0) b.arrive_expecting(32);
          if (threadIdx.x == 32) b.wait(0), order.push_back(2);
          if (threadIdx.x == 64) order.push_back(1), b.copied(16), b.copied(16);
        }).empty());
  CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("the CTAs of a cluster meet and read each other's shared memory") {
  std::vector<float> got(4);
  for (const simt::Order order : {early, simt::Order{.seed = 5}}) {
    got.assign(4, 0);
    CHECK(run({.order = order, .threads = 32, .blocks = 4, .cluster = 2}, [&] {
            auto* const mine = simt::dynamic_shared<float>();
            if (threadIdx.x == 0) *mine = static_cast<float>(blockIdx.x + 1);
            gpu::cluster_arrive(), gpu::cluster_wait();
            const auto others = gpu::in_cta(mine, 1 - static_cast<int>(gpu::cluster_rank()));
            if (threadIdx.x == 0) got[blockIdx.x] = gpu::load_in_cluster(others);
            gpu::cluster_arrive(), gpu::cluster_wait();
          }).empty());
    CHECK(got == std::vector<float>{2, 1, 4, 3});
  }
}

TEST_CASE("shuffles and votes by those who are there") {
  std::vector<unsigned> got(32), votes(32);
  CHECK(run({.threads = 32}, [&] {
          const unsigned lane = threadIdx.x;
          got[lane] = __shfl_xor_sync(0xffffffffu, lane, 1) * 100 + __shfl_sync(0xffffffffu, lane, 3, 8);
          if (lane >= 16) return;
          votes[lane] = __ballot_sync(0xffffu, lane % 2 == 0);
        }).empty());
  CHECK(got[4] == 503);
  CHECK(got[13] == 1211);
  CHECK(votes[0] == 0x5555u);
  CHECK(votes[20] == 0);
}

TEST_CASE("a counter returns to zero behind its last") {
  unsigned counter = 0;
  std::vector<unsigned> got(32);
  CHECK(run({.threads = 32}, [&] { got[threadIdx.x] = atomicInc(&counter, 4); }).empty());
  for (unsigned i = 0; i < 32; ++i) CHECK(got[i] == i % 5);
  CHECK(counter == 32 % 5);
}

TEST_CASE("a graph does again what was captured, and a kernel's error is told by whoever synchronises") {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replayed = nullptr;
  int launched = 0;
  const simt::LaunchOf counts{.grid = {1, 1, 1}, .block = {1, 1, 1}, .kernel = [&] { ++launched; }};
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(simt::launch_on(stream, counts) == cudaSuccess);
  CHECK(launched == 0);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaGraphInstantiate(&replayed, graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  for (int i = 0; i < 3; ++i) CHECK(cudaGraphLaunch(replayed, stream) == cudaSuccess);
  CHECK(launched == 3);
  CHECK(cudaGraphExecDestroy(replayed) == cudaSuccess);

  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);

  const simt::LaunchOf hangs{.grid = {1, 1, 1}, .block = {32, 1, 1}, .kernel = [] { gpu::named_barrier_sync<64>(1); }};
  CHECK(simt::launch_on(stream, hangs) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorLaunchFailure);
  CHECK(has(cudaGetErrorString(cudaErrorLaunchFailure), "nobody can go on"));
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  cudaGetLastError();
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}
