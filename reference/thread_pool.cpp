#include "reference/thread_pool.hpp"

#include "core/error.hpp"

namespace flashladder::reference {
namespace {

constexpr std::uint64_t pack(std::uint32_t begin, std::uint32_t end) { return std::uint64_t{end} << 32 | begin; }
constexpr std::uint32_t begin_of(std::uint64_t range) { return static_cast<std::uint32_t>(range); }
constexpr std::uint32_t end_of(std::uint64_t range) { return static_cast<std::uint32_t>(range >> 32); }

}  // namespace

bool ThreadPool::Remaining::take_front(std::uint32_t& index) {
  std::uint64_t seen = range.load(std::memory_order_relaxed);
  while (begin_of(seen) < end_of(seen)) {
    index = begin_of(seen);
    if (range.compare_exchange_weak(seen, pack(index + 1, end_of(seen)), std::memory_order_relaxed)) return true;
  }
  return false;
}

bool ThreadPool::Remaining::take_back(std::uint32_t& index) {
  std::uint64_t seen = range.load(std::memory_order_relaxed);
  while (begin_of(seen) < end_of(seen)) {
    index = end_of(seen) - 1;
    if (range.compare_exchange_weak(seen, pack(begin_of(seen), index), std::memory_order_relaxed)) return true;
  }
  return false;
}

int ThreadPool::hardware_threads() {
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

ThreadPool::ThreadPool(int threads)
    : queues_((require(threads >= 1 && threads <= 4096, "threads", threads, "must be 1 .. 4096"), threads)),
      counts_(threads) {
  for (int worker = 1; worker < threads; ++worker) {
    threads_.emplace_back([this, worker](std::stop_token stop) { serve(stop, worker); });
  }
}

ThreadPool::~ThreadPool() = default;  // jthreads ask their token to stop, which wakes serve(), and join

std::vector<ThreadPool::Counts> ThreadPool::run(std::span<const std::vector<std::int32_t>> queues, Schedule schedule,
                                                const Body& body) {
  require(queues.size() == queues_.size(), "queues", queues.size(), "must be one for each worker");
  {
    std::lock_guard lock(mutex_);  // publishes the job to the workers, who read it under the same mutex
    job_ = {queues, schedule, &body};
    failed_ = false;
    error_ = nullptr;
    for (std::size_t w = 0; w < queues.size(); ++w) {
      queues_[w].range = pack(0, static_cast<std::uint32_t>(queues[w].size()));
      counts_[w] = {};
    }
    running_ = size();
    ++generation_;
  }
  start_.notify_all();
  work(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
  if (error_) std::rethrow_exception(error_);
  return counts_;
}

void ThreadPool::serve(std::stop_token stop, int worker) {
  std::uint64_t served = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (!start_.wait(lock, stop, [&] { return generation_ != served; })) return;
      served = generation_;
    }
    work(worker);
  }
}

void ThreadPool::work(int worker) {
  Counts counts;
  const auto run_item = [&](int queue, std::uint32_t index, std::int64_t& count) {
    (*job_.body)(job_.queues[queue][index], worker);
    ++count;
  };
  try {
    std::uint32_t index = 0;
    while (!failed_ && queues_[worker].take_front(index)) run_item(worker, index, counts.own);
    if (job_.schedule == Schedule::stealing) {
      for (int step = 1; step < size(); ++step) {  // each starts at its neighbour, so thieves spread
        const int victim = (worker + step) % size();
        while (!failed_ && queues_[victim].take_back(index)) run_item(victim, index, counts.stolen);
      }
    }
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
    failed_ = true;
  }
  std::lock_guard lock(mutex_);
  counts_[worker] = counts;
  if (--running_ == 0) done_.notify_all();
}

}  // namespace flashladder::reference
