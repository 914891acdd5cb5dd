// Page-locked memory for host-to-device copies, in slots that are used in turn. A slot is written again only when the copy
// that read it has been carried out: an event behind each copy says so. Without that, a plan made while the GPU is behind
// would overwrite the one that is still to be copied.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "gpu/check.hpp"

namespace flashladder::gpu {

class StagingRing {
 public:
  static constexpr std::size_t slots = 4;  // plans that may be under way at once

  explicit StagingRing(std::span<std::byte> memory) : memory_(memory) {}

  // The next slot; waits if its last copy has not been carried out yet. An event never recorded counts as done.
  std::span<std::byte> next() {
    check(cudaEventSynchronize(copied_[at_].event));
    const std::size_t bytes = memory_.size() / slots / 16 * 16;  // 16: what a packed plan is aligned to
    return memory_.subspan(at_ * bytes, bytes);
  }
  // All copies from the slot of next() are enqueued on this stream.
  void enqueued(cudaStream_t stream) {
    check(cudaEventRecord(copied_[at_].event, stream));
    at_ = (at_ + 1) % slots;
  }

 private:
  // Its end waits for the copy behind which it was recorded: then the memory is its owner's again.
  struct Copied {
    cudaEvent_t event = nullptr;
    Copied() { check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
    ~Copied() {
      cudaEventSynchronize(event);  // an error here is an earlier kernel's: whoever synchronises reports it
      cudaEventDestroy(event);
    }
    Copied(const Copied&) = delete;
    Copied& operator=(const Copied&) = delete;
  };

  std::span<std::byte> memory_;
  std::array<Copied, slots> copied_;
  std::size_t at_ = 0;
};

}  // namespace flashladder::gpu
