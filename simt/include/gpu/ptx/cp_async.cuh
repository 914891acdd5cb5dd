// gpu/ptx/cp_async.cuh on a simulated GPU: a thread's copies happen when they are asked for, or when it waits for them.
#pragma once

#include "simt/copies.hpp"

namespace flashladder::gpu {

inline void cp_async_16(void* shared, const void* global, bool full) { simt::copy_16(shared, full ? global : nullptr); }
inline void cp_async_commit() { simt::commit_copies(); }
template <int pending>
inline void cp_async_wait() {
  simt::wait_for_copies(pending);
}

}  // namespace flashladder::gpu
