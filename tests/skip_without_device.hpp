// Included once by a test program that needs a GPU: without one the program is skipped, and visibly. Meson reads exit code
// 77 as a skip; the reason is the last line that it prints.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "gpu/device.hpp"
#include "tests/listener.hpp"

namespace {

struct SkipWithoutDevice : flashladder::test::Listener {
  using Listener::Listener;
  void test_run_start() override {
    if (flashladder::gpu::why_no_device().empty()) return;
    std::puts(flashladder::gpu::why_no_device().c_str());
    std::exit(77);
  }
};
REGISTER_LISTENER("skip without device", 2, SkipWithoutDevice);

}  // namespace
