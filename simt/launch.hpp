// Launches on a simulated GPU: at once, or recorded where a capture is under way.
#pragma once

#include "simt/cluster.hpp"
#include "simt/include/cuda_runtime_api.h"

namespace flashladder::simt {

cudaError_t launch_on(cudaStream_t stream, LaunchOf launch);
cudaError_t resident_clusters(int* clusters, unsigned size);

// Runs, or records in the graph that the stream captures.
cudaError_t on_stream(cudaStream_t stream, std::function<void()> what);

}  // namespace flashladder::simt
