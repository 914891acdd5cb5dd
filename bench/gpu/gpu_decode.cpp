// Times the GPU decode rungs: gpu_decode OUT.jsonl DRIVER COMMIT DATE   writes the measurement lines of docs/case_format.md.
//
// Every time is the median of events around one run with a cold L2 (256 MB are read before each), on random data in shuffled
// pages, and every rung is checked against C4 and the oracle on those very data first: what is timed has been checked.
// TB/s counts the bytes that have to move: q, K and V of the actual lengths, o. The ceilings (a copy, a read) are this
// run's.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/device.hpp"
#include "gpu/device_buffer.hpp"
#include "gpu/device_problem.hpp"
#include "gpu/stopwatch.hpp"
#include "gpu/traffic.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/draw_case.hpp"
#include "ladder/gpu_adapters.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using gpu::DeviceBuffer;

namespace {

// docs/measurements/README.md: 64 lengths drawn once, log-normal with median about 1k. The same that the peers were timed
// on.
const std::vector<std::int32_t> lognormal64{2185, 974,  4915, 3714, 640,  4830, 332,  753,  457,  310,  5417, 1465, 279,
                                            5487, 5347, 9251, 342,  1021, 251,  3079, 197,  3988, 603,  1080, 1071, 969,
                                            745,  1310, 3679, 2825, 1893, 1367, 317,  4156, 1259, 1206, 1012, 608,  1246,
                                            1576, 175,  31,   1511, 2120, 97,   683,  199,  358,  2357, 466,  175,  798,
                                            1020, 3596, 60,   76,   2375, 3920, 171,  570,  336,  243,  46,   2518};

class Flush {
 public:
  Flush() : bytes_(std::size_t{256} << 20), sink_(16) { bytes_.poison(); }
  void operator()() const { gpu::read_all(bytes_.data(), bytes_.size(), sink_.as<float>(), nullptr); }

 private:
  DeviceBuffer bytes_, sink_;
};

template <class Run, class Before>
double median_us(const Run& run, const Before& before, int repeats = 41) {
  gpu::Stopwatch watch;
  std::vector<double> times;
  for (int i = 0; i < repeats + 5; ++i) {  // five to warm up
    before();
    watch.start(nullptr);
    run();
    const double us = watch.stop_ms(nullptr) * 1000;
    if (i >= 5) times.push_back(us);
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

struct Lines {
  std::FILE* file;

  void add(const char* family, const std::string& name, const std::string& backend, double us, double bytes, int run) const {
    std::fprintf(file,
                 "{\"family\": \"%s\", \"case\": \"%s\", \"backend\": \"%s\", \"us\": %.2f, \"TBps\": %.3f, \"run\": %d}\n",
                 family, name.c_str(), backend.c_str(), us, bytes / us * 1e-6, run);
  }
};

CaseSpec decode(std::string name, std::vector<std::int32_t> kv_lens, std::int32_t qo_heads, std::int32_t kv_heads) {
  CaseSpec spec{
      .name = std::move(name), .qo_lens = std::vector<std::int32_t>(kv_lens.size(), 1), .kv_lens = std::move(kv_lens)};
  spec.params = {.num_qo_heads = qo_heads, .num_kv_heads = kv_heads, .head_dim_qk = 128, .head_dim_vo = 128,
                 .sm_scale = default_sm_scale(128)};
  spec.dtype = DType::f16;
  return spec;
}

double compulsory_bytes(const CaseSpec& s) {
  const double kv = 2.0 * static_cast<double>(s.total_kv()) * s.params.num_kv_heads,
               rows = 1.0 * s.batch() * s.params.num_qo_heads;
  return kv * 128 * 2 + rows * 128 * (2 + 4);  // q in f16, o in f32
}

// The same bytes, read in order by a kernel that does nothing else, after the same flush: the floor of this case, on this
// GPU.
void time_floor(const CaseSpec& spec, const Flush& flush, const Lines& lines, int run) {
  const auto bytes = static_cast<std::size_t>(compulsory_bytes(spec)) / 16 * 16;
  DeviceBuffer data(bytes), sink(16);
  data.poison();
  const double us = median_us([&] { gpu::read_all(data.data(), bytes, sink.as<float>(), nullptr); }, flush);
  lines.add("read", spec.name, "flashladder read_all", us, static_cast<double>(bytes), run);
  std::printf("%-24s %-26s %8.2f us %6.3f TB/s\n", spec.name.c_str(), "read_all, same bytes", us,
              static_cast<double>(bytes) / us * 1e-6);
}

struct Checked {
  Case c;
  Oracle exact, rounded;  // tolerance for a P in f32, in f16
  RunResult below;
};

// "" for the default plan, which a rung without a plan has too.
std::string plan_name(const Settings& settings) {
  if (settings.policy == planner::SplitPolicy::balanced) return "";
  const bool fixed = settings.policy == planner::SplitPolicy::fixed;
  return std::string(" ") + name_of(settings.policy) + (fixed ? " " + std::to_string(settings.chunk_size) : "");
}

void time_rung(const Rung& rung, const Settings& settings, const Checked& checked, double copy_tbps, const Flush& flush,
               const Lines& lines, int run) {
  const CaseSpec& spec = checked.c.spec;
  const Comparison comparison = agree(checked.c, run_rung(rung, checked.c, settings), &checked.below,
                                      rung.p_rounding(spec) == DType::f32 ? checked.exact : checked.rounded);
  const gpu::DeviceProblem problem(checked.c.problem());
  DeviceBuffer o(static_cast<std::size_t>(spec.nnz_qo()) * spec.params.num_qo_heads * 128 * sizeof(float));
  DeviceBuffer lse(static_cast<std::size_t>(spec.nnz_qo()) * spec.params.num_qo_heads * sizeof(float));
  const DeviceBuffer workspace(rung.workspace_bytes(spec, settings));
  const AttentionOutput output{.o = contiguous(o.data(), DType::f32, {spec.nnz_qo(), spec.params.num_qo_heads, 128}),
                               .lse_log2 = {lse.as<float>(), lse.size() / sizeof(float)}};
  const Runner runner = rung.prepare({problem.view(), output, {workspace.data(), workspace.size()}}, spec, settings);
  const double us = median_us([&] { runner(nullptr); }, flush), tbps = compulsory_bytes(spec) / us * 1e-6;
  const std::string backend = "flashladder " + rung.name + plan_name(settings);
  std::printf("%-24s %-26s %8.2f us %6.3f TB/s %5.1f %% of the copy  %s\n", spec.name.c_str(), backend.c_str() + 12, us,
              tbps, 100 * tbps / copy_tbps, comparison.ok() ? "equal" : comparison.message().c_str());
  if (comparison.ok()) lines.add("decode", spec.name, backend, us, compulsory_bytes(spec), run);
}

double time_copy(const Lines& lines, int run) {
  const std::size_t bytes = std::size_t{4} << 30;
  DeviceBuffer from(bytes), to(bytes), sink(16);
  from.poison();
  const double copy =
      median_us([&] { gpu::check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice)); }, [] {}, 11);
  const double read = median_us([&] { gpu::read_all(from.data(), bytes, sink.as<float>(), nullptr); }, [] {}, 11);
  lines.add("copy", "copy 4 GiB", "cudaMemcpy", copy, 2.0 * static_cast<double>(bytes), run);
  lines.add("read", "read 4 GiB", "flashladder read_all", read, static_cast<double>(bytes), run);
  std::printf("copy 4 GiB %.3f TB/s, read 4 GiB %.3f TB/s\n", 2e-6 * static_cast<double>(bytes) / copy,
              1e-6 * static_cast<double>(bytes) / read);
  return 2e-6 * static_cast<double>(bytes) / copy;
}

void header(std::FILE* file, const char* driver, const char* commit, const char* date) {
  cudaDeviceProp device{};
  int runtime = 0, khz = 0;
  gpu::check(cudaGetDeviceProperties(&device, 0));
  gpu::check(cudaRuntimeGetVersion(&runtime));
  gpu::check(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0));
  std::fprintf(
      file,
      "{\"gpu\": \"%s\", \"driver\": \"%s\", \"cuda\": \"%d.%d\", \"sm_mhz\": %d, \"date\": \"%s\", \"commit\": \"%s\", "
      "\"note\": \"L2 flushed by reading 256 MB; events; median of 41; f16 random data, shuffled pages; each line checked "
      "against C4 and the oracle in this run\"}\n",
      device.name, driver, runtime / 1000, runtime % 1000 / 10, khz / 1000, date, commit);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 5) return std::puts("usage: gpu_decode OUT.jsonl DRIVER COMMIT DATE"), 2;
  if (!gpu::why_no_device().empty()) return std::puts(gpu::why_no_device().c_str()), 77;
  const Lines lines{std::fopen(argv[1], "w")};
  if (lines.file == nullptr) return std::perror(argv[1]), 1;
  header(lines.file, argv[2], argv[3], argv[4]);
  using planner::SplitPolicy;
  const std::vector<Settings> plans{{}, {.policy = SplitPolicy::count}, {.policy = SplitPolicy::fixed, .chunk_size = 512},
                                    {.policy = SplitPolicy::fixed, .chunk_size = 1024}};
  const double copy_tbps = time_copy(lines, 1);
  const Flush flush;
  for (const CaseSpec& spec :
       {decode("B32 kv2048 32/8 p16", std::vector<std::int32_t>(32, 2048), 32, 8),
        decode("B64 lognormal 32/8 p16", lognormal64, 32, 8), decode("B1 kv8192 32/8 p16", {8192}, 32, 8),
        decode("B32 kv2048 64/8 p16", std::vector<std::int32_t>(32, 2048), 64, 8),
        decode("B32 kv2048 32/32 p16", std::vector<std::int32_t>(32, 2048), 32, 32)}) {
    Case c = draw_case(spec);
    Oracle exact = make_oracle(c), rounded = make_oracle(c, spec.dtype);
    RunResult below = run_rung(rung("C4"), c);
    const Checked checked{std::move(c), std::move(exact), std::move(rounded), std::move(below)};
    for (int run = 1; run <= 2; ++run) {
      time_floor(spec, flush, lines, run);
      for (const Rung& rung : rungs()) {
        if (rung.device != Device::gpu) continue;
        const bool planned = rung.workspace_bytes(spec, {.policy = SplitPolicy::fixed, .chunk_size = 256}) > 0;
        for (const Settings& settings : planned ? plans : std::vector<Settings>{{}}) {
          time_rung(rung, settings, checked, copy_tbps, flush, lines, run);
        }
      }
    }
  }
  return std::fclose(lines.file);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
