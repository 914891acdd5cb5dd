#include "api/placement.hpp"

#include "core/error.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/device.hpp"
#endif

namespace flashladder::api {

const std::string& why_no_gpu() {
#ifdef FLASHLADDER_CUDA
  return gpu::why_no_device();
#else
  static const std::string reason = "this build has no GPU code: " FLASHLADDER_WITHOUT_CUDA;
  return reason;
#endif
}

void require_device(Device device) {
  require(device <= Device::gpu, "device", static_cast<int>(device), "must be cpu or gpu");
  if (device == Device::gpu) require(why_no_gpu().empty(), "device", "gpu", why_no_gpu().c_str());
}

}  // namespace flashladder::api
