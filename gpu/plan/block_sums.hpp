// Sums by a block of threads. A Block works in phases: block.each(f) calls f(thread) by each of its Block::threads threads,
// and comes back when all are done, so that what one phase wrote the next may read. On the GPU that is the CTA and its
// barrier (plan_decode.cu); a host program's Block is a loop, and runs the same code.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"
#include "core/range.hpp"

namespace flashladder::gpu {

// put(i, the sum of value(0) .. value(i - 1)) for i = 0 .. n. Each thread adds up a stretch, the stretches meet in steps of
// 1, 8, 64, and each thread walks its own once more: a phase's barrier costs more than seven sums that are read at once.
// put(i) may overwrite what value_again(i) is read from.
//   of_threads [2, Block::threads]   of the block alone; free again when this returns
template <class Sum, class Block, class Value, class Again, class Put>
FL_HD void exclusive_sums(Block& block, Sum* of_threads, std::int32_t n, Value&& value, Again&& value_again, Put&& put) {
  const std::int32_t stretch = n > 0 ? div_up(n, Block::threads) : 1, used = div_up(n, stretch);
  const auto end_of = [=](std::int32_t t) { return (t + 1) * stretch < n ? (t + 1) * stretch : n; };
  block.each([&](std::int32_t t) {
    if (t >= used) return;
    Sum sum{};
    FL_ROLLED for (std::int32_t i = t * stretch; i < end_of(t); ++i) sum += value(i);
    of_threads[t] = sum;
  });
  constexpr std::int32_t at_once = 8;
  Sum *from = of_threads, *to = of_threads + Block::threads;
  FL_ROLLED for (std::int32_t step = 1; step < used; step *= at_once) {
    block.each([&](std::int32_t t) {
      if (t >= used) return;
      Sum sum = from[t];
      for (std::int32_t i = 1; i < at_once; ++i) {
        const std::int32_t before = t - i * step;
        const Sum of_before = from[before < 0 ? 0 : before];  // whether or not it counts: so none waits for another
        if (before >= 0) sum += of_before;
      }
      to[t] = sum;
    });
    Sum* const summed = to;
    to = from, from = summed;
  }
  block.each([&](std::int32_t t) {
    if (t == 0 && n == 0) put(0, Sum{});
    if (t >= used) return;
    Sum sum = t == 0 ? Sum{} : from[t - 1];
    FL_ROLLED for (std::int32_t i = t * stretch; i < end_of(t) - 1; ++i) {
      const Sum own = value_again(i);  // before put(), which may take its place
      put(i, sum);
      sum += own;
    }
    put(end_of(t) - 1, sum);  // behind the stretch's last begins the next one's
    if (t == used - 1) put(n, from[t]);
  });
}
template <class Sum, class Block, class Value, class Put>
FL_HD void exclusive_sums(Block& block, Sum* of_threads, std::int32_t n, Value&& value, Put&& put) {
  exclusive_sums(block, of_threads, n, value, value, put);
}
// The same into sums [n + 1], which is where a value is read from when it is asked for again.
template <class Sum, class Block, class Value>
FL_HD void exclusive_sums(Block& block, Sum* of_threads, std::int32_t n, Value&& value, Sum* sums) {
  exclusive_sums(
      block, of_threads, n, [&](std::int32_t i) { return sums[i] = value(i); }, [&](std::int32_t i) { return sums[i]; },
      [&](std::int32_t i, const Sum& sum) { sums[i] = sum; });
}

// The last i of low .. high - 1 for which before(i) holds, which holds for low and, once it does not, for none behind it.
template <class Before>
FL_HD std::int32_t last_before(std::int32_t low, std::int32_t high, Before&& before) {
  FL_ROLLED while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    (before(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace flashladder::gpu
