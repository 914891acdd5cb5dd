// gpu/ptx/mbarrier.cuh on a simulated GPU.
#pragma once

#include <bit>
#include <cstdint>

#include "simt/cluster.hpp"

namespace flashladder::gpu {

struct Mbarrier {
  std::uint64_t state;

  void init(std::uint32_t arrivals) {
    store({static_cast<std::uint16_t>(arrivals), 0, static_cast<std::int16_t>(arrivals), 0});
  }
  void arrive() { count(1, 0); }
  void arrive_expecting(std::uint32_t bytes) { count(1, static_cast<std::int32_t>(bytes)); }
  void wait(std::uint32_t parity) const {
    while (!ended(parity)) simt::cluster->wait_at(this, "an mbarrier");
  }
  bool ended(std::uint32_t parity) const { return (load().phase & 1) != parity; }
  void copied(std::uint32_t bytes) { count(0, -static_cast<std::int32_t>(bytes)); }  // by the copy engine

 private:
  struct Counts {
    std::uint16_t arrivals;     // of each phase; 15 bits
    std::uint16_t phase;
    std::int16_t missing;       // arrivals of this phase
    std::int16_t pieces;        // of 16 bytes, announced and not copied
  };
  Counts load() const { return std::bit_cast<Counts>(state); }
  void store(const Counts& counts) { state = std::bit_cast<std::uint64_t>(counts); }

  void count(int arrivals, std::int32_t bytes) {
    Counts now = load();
    now.missing = static_cast<std::int16_t>(now.missing - arrivals);
    now.pieces = static_cast<std::int16_t>(now.pieces + bytes / 16);
    if (now.missing < 0) simt::cluster->fail("more threads arrived at an mbarrier than it waits for");
    if (now.missing == 0 && now.pieces == 0) {
      now.missing = static_cast<std::int16_t>(now.arrivals), ++now.phase;
      store(now);
      return simt::cluster->wake_at(this);
    }
    store(now);
  }
};

inline void fence_mbarrier_init() {}

}  // namespace flashladder::gpu
