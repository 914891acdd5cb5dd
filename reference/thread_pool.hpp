// A small pool of std::jthreads that runs queues of work: the CPU stand-in for a GPU's grid.
//
// Worker w owns queue w. `fixed` runs each queue by its owner only: whoever has the longest queue decides when all are done.
// `stealing` lets a worker whose queue is empty take items from the far end of another's. Who ran an item never shows in a
// result, because items write to places of their own. The calling thread is worker 0.
//
// Where work may be stolen or is claimed, the call ends when all work is done: a thread that the operating system has not
// woken by then is not waited for, and finds nothing to do. So a busy machine costs the call little more than its own work.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "reference/schedule.hpp"

namespace flashladder::reference {

class ThreadPool {
 public:
  // Calls a function object of the caller, which must live as long: no copy, no allocation.
  class Body {
   public:
    template <class F>
    Body(const F& f)
        : object_(&f), call_([](const void* object, std::int32_t item, int worker) {
            (*static_cast<const F*>(object))(item, worker);
          }) {}
    void operator()(std::int32_t item, int worker) const { call_(object_, item, worker); }

   private:
    const void* object_;
    void (*call_)(const void*, std::int32_t, int);
  };
  struct Counts {
    std::int64_t own = 0, stolen = 0;  // items that a worker ran from its own queue, from others'
  };

  explicit ThreadPool(int threads);  // >= 1; threads - 1 are started
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(queues_.size()); }
  static int hardware_threads();

  // Runs body once for every item and returns when all are done. Queue w, of worker w, is items[indptr[w] .. indptr[w + 1]);
  // there are 1 .. size() queues, and as many workers take part. Returns what each of them ran, until the next call. The
  // first exception of a body is rethrown here, after all workers have stopped. Allocates nothing.
  std::span<const Counts> run(std::span<const std::int32_t> items, std::span<const std::int32_t> indptr, Schedule schedule,
                              const Body& body);

  // The same for items 0 .. count - 1, which `workers` workers claim one by one, in order.
  std::span<const Counts> claim(std::int64_t count, int workers, const Body& body);

 private:
  // What is left of one queue, as one atomic word: begin in the low half, end in the high half. The owner takes at begin,
  // a thief at end; one compare-and-swap decides the race for the last item. Padded: no two workers share a cache line.
  struct alignas(64) Remaining {
    std::atomic<std::uint64_t> range{0};
    bool take_front(std::uint32_t& index);
    bool take_back(std::uint32_t& index);
  };
  enum class Kind : std::uint8_t { fixed, stealing, claimed };
  struct Job {
    const std::int32_t* items = nullptr;  // null: an item is its index
    Kind kind = Kind::fixed;
    int workers = 0;
    const Body* body = nullptr;
  };

  std::span<const Counts> run_job(const Job& job);
  void work(int worker);
  Counts take_all(int worker);
  void serve(std::stop_token stop, int worker);

  std::vector<Remaining> queues_;
  std::vector<Counts> counts_;
  Job job_;                       // guarded by mutex_; a worker inside of work() may read it without
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;      // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable_any start_, done_;
  std::uint64_t generation_ = 0;  // guarded by mutex_; a new value is a new job
  bool open_ = false;             // guarded by mutex_: workers may still join the job
  int joined_ = 0, left_ = 0;     // guarded by mutex_: workers that have joined the job, and that have done with it
  std::vector<std::jthread> threads_;  // last: they stop before what they use goes
};

}  // namespace flashladder::reference
