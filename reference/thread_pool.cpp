#include "reference/thread_pool.hpp"

#include <algorithm>
#include <limits>

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

std::span<const ThreadPool::Counts> ThreadPool::run(std::span<const std::int32_t> items,
                                                    std::span<const std::int32_t> indptr, Schedule schedule,
                                                    const Body& body) {
  require(indptr.size() >= 2 && indptr.size() <= queues_.size() + 1, "indptr", indptr.size(),
          "must have an entry more than queues, of which there are 1 .. size()");
  require(std::ranges::is_sorted(indptr) && indptr.front() >= 0 && indptr.back() <= std::ssize(items), "indptr",
          indptr.back(), "must not decrease nor exceed the number of items");
  for (std::size_t w = 0; w + 1 < indptr.size(); ++w) {
    queues_[w].range = pack(static_cast<std::uint32_t>(indptr[w]), static_cast<std::uint32_t>(indptr[w + 1]));
  }
  const Kind kind = schedule == Schedule::fixed ? Kind::fixed : Kind::stealing;
  return run_job({items.data(), kind, static_cast<int>(indptr.size()) - 1, &body});
}

std::span<const ThreadPool::Counts> ThreadPool::claim(std::int64_t count, int workers, const Body& body) {
  require(count >= 0 && count <= std::numeric_limits<std::int32_t>::max(), "count", count, "must be 0 .. 2^31 - 1");
  require(workers >= 1 && workers <= size(), "workers", workers, "must be 1 .. size()");
  queues_[0].range = pack(0, static_cast<std::uint32_t>(count));
  return run_job({nullptr, Kind::claimed, workers, &body});
}

// Between two jobs no other worker is inside of work(), so that queues and counts are the caller's alone.
std::span<const ThreadPool::Counts> ThreadPool::run_job(const Job& job) {
  const std::span<Counts> counts = std::span(counts_).first(static_cast<std::size_t>(job.workers));
  std::ranges::fill(counts, Counts{});
  failed_ = false;
  error_ = nullptr;
  {
    std::lock_guard lock(mutex_);  // publishes the job, queues and counts to the workers, who join under the same mutex
    job_ = job;
    open_ = job.workers > 1;
    joined_ = left_ = 0;
    ++generation_;
  }
  if (job.workers > 1) start_.notify_all();
  work(0);
  if (job.workers > 1) {
    std::unique_lock lock(mutex_);
    // Nobody else runs what a worker's fixed queue holds: all of them must have come. Else nothing is left to come for.
    if (job.kind != Kind::fixed) open_ = false;
    done_.wait(lock, [&] { return left_ == (job.kind == Kind::fixed ? job.workers - 1 : joined_); });
    open_ = false;
  }
  if (error_) std::rethrow_exception(error_);
  return counts;
}

void ThreadPool::serve(std::stop_token stop, int worker) {
  std::uint64_t served = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (!start_.wait(lock, stop, [&] { return generation_ != served; })) return;
      served = generation_;
      if (!open_ || worker >= job_.workers) continue;
      ++joined_;
    }
    work(worker);
    std::lock_guard lock(mutex_);
    ++left_;
    done_.notify_one();
  }
}

ThreadPool::Counts ThreadPool::take_all(int worker) {
  Counts counts;
  std::uint32_t index = 0;
  const auto run_item = [&](std::int64_t& count) {
    (*job_.body)(job_.items == nullptr ? static_cast<std::int32_t>(index) : job_.items[index], worker);
    ++count;
  };
  const int own = job_.kind == Kind::claimed ? 0 : worker;
  while (!failed_ && queues_[own].take_front(index)) run_item(counts.own);
  if (job_.kind != Kind::stealing) return counts;
  for (int step = 1; step < job_.workers; ++step) {  // each starts at its neighbour, so thieves spread
    const int victim = (worker + step) % job_.workers;
    while (!failed_ && queues_[victim].take_back(index)) run_item(counts.stolen);
  }
  return counts;
}

void ThreadPool::work(int worker) {
  try {
    counts_[worker] = take_all(worker);
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
    failed_ = true;
  }
}

}  // namespace flashladder::reference
