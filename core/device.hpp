// On which side of the bus a call runs and its buffers lie.
#pragma once

#include <cstdint>

namespace flashladder {

enum class Device : std::uint8_t { cpu, gpu };
constexpr const char* name_of(Device d) { return d == Device::cpu ? "cpu" : "gpu"; }

}  // namespace flashladder
