// Runs a kernel that a test writes as a lambda, alone on the simulated GPU.
#pragma once

#include <functional>
#include <string>

#include "simt/cluster.hpp"

namespace flashladder::test {

struct Way {
  simt::Order order = {};
  unsigned threads = 64, blocks = 1, cluster = 1;
  std::size_t shared_bytes = 4096;
};

// "", or why the kernel could not go on.
inline std::string run(const Way& way, const std::function<void()>& kernel) {
  const simt::LaunchOf launch{.grid = {way.blocks, 1, 1}, .block = {way.threads, 1, 1}, .shared_bytes = way.shared_bytes,
                              .cluster = way.cluster, .kernel = kernel};
  try {
    simt::Cluster cluster(launch, way.order);
    for (unsigned x = 0; x < way.blocks; x += way.cluster) cluster.run({x, 0, 0});
  } catch (const simt::KernelError& error) {
    return error.what();
  }
  return "";
}
inline bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

inline constexpr simt::Order early{}, late{.late = true};

}  // namespace flashladder::test
