// makecontext gives a fiber its stack; from then on _setjmp and _longjmp switch, which unlike swapcontext ask the kernel for
// nothing. (Engelschall, "Portable Multithreading", USENIX 2000, is about the same trick.)
#include "simt/fiber.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <new>

namespace flashladder::simt {

Fiber::Fiber() {
  stack_ = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack_ == MAP_FAILED) throw std::bad_alloc();
}
Fiber::~Fiber() { munmap(stack_, stack_bytes); }

void Fiber::start(const std::function<void()>& job) {
  job_ = &job;
  fresh_ = fresh_ || !ended_;
  ended_ = false;
}

void Fiber::enter(unsigned high, unsigned low) {
  reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(high) << 32 | low)->run();
}

void Fiber::run() {
  while (true) {
    (*job_)();
    ended_ = true;
    give_way();
  }
}

bool Fiber::resume() {
  if (_setjmp(there_) == 0) {
    if (!fresh_) _longjmp(here_, 1);
    fresh_ = false;
    ucontext_t begin;
    getcontext(&begin);
    begin.uc_stack.ss_sp = stack_, begin.uc_stack.ss_size = stack_bytes, begin.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&begin, reinterpret_cast<void (*)()>(&Fiber::enter), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
    setcontext(&begin);
  }
  return ended_;
}

void Fiber::give_way() {
  if (_setjmp(here_) == 0) _longjmp(there_, 1);
}

}  // namespace flashladder::simt
