// Programmatic dependent launch (sm_90 and newer; nothing before): a kernel launched with LaunchShape::programmatic may
// start while the kernel before it on the stream still runs. PTX ISA, "Parallel Synchronization and Communication
// Instructions: griddepcontrol".
#pragma once

namespace flashladder::gpu {

// Until the kernel before has ended and its writes are visible: before the first touch of anything that it reads or writes.
__device__ inline void griddepcontrol_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on the next kernel may start. It promises nothing about memory: that is what the other's wait is for.
__device__ inline void griddepcontrol_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace flashladder::gpu
