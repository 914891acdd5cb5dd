// The simulated GPU's instructions on matrices give what the plain product gives, and its boxes what the tensor has.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "core/half.hpp"
#include "gpu/ptx/mma.cuh"
#include "gpu/ptx/stmatrix.cuh"
#include "gpu/ptx/tma.cuh"
#include "gpu/ptx/wgmma.cuh"
#include "gpu/tensor_map.hpp"
#include "simt/cluster.hpp"

using namespace flashladder;

namespace {

constexpr simt::Order orders[] = {{}, {.late = true}, {.late = true, .seed = 3}};

void run(simt::Order order, unsigned threads, const std::function<void()>& kernel) {
  const simt::LaunchOf launch{.grid = {1, 1, 1}, .block = {threads, 1, 1}, .shared_bytes = 64 * 1024, .kernel = kernel};
  simt::Cluster(launch, order).run({});
}

// Small whole numbers: their products and sums are exact in any order.
std::vector<Half> drawn(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Half> all(n);
  for (Half& x : all) x = Half(static_cast<float>(static_cast<int>(random() % 9) - 4));
  return all;
}
float value(const std::vector<Half>& m, unsigned at) { return static_cast<float>(m[at]); }

// Row r of swizzled rows of 64 elements, as the copy engine would leave them.
void put_swizzled(unsigned char* shared, const std::vector<Half>& m, unsigned rows) {
  for (unsigned r = 0; r < rows; ++r) {
    for (unsigned c = 0; c < 64; ++c) {
      *reinterpret_cast<Half*>(shared + r * 128 + (c * 2 ^ (r % 8) << 4)) = m[r * 64 + c];
    }
  }
}

}  // namespace

TEST_CASE("ldmatrix and mma give the product of two matrices, stmatrix and movmatrix bring blocks back") {
  const auto a = drawn(16 * 16, 1), b = drawn(16 * 16, 2);  // a [row][k], b [column][k]
  for (const simt::Order order : orders) {
    std::vector<float> c(16 * 16, -1);
    std::vector<Half> stored(16 * 16), turned(8 * 8);
    run(order, 32, [&] {
      auto* const shared = simt::dynamic_shared<Half>();
      const unsigned lane = threadIdx.x;
      for (unsigned i = lane; i < 256; i += 32) shared[i] = a[i], shared[256 + i] = b[i];
      __syncthreads();
      std::uint32_t fa[4], fb[4];
      // Blocks of a: rows 0, rows 8, then the same of columns 8. Of b^T: k 0 and k 8 of columns 0, then of columns 8.
      gpu::ldmatrix_x4(fa, shared + (lane % 8 + lane / 8 % 2 * 8) * 16 + lane / 16 * 8);
      gpu::ldmatrix_x4(fb, shared + 256 + (lane % 8 + lane / 16 * 8) * 16 + lane / 8 % 2 * 8);
      float left[4] = {}, right[4] = {};
      gpu::mma_16x16x16<Half>(left, right, fa, fb);
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        c[row * 16 + column] = left[i], c[row * 16 + column + 8] = right[i];
      }
      gpu::stmatrix_x4(shared + 512 + (lane % 8 + lane / 8 % 2 * 8) * 16 + lane / 16 * 8, fa);
      const std::uint32_t block = gpu::movmatrix_trans(fa[0]);
      __syncthreads();
      for (unsigned i = lane; i < 256; i += 32) stored[i] = shared[512 + i];
      for (unsigned e = 0; e < 2; ++e) {
        turned[lane / 4 * 8 + lane % 4 * 2 + e].bits = static_cast<std::uint16_t>(block >> 16 * e);
      }
    });
    for (unsigned row = 0; row < 16; ++row) {
      for (unsigned column = 0; column < 16; ++column) {
        float sum = 0;
        for (unsigned k = 0; k < 16; ++k) sum += value(a, row * 16 + k) * value(b, column * 16 + k);
        CHECK(c[row * 16 + column] == sum);
        CHECK(stored[row * 16 + column].bits == a[row * 16 + column].bits);
        if (row < 8 && column < 8) CHECK(turned[row * 8 + column].bits == a[column * 16 + row].bits);
      }
    }
  }
}

TEST_CASE("wgmma multiplies what lies in swizzled rows, either way round, from registers and from shared memory") {
  const auto a = drawn(64 * 64, 3), b = drawn(64 * 64, 4);
  for (const simt::Order order : orders) {
    for (const bool along_k : {false, true}) {
      for (const bool from_registers : {false, true}) {
        std::vector<float> c(64 * 64, -1);
        run(order, 128, [&] {
          auto* const shared = simt::dynamic_shared<unsigned char>();
          if (threadIdx.x == 0) put_swizzled(shared, a, 64), put_swizzled(shared + 8192, b, 64);
          __syncthreads();
          const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
          const std::uint64_t qa = gpu::wgmma_operand(gpu::shared_address(shared), 0, 1024);
          const std::uint64_t qb = gpu::wgmma_operand(gpu::shared_address(shared + 8192), 8192, 1024);
          float sums[32];
          gpu::wgmma_fence();
          for (unsigned step = 0; step < 4; ++step) {  // 16 of k each
            const std::uint64_t left = gpu::further(qa, step * 32), right = gpu::further(qb, step * (along_k ? 2048 : 32));
            std::uint32_t registers[4];
            for (unsigned i = 0; i < 4; ++i) {
              const unsigned row = warp * 16 + lane / 4 + i % 2 * 8, k = step * 16 + lane % 4 * 2 + i / 2 * 8;
              registers[i] = a[row * 64 + k].bits | std::uint32_t{a[row * 64 + k + 1].bits} << 16;
            }
            using Product = gpu::Wgmma<Half, 64>;
            if (from_registers && along_k) Product::multiply<true>(sums, registers, right, step > 0);
            if (from_registers && !along_k) Product::multiply<false>(sums, registers, right, step > 0);
            if (!from_registers && along_k) Product::multiply<true>(sums, left, right, step > 0);
            if (!from_registers && !along_k) Product::multiply<false>(sums, left, right, step > 0);
          }
          gpu::wgmma_commit();
          gpu::wgmma_wait<0>();
          for (unsigned i = 0; i < 32; ++i) {
            c[(warp * 16 + lane / 4 + i % 4 / 2 * 8) * 64 + i / 4 * 8 + lane % 4 * 2 + i % 2] = sums[i];
          }
        });
        int wrong = 0;
        for (unsigned row = 0; row < 64; ++row) {
          for (unsigned column = 0; column < 64; ++column) {
            float sum = 0;
            for (unsigned k = 0; k < 64; ++k) {
              sum += value(a, row * 64 + k) * value(b, along_k ? k * 64 + column : column * 64 + k);
            }
            wrong += c[row * 64 + column] != sum;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("a product that nobody waited for is not there when products are late") {
  float got = 0;
  run({.late = true}, 128, [&] {
    auto* const shared = simt::dynamic_shared<unsigned char>();
    if (threadIdx.x == 0) put_swizzled(shared, drawn(64 * 64, 5), 64);
    __syncthreads();
    const std::uint64_t any = gpu::wgmma_operand(gpu::shared_address(shared), 0, 1024);
    float sums[32];
    for (float& x : sums) x = 12345;
    gpu::Wgmma<Half, 64>::multiply<false>(sums, any, any, false);
    gpu::wgmma_commit();
    if (threadIdx.x == 0) got = sums[0];
    gpu::wgmma_wait<0>();
  });
  CHECK(got == 12345);
}

TEST_CASE("boxes bring what the tensor has, zeros from outside of it, and store nothing there") {
  alignas(16) static Half data[3 * 10 * 64];  // [3][10][64]
  for (unsigned i = 0; i < 3 * 10 * 64; ++i) data[i].bits = static_cast<std::uint16_t>(i);
  const gpu::BoxedTensor<4> tensor{.data = data, .dims = {64, 10, 3, 1}, .strides = {128, 1280, 3840}, .box = {64, 8, 2, 1}};
  const CUtensorMap map = gpu::tensor_map(tensor);
  for (const simt::Order order : orders) {
    std::vector<std::uint16_t> got(16 * 64);
    run(order, 32, [&] {
      auto* const shared = simt::dynamic_shared<unsigned char>();
      auto& full = *reinterpret_cast<gpu::Mbarrier*>(shared + 8192);
      if (threadIdx.x == 0) {
        full.init(1);
        full.arrive_expecting(16 * 128);
        gpu::copy_box(map, shared, full, gpu::L2Policy::evict_first, {0, 5, 2, 0});  // rows 5 .. 12 of parts 2 and 3
      }
      __syncthreads();
      full.wait(0);
      for (unsigned i = threadIdx.x; i < 16 * 64; i += 32) {
        got[i] = reinterpret_cast<Half*>(shared + i / 64 * 128 + (i % 64 * 2 ^ (i / 64 % 8) << 4))->bits;
      }
    });
    int wrong = 0;
    for (unsigned r = 0; r < 16; ++r) {
      for (unsigned x = 0; x < 64; ++x) {
        const unsigned part = 2 + r / 8, row = 5 + r % 8;
        wrong += got[r * 64 + x] != (part < 3 && row < 10 ? data[(part * 10 + row) * 64 + x].bits : 0);
      }
    }
    CHECK(wrong == 0);

    alignas(16) static Half out[3 * 10 * 64];
    for (Half& h : out) h.bits = 0xffff;
    gpu::BoxedTensor<4> target = tensor;
    target.data = out;
    const CUtensorMap out_map = gpu::tensor_map(target);
    run(order, 32, [&] {
      auto* const shared = simt::dynamic_shared<unsigned char>();
      for (unsigned i = threadIdx.x; i < 16 * 64; i += 32) reinterpret_cast<std::uint16_t*>(shared)[i] = 1;
      __syncthreads();
      if (threadIdx.x != 0) return;
      gpu::store_box(out_map, shared, {0, 5, 2, 0});
      gpu::commit_stores();
      gpu::wait_for_reads_of_stores();
    });
    int ones = 0;
    for (const Half& h : out) ones += h.bits == 1;
    CHECK(ones == 5 * 64);
    CHECK(out[(2 * 10 + 5) * 64].bits == 1);
  }
}
