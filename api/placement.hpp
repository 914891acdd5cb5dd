// Where a call runs: on the CPU, or on the GPU and which of its streams. Nothing here needs CUDA's headers or a GPU.
#pragma once

#include "api/version.hpp"  // first: it says which C++ this is

#include <string>

#include "core/device.hpp"

namespace flashladder::api {

using flashladder::Device;

// A cudaStream_t, which converts to it by itself; nullptr is the default stream. The CPU works while its caller waits, and
// ignores it.
using Stream = void*;

// The last argument of every function here that is no plan and run: rmsnorm(x, weight, y, 1e-6f, {Device::gpu, stream}).
// All pointers of such a call are that device's. A call on the GPU only enqueues: no allocation, no synchronisation.
struct On {
  Device device = Device::cpu;
  Stream stream = nullptr;
  bool enable_pdl = false;  // programmatic dependent launch: may start before the previous kernel on the stream has ended
};

// "" if this machine has a GPU that this build runs on; else one sentence: built without CUDA, no device, a driver that is
// too old, or an architecture that the build has no code for.
const std::string& why_no_gpu();
inline Device best_device() { return why_no_gpu().empty() ? Device::gpu : Device::cpu; }

// InputError with that sentence if device is gpu and there is none.
void require_device(Device device);

}  // namespace flashladder::api
