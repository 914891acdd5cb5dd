#include "simt/launch.hpp"

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

}  // namespace

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
