// Launches on a simulated GPU: at once, or recorded where a capture is under way.
#pragma once

#include <cstddef>

#include "simt/cluster.hpp"
#include "simt/include/cuda_runtime_api.h"

namespace flashladder::simt {

// A kernel gets 48 KB of shared memory, what it declares itself included, and more once that is allowed. What it declares is
// not known here: 16 KB are kept for it, as gpu/launch.hpp does.
void allow(const void* kernel, std::size_t dynamic_bytes);
bool allowed(const void* kernel, std::size_t dynamic_bytes);

cudaError_t launch_on(cudaStream_t stream, LaunchOf launch);
cudaError_t resident_clusters(int* clusters, unsigned size);

// Runs, or records in the graph that the stream captures.
cudaError_t on_stream(cudaStream_t stream, std::function<void()> what);

}  // namespace flashladder::simt
