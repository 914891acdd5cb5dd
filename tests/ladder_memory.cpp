// The CPU rungs above C0 never hold the score matrix: their peak memory on a long request stays far below its size. C0,
// which holds it, is the control that shows the measurement would notice.
#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

// KiB that /proc/self/status gives for a key; 0 where there is no such file.
std::int64_t status_kib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == key + ":" && status >> kib) return kib;
  }
  return 0;
}

// MiB that a run takes at its peak above what the process held before.
double peak_growth_mib(const Rung& rung, const Case& c) {
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts again from what is held now
  const std::int64_t before = status_kib("VmRSS");
  run_rung(rung, c, {.threads = 2});
  return static_cast<double>(status_kib("VmHWM") - before) / 1024;
}

}  // namespace

TEST_CASE("only C0 holds the score matrix") {
  constexpr std::int32_t n = 4096;
  CaseSpec spec{.name = "long", .qo_lens = {n}, .kv_lens = {n}};
  spec.params = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 16, .head_dim_vo = 16, .sm_scale = 0.25f};
  const Case c = draw_case(spec);
  const double scores_mib = double{n} * n * sizeof(float) / (1 << 20);  // 64 MiB; C0's are double: twice that
  const double control = peak_growth_mib(rung("C0"), c);
  if (status_kib("VmHWM") == 0 || control < scores_mib) {
    MESSAGE("the peak can't be measured here: C0 seems to take only ", control, " MiB");
    return;
  }
  for (const Rung& rung : rungs()) {
    if (rung.device == Device::gpu || rung.name == "C0") continue;
    const double growth = peak_growth_mib(rung, c);
    CHECK_MESSAGE(growth < scores_mib / 4, rung.name, " took ", growth, " MiB at its peak; the score matrix is ",
                  scores_mib);
  }
}
