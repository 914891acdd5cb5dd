// No exception crosses the C interface: guarded() turns what a call throws into a status and this thread's message.
#pragma once

#include <exception>

#include "capi/flashladder.h"

namespace flashladder::capi {

// Keeps what the exception that is being handled says, and gives its status. Allocates nothing.
fl_status keep_error() noexcept;

template <class Call>
fl_status guarded(Call&& call) noexcept {
  try {
    call();
    return FL_OK;
  } catch (...) {
    return keep_error();
  }
}

}  // namespace flashladder::capi
