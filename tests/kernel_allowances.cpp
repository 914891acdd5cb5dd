// What a kernel is allowed is said to the driver once, grows, and never sinks, whichever threads launch.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gpu/kernel_allowances.hpp"

using flashladder::gpu::KernelAllowances;

namespace {

const int first = 0, second = 0;  // two kernels' addresses

TEST_CASE("kernel allowances: the driver is told once, and again for more, for another device or another kernel") {
  KernelAllowances allowances;
  std::vector<std::size_t> told;
  const auto raise = [&](const void* kernel, int device, std::size_t amount) {
    allowances.raise(kernel, device, amount, [&] { told.push_back(amount); });
  };
  raise(&first, 0, 100), raise(&first, 0, 100), raise(&first, 0, 60);
  CHECK(told == std::vector<std::size_t>{100});
  raise(&first, 0, 101);
  CHECK(told == std::vector<std::size_t>{100, 101});
  raise(&first, 1, 90), raise(&second, 0, 80), raise(&first, 0, 101);
  CHECK(told == std::vector<std::size_t>{100, 101, 90, 80});
}

TEST_CASE("kernel allowances: what the driver refuses is asked for again") {
  KernelAllowances allowances;
  int asked = 0;
  const auto refuse = [&] { ++asked, throw std::runtime_error("no"); };
  CHECK_THROWS_WITH(allowances.raise(&first, 0, 100, refuse), "no");
  CHECK_THROWS_WITH(allowances.raise(&first, 0, 100, refuse), "no");
  allowances.raise(&first, 0, 100, [&] { ++asked; });
  allowances.raise(&first, 0, 100, refuse);
  CHECK(asked == 3);
}

TEST_CASE("kernel allowances: whoever launches is allowed enough by then, in any number of threads") {
  KernelAllowances allowances;
  std::size_t driver[2] = {};  // what it was told last: written in turn alone
  std::array<std::atomic<std::size_t>, 2> seen{};
  std::atomic<bool> enough = true;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t n = 1; n <= 500; ++n) {
        const std::size_t kernel = n % 2, amount = 1 + (n * (t + 3)) % 97;
        allowances.raise(kernel == 0 ? &first : &second, 0, amount, [&] { seen[kernel] = driver[kernel] = amount; });
        if (seen[kernel] < amount) enough = false;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(enough);
  CHECK(std::min(driver[0], driver[1]) > 90);
}

}  // namespace
