// CTAs that run at the same time: one, or the CTAs of a cluster. Every CUDA thread is a fiber. A thread runs until it waits
// for others (a warp's instruction, a barrier, a copy); then the next one that can runs. Kernels whose CTAs do not wait for
// each other outside of a cluster need no more: clusters run one after another.
//
// What is asynchronous on a GPU (cp.async, TMA, wgmma) happens either as soon as it is asked for, or as late as it may: when
// somebody waits for it, or when nobody else can run. A kernel that reads too early is wrong in one of the two, a kernel that
// overwrites too early in the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "simt/fiber.hpp"

namespace flashladder::simt {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// A kernel that can't go on, or did what a GPU does not do.
struct KernelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Order {
  bool late = false;  // asynchronous work, as above
  unsigned seed = 0;  // 0: threads in turn. Else who runs next is drawn, also where a thread has let others go on
};

// Asynchronous work that is under way.
using Works = std::vector<std::function<void()>>;
inline void run_all(Works& works) {
  for (const auto& work : works) work();
  works.clear();
}
using CopyGroup = std::shared_ptr<Works>;

struct Warp;
struct Cta;

struct Thread {
  Fiber* fiber = nullptr;
  Cta* cta = nullptr;
  Warp* warp = nullptr;
  Index index;
  unsigned lane = 0;
  const char* waits_for = nullptr;
  bool ended = false;
  unsigned cluster_phase = 0;     // in which it arrived at the cluster's barrier
  std::deque<CopyGroup> copies;   // cp.async: committed groups
  CopyGroup open_copies;          // ... and what is not committed yet
  Works stores;                   // boxes that the copy engine is to store
};

// Threads that meet at an instruction of their warp. slots[lane] is what each brought.
struct Meeting {
  unsigned mask = 0, here = 0;
  const char* what = nullptr;
  void (*together)(void* const* slots, unsigned mask) = nullptr;
  void* slots[32] = {};
};

struct Warp {
  std::vector<Thread*> lanes;
  unsigned live = 0;
  std::vector<Meeting> meetings;
  std::deque<CopyGroup> products;  // wgmma: committed groups
  CopyGroup open_products;
};

struct Barrier {
  unsigned come = 0;
  std::vector<Thread*> waiting;
};

struct Cta {
  Index index;
  unsigned rank = 0;  // in the cluster
  std::byte* shared = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
  unsigned live = 0;
};

struct LaunchOf {
  Index grid = {}, block = {};
  std::size_t shared_bytes = 0;
  unsigned cluster = 1;
  std::function<void()> kernel = {};
};

class Cluster {
 public:
  static constexpr std::size_t window = 256 * 1024;  // from one CTA's shared memory to the next's: what wgmma can address

  Cluster(const LaunchOf& launch, const Order& order);
  // The CTAs whose numbers begin at first, along x. Throws KernelError.
  void run(Index first);

  // What follows is for the thread that runs.
  void wait(const char* what);  // until woken
  void wake(Thread* thread) { ready_.push_back(thread); }
  void wake(std::vector<Thread*>& threads);
  void meet(unsigned mask, const char* what, void* mine, void (*together)(void* const*, unsigned));
  void barrier(unsigned number, unsigned threads, bool stay);
  void cluster_arrive();
  void cluster_wait();
  void later(std::function<void()> what);  // asynchronous, and nobody's own
  void wait_at(const void* address, const char* what);
  void wake_at(const void* address);
  [[noreturn]] void fail(const std::string& what);
  bool late() const { return order_.late; }
  const LaunchOf& launch() const { return launch_; }
  std::byte* arena() const { return arena_; }
  std::size_t arena_bytes() const { return launch_.cluster * window; }

 private:
  void end_of(Thread& thread);
  void hold(Meeting& meeting, Warp& warp);
  void recheck(Warp& warp);
  void pass(Barrier& barrier);
  void pass_cluster_if_all_have_come();
  void be_overtaken();
  Thread* next();
  std::string who_waits() const;

  const LaunchOf& launch_;
  Order order_;
  std::mt19937 random_;
  std::byte* arena_;
  std::vector<std::unique_ptr<Cta>> ctas_;
  std::deque<Thread*> ready_;
  std::deque<std::function<void()>> later_;
  std::vector<std::pair<const void*, Thread*>> at_address_;
  unsigned cluster_come_ = 0, cluster_phase_ = 0, live_ = 0;
  std::vector<Thread*> cluster_waiting_;
  std::string failed_;
};

extern Thread* current;    // the thread that runs
extern Cluster* cluster;   // and where
extern Index threadIdx, blockIdx, blockDim, gridDim;  // what CUDA says of it

}  // namespace flashladder::simt
