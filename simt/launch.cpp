#include "simt/launch.hpp"

#include <map>
#include <mutex>

#include "simt/machine.hpp"

namespace flashladder::simt {
namespace {

void run(const LaunchOf& launch) {
  Cluster cluster_of(launch, order());
  for (unsigned z = 0; z < launch.grid.z; ++z) {
    for (unsigned y = 0; y < launch.grid.y; ++y) {
      for (unsigned x = 0; x < launch.grid.x; x += launch.cluster) cluster_of.run({x, y, z});
    }
  }
}

struct Allowed {
  std::mutex mutex;
  std::map<const void*, std::size_t> bytes;  // of kernels that were allowed more than any
};
Allowed& allowances() {
  static auto& all = *new Allowed;  // never destroyed: kernels may be launched while the program ends
  return all;
}

}  // namespace

void allow(const void* kernel, std::size_t dynamic_bytes) {
  Allowed& all = allowances();
  const std::lock_guard lock(all.mutex);
  all.bytes[kernel] = dynamic_bytes;
}

bool allowed(const void* kernel, std::size_t dynamic_bytes) {
  constexpr std::size_t of_any = 32 * 1024;
  if (dynamic_bytes <= of_any) return true;
  Allowed& all = allowances();
  const std::lock_guard lock(all.mutex);
  const auto known = all.bytes.find(kernel);
  return known != all.bytes.end() && dynamic_bytes <= known->second;
}

cudaError_t launch_on(cudaStream_t stream, LaunchOf launch) {
  const std::size_t threads = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
  if (threads == 0 || threads > 1024 || launch.grid.x == 0 || launch.shared_bytes > most_shared_bytes ||
      launch.grid.x % launch.cluster != 0) {
    return cudaErrorInvalidValue;
  }
  return on_stream(stream, [launch = std::move(launch)] { run(launch); });
}

cudaError_t resident_clusters(int* clusters, unsigned size) {
  *clusters = multiprocessors() / static_cast<int>(size);
  return cudaSuccess;
}

}  // namespace flashladder::simt
