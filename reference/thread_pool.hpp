// A small pool of std::jthreads that runs queues of work: the CPU stand-in for a GPU's grid.
//
// Worker w owns queue w. `fixed` runs each queue by its owner only: whoever has the longest queue decides when all are done.
// `stealing` lets a worker whose queue is empty take items from the far end of another's. Who ran an item never shows in a
// result, because items write to places of their own. The calling thread is worker 0.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace flashladder::reference {

enum class Schedule : std::uint8_t { fixed, stealing };

class ThreadPool {
 public:
  using Body = std::function<void(std::int32_t item, int worker)>;
  struct Counts {
    std::int64_t own = 0, stolen = 0;  // items that a worker ran from its own queue, from others'
  };

  explicit ThreadPool(int threads);  // >= 1; threads - 1 are started
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(queues_.size()); }
  static int hardware_threads();

  // Runs body once for every item of every queue and returns when all are done; queues.size() == size().
  // The first exception of a body is rethrown here, after all workers have stopped.
  std::vector<Counts> run(std::span<const std::vector<std::int32_t>> queues, Schedule schedule, const Body& body);

 private:
  // What is left of one queue, as one atomic word: begin in the low half, end in the high half. The owner takes at begin,
  // a thief at end; one compare-and-swap decides the race for the last item. Padded: no two workers share a cache line.
  struct alignas(64) Remaining {
    std::atomic<std::uint64_t> range{0};
    bool take_front(std::uint32_t& index);
    bool take_back(std::uint32_t& index);
  };
  struct Job {
    std::span<const std::vector<std::int32_t>> queues;
    Schedule schedule = Schedule::fixed;
    const Body* body = nullptr;
  };

  void work(int worker);
  void serve(std::stop_token stop, int worker);

  std::vector<Remaining> queues_;
  std::vector<Counts> counts_;
  Job job_;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable_any start_, done_;
  std::uint64_t generation_ = 0;  // guarded by mutex_; a new value is a new job
  int running_ = 0;               // guarded by mutex_
  std::vector<std::jthread> threads_;  // last: they stop before what they use goes
};

}  // namespace flashladder::reference
