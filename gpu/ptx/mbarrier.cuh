// Barriers in shared memory that count arrivals and bytes (sm_90). PTX ISA, "Parallel Synchronization and Communication
// Instructions: mbarrier".
//
// A barrier is in a phase, 0 first. The phase ends when `arrivals` threads have arrived and all bytes that they announced
// have been written by the copy engine; then the next begins, with the counts as at the start. A thread waits for the end of
// a phase by naming its parity: wait(0) returns once the first phase has ended, and wait(1) on a fresh barrier returns at
// once, as if a phase before the first had ended.
#pragma once

#include <cstdint>

namespace flashladder::gpu {

struct Mbarrier {
  std::uint64_t state;

  __device__ std::uint32_t address() const { return static_cast<std::uint32_t>(__cvta_generic_to_shared(this)); }

  // By one thread, before anybody else touches it; then fence_mbarrier_init() and a barrier of the whole CTA.
  __device__ void init(std::uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals) : "memory");
  }
  // What this thread wrote to shared memory before is seen by whoever waits.
  __device__ void arrive() { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory"); }
  // ... and the phase does not end before so many bytes have been copied.
  __device__ void arrive_expecting(std::uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
  }
  __device__ void wait(std::uint32_t parity) const {
    asm volatile(
        "{\n.reg .pred ended;\nAGAIN_%=:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n@!ended bra AGAIN_%=;\n}" ::"r"(address()),
        "r"(parity)
        : "memory");
  }
  // Has it ended? Asked once.
  __device__ bool ended(std::uint32_t parity) const {
    std::uint32_t ended;
    asm volatile(
        "{\n.reg .pred ended;\nmbarrier.test_wait.parity.shared::cta.b64 ended, [%1], %2;\nselp.u32 %0, 1, 0, ended;\n}"
        : "=r"(ended)
        : "r"(address()), "r"(parity)
        : "memory");
    return ended != 0;
  }
};

// The initialised barriers are visible to the copy engine too.
__device__ inline void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

}  // namespace flashladder::gpu
