// A custom mask as bits, on the GPU: the bits of the same mask as bytes, on every kernel. Graphs: api_gpu_prefill_graph.cpp.
#include <doctest/doctest.h>

#include <vector>

#include "api/attention_session.hpp"
#include "gpu/device.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "tests/api_gpu.hpp"
#include "tests/packed_mask.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

AttentionConfig config_for_gpu(const Case& c, Backend backend) {
  AttentionConfig config = config_of(c.spec, Device::gpu, DType::f32);
  config.execution.backend = backend;
  return config;
}

BatchLengths lengths_of(const Case& c) {
  return {.qo_indptr = c.qo_indptr, .paged_kv_indptr = c.paged_kv_indptr, .paged_kv_last_page_len = c.paged_kv_last_page_len};
}

std::vector<std::uint8_t> bits_of(const Case& c) { return packed_mask(c.custom_mask, c.spec.qo_lens, c.spec.kv_lens); }

// bits: of which the first lies at an odd address.
Result run(const Case& c, Backend backend, const std::vector<std::uint8_t>* bits) {
  const AttentionConfig config = config_for_gpu(c, backend);
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionProblem& view = on_device.view();
  AttentionSession session(config, {.decode = false});
  GpuWorkspace memory(session.bytes_for(lengths_of(c)));
  session.attach(memory.view());
  session.plan(lengths_of(c), {}, Device::cpu, nullptr);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  std::vector<std::uint8_t> moved{0xff};
  if (bits != nullptr) moved.insert(moved.end(), bits->begin(), bits->end());
  const gpu::DeviceBuffer on_bits(moved.data(), moved.size());
  AttentionArguments arguments{.q = view.q, .kv = view.kv, .page_ids = view.paged_kv_indices, .output = out.view(),
                               .sinks = view.sinks, .scales = view.scales};
  if (bits != nullptr) arguments.packed_custom_mask = {on_bits.as<std::uint8_t>() + 1, bits->size()};
  else arguments.custom_mask = view.custom_mask;
  session.run(arguments, nullptr);
  Result result = out.result(nullptr);
  CHECK(memory.guards_intact());
  return result;
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
    const Case c = draw_case(narrow), as_it_is = draw_case(spec);
    const std::vector<std::uint8_t> bits = bits_of(c);
    for (const Backend backend : backends) CHECK((run(c, backend, &bits) == run(c, backend, nullptr)));
    CHECK((run(as_it_is, Backend::automatic, &bits) == run(as_it_is, Backend::automatic, nullptr)));  // P1
  }
}
