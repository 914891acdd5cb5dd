// A custom mask as bits, on the GPU: the bits of the same mask as bytes, on every kernel. Graphs: api_gpu_prefill_graph.cpp.
#include <doctest/doctest.h>

#include <vector>

#include "gpu/device.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "tests/api_gpu_prefill.hpp"
#include "tests/packed_mask.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

bool bits_give_what_bytes_give(const Case& c, Backend backend) {
  AttentionConfig config = config_of(c.spec, Device::gpu, DType::f32);
  config.execution.backend = backend;
  const std::vector<std::uint8_t> bits = packed_mask(c.custom_mask, c.spec.qo_lens, c.spec.kv_lens);
  return prefill_on_gpu(c, config, &bits) == prefill_on_gpu(c, config);
}

}  // namespace

TEST_CASE("bits of a custom mask give the bits of its bytes on every kernel") {
  std::vector<Backend> backends{Backend::automatic, Backend::fa2};
  if (gpu::why_no_hopper().empty()) backends.push_back(Backend::fa3);
  for (const CaseSpec& spec : case_table()) {
    if (spec.params.mask != MaskMode::custom) continue;
    INFO("case: ", spec.name);
    CaseSpec narrow = spec;
    narrow.dtype = DType::f16;
    const Case c = draw_case(narrow);
    for (const Backend backend : backends) CHECK(bits_give_what_bytes_give(c, backend));
    CHECK(bits_give_what_bytes_give(draw_case(spec), Backend::automatic));  // in f32: P1
  }
}
