#include "bench/gpu_bench.hpp"

#include <algorithm>
#include <fstream>
#include <regex>

#include "bench/gpu/families.hpp"
#include "bench/roofline.hpp"
#include "gpu/check.hpp"
#include "gpu/device.hpp"

namespace flashladder::bench {
namespace {

constexpr std::size_t ceiling_bytes = std::size_t{4} << 30;

// The kernel module's version; failing that, the newest CUDA that it can serve.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::smatch version;
  if (std::getline(file, line) && std::regex_search(line, version, std::regex(R"(\d+\.\d+(\.\d+)?)"))) return version.str();
  int cuda = 0;
  gpu::check(cudaDriverGetVersion(&cuda));
  return "for CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
}

int attribute(cudaDeviceAttr which) {
  int value = 0, device = 0;
  gpu::check(cudaGetDevice(&device));
  gpu::check(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

void append(std::vector<TimedWork>& works, std::vector<TimedWork> more) {
  works.insert(works.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

std::string why_no_gpu() { return gpu::why_no_device(); }

GpuMachine gpu_machine() {
  cudaDeviceProp device{};
  int runtime = 0, id = 0;
  gpu::check(cudaGetDevice(&id));
  gpu::check(cudaGetDeviceProperties(&device, id));
  gpu::check(cudaRuntimeGetVersion(&runtime));
  const double both_edges = 2, memory_hz = 1e3 * attribute(cudaDevAttrMemoryClockRate);
  const double by_clock = both_edges * memory_hz * attribute(cudaDevAttrGlobalMemoryBusWidth) / 8 * 1e-12;
  const int sm_mhz = attribute(cudaDevAttrClockRate) / 1000;
  const Machine host = this_machine();
  return {.gpu = device.name, .driver = driver_version(),
          .cuda = std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10),
          .sm_mhz = sm_mhz,
          .peak_tera_bytes_per_s = peak_tera_bytes_per_s(device.name, by_clock),
          .peak_tera_flops = peak_tera_flops(device.name),
          .computed_tera_flops = computed_tera_flops(device.major * 10 + device.minor, device.multiProcessorCount, sm_mhz),
          .date = host.date, .commit = host.commit,
          .note = "L2 flushed by reading 256 MB; events, or a graph in family graph and host time in family plan; random "
                  "data, shuffled pages; each line checked in this run"};
}

std::shared_ptr<GpuTimer> gpu_timer() { return std::make_shared<GpuTimer>(); }

std::vector<Measurement> time_ceilings(const GpuTimer& timer) {
  const double copy = timer.copy_us(2 * ceiling_bytes), read = timer.read_us(ceiling_bytes);
  return {{.family = "copy", .work = "copy 4 GiB", .backend = "cudaMemcpy", .us = copy,
           .tera_bytes_per_s = 2e-6 * static_cast<double>(ceiling_bytes) / copy},
          {.family = "read", .work = "read 4 GiB", .backend = "flashladder read_all", .us = read,
           .tera_bytes_per_s = 1e-6 * static_cast<double>(ceiling_bytes) / read}};
}

Measurement time_floor(const GpuTimer& timer, const TimedWork& work) {
  const auto bytes = static_cast<std::size_t>(work.bytes);
  const bool copy = work.floor == Floor::copy;
  const Rotation rotation = rotation_for(work.bytes);
  const double us = copy                                   ? timer.copy_us(bytes)
                    : work.floor == Floor::read_in_graph ? timer.graph_read_us(bytes, rotation.caches, rotation.turns)
                                                         : timer.read_us(bytes);
  return {.family = copy ? "copy" : "read", .work = work.line.work,
          .backend = copy ? "cudaMemcpy" : "flashladder read_all", .us = us, .tera_bytes_per_s = 1e-6 * work.bytes / us};
}

std::vector<TimedWork> prepare(Family family, const GpuWorkOptions& options, const std::shared_ptr<GpuTimer>& timer,
                               const std::function<void(const std::string&)>& say) {
  switch (family) {
    case Family::decode: return decode_works(options, timer, say);
    case Family::prefill: return prefill_works(options, timer, say);
    case Family::prefill_ladder: return prefill_ladder_works(options, timer, say);
    case Family::append: return append_works(timer, say);
    case Family::norm: return norm_works(false, timer, say);
    case Family::rope: return rope_works(false, timer, say);
    case Family::plan: return plan_works(options, timer, say);
    case Family::cascade: return cascade_works(timer, say);
    case Family::mla: return mla_works(options, timer, say);
    case Family::lengths: return lengths_works(timer, say);
    case Family::graph: break;
  }
  std::vector<TimedWork> works = decode_graph_works(options, timer, say);
  if (options.specs.empty()) {
    append(works, norm_works(true, timer, say));
    append(works, rope_works(true, timer, say));
    append(works, chain_works(timer, say));
  }
  return works;
}

}  // namespace flashladder::bench
