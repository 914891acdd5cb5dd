// Is there a GPU that these kernels run on?
#pragma once

#include <string>

namespace flashladder::gpu {

// "" if the current device can run the kernels of this build; else one sentence: no device, no driver or one that is too
// old, or a GPU that the build has no code for. Asked once, then remembered.
const std::string& why_no_device();

// "" if the device is a Hopper GPU and the build has code for it (sm_90a). That code runs on no other architecture.
const std::string& why_no_hopper();

int multiprocessors();           // of the current device
bool has_programmatic_launch();  // compute capability 9.0 or newer (CUDA C++ Programming Guide)

// Of any launch (CUDA C++ Programming Guide, compute capabilities): blocks along y and along z, threads of a block along z.
constexpr int most_blocks_yz = 65535, most_threads_z = 64;

}  // namespace flashladder::gpu
