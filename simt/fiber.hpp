// A stack of its own for each CUDA thread of a simulated GPU: it runs until it gives way, and later goes on from there.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <functional>

namespace flashladder::simt {

// Fibers are used over and over: making one costs system calls, switching to one some nanoseconds. All of them run on the
// thread that resumes them.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // job, which must live so long, runs at the next resume(). What was under way before is forgotten, without destructors.
  void start(const std::function<void()>& job);
  // Until the job gives way or ends; true if it ended.
  bool resume();
  // By the job: resume() returns.
  void give_way();

 private:
  static void enter(unsigned high, unsigned low);
  [[noreturn]] void run();

  static constexpr std::size_t stack_bytes = 512 * 1024;  // of address space: pages that nobody touches cost nothing
  void* stack_ = nullptr;
  const std::function<void()>* job_ = nullptr;
  bool fresh_ = true, ended_ = true;  // nothing is on its stack; it waits for a job
  std::jmp_buf here_, there_;  // of the fiber, of who resumed it
};

}  // namespace flashladder::simt
