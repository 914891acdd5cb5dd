#include "bench/bandwidth.hpp"

#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "bench/timing.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/memory/memory.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::bench {
namespace {

using Word = std::uint64_t;
constexpr std::int64_t words = (std::int64_t{512} << 20) / sizeof(Word);  // larger than the caches of today's servers

// Runs body(begin, end) on every thread's even, contiguous share of the buffer.
template <class Body>
void share(reference::ThreadPool& pool, Body body) {
  std::vector<std::int32_t> parts(static_cast<std::size_t>(pool.size()) + 1);  // 0, 1, 2 ..: a queue of one part each
  std::iota(parts.begin(), parts.end(), 0);
  pool.run(parts, parts, reference::Schedule::fixed, [&](std::int32_t part, int) {
    body(words * part / pool.size(), words * (part + 1) / pool.size());
  });
}

Measurement line(const char* what, double bytes, double ms, int threads) {
  return {.family = "cpu", .work = std::string(what) + " " + ladder::bytes_text(words * sizeof(Word)),
          .backend = "flashladder", .us = ms * 1e3, .tera_bytes_per_s = bytes / ms * 1e-9, .threads = threads};
}

}  // namespace

std::vector<Measurement> measure_bandwidth(int threads, int rounds) {
  ladder::require_memory(2 * words * sizeof(Word), "the buffers that measure bandwidth");
  reference::ThreadPool pool(threads);
  const std::unique_ptr<Word[]> from(new Word[words]), to(new Word[words]);
  share(pool, [&](std::int64_t begin, std::int64_t end) {  // each thread first touches what it will use: its own memory node
    ladder::Random random(1, static_cast<std::uint64_t>(begin));
    for (std::int64_t i = begin; i < end; ++i) from[i] = random.next();
    std::memset(&to[begin], 0, static_cast<std::size_t>(end - begin) * sizeof(Word));
  });
  const double copy = median_ms(rounds, [&] {
    share(pool, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(&to[begin], &from[begin], static_cast<std::size_t>(end - begin) * sizeof(Word));
    });
  });
  const double read = median_ms(rounds, [&] {
    share(pool, [&](std::int64_t begin, std::int64_t end) {
      Word sum = 0;
      for (std::int64_t i = begin; i < end; ++i) sum += from[i];
      volatile Word used = sum;  // else the loop is not there
      static_cast<void>(used);
    });
  });
  const double bytes = words * sizeof(Word);
  return {line("copy", 2 * bytes, copy, threads), line("read", bytes, read, threads)};
}

}  // namespace flashladder::bench
