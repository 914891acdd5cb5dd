// A prefill on the GPU by a session of api/, of a case of the ladder.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "api/attention_session.hpp"
#include "gpu/device_problem.hpp"
#include "tests/api_gpu.hpp"

namespace flashladder::test {

inline api::BatchLengths lengths_of(const ladder::Case& c) {
  const AttentionProblem problem = c.problem();
  api::BatchLengths lengths{.qo_indptr = problem.qo_indptr};
  if (problem.has_block_table()) {
    lengths.block_table = api::BlockTableLengths{problem.seq_lens, problem.max_pages()};
  } else {
    lengths.paged_kv_indptr = problem.paged_kv_indptr;
    lengths.paged_kv_last_page_len = problem.paged_kv_last_page_len;
  }
  return lengths;
}

// packed_mask: bits in the place of the case's custom mask; on the GPU the first lies at an odd address.
inline Result prefill_on_gpu(const ladder::Case& c, const api::AttentionConfig& config,
                             const std::vector<std::uint8_t>* packed_mask = nullptr) {
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionProblem& view = on_device.view();
  api::AttentionSession session(config, {.decode = false});
  GpuWorkspace memory(session.bytes_for(lengths_of(c)));
  session.attach(memory.view());
  session.plan(lengths_of(c), {}, Device::cpu, nullptr);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  std::vector<std::uint8_t> moved{0xff};
  if (packed_mask != nullptr) moved.insert(moved.end(), packed_mask->begin(), packed_mask->end());
  const gpu::DeviceBuffer bits(moved.data(), moved.size());
  api::AttentionArguments arguments{
      .q = view.q, .kv = view.kv, .page_ids = view.has_block_table() ? view.block_tables : view.paged_kv_indices,
      .output = out.view(), .sinks = view.sinks, .scales = view.scales};
  if (packed_mask != nullptr) arguments.packed_custom_mask = {bits.as<std::uint8_t>() + 1, packed_mask->size()};
  else arguments.custom_mask = view.custom_mask;
  session.run(arguments, nullptr);
  Result result = out.result(nullptr);
  CHECK(memory.guards_intact());
  return result;
}

}  // namespace flashladder::test
