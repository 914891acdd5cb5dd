// A prefill case on the GPU: its tensors, and the comparison of what was computed with double, on a sample of rows and
// heads. Whole outputs of this size are too much for a reference on the host.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/gpu/timer.hpp"
#include "bench/measurement.hpp"
#include "bench/prefill_inputs.hpp"
#include "core/attention_problem.hpp"
#include "core/page_table.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/cases/case_spec.hpp"

namespace flashladder::bench {

inline constexpr const char* checked_rows = "160 rows and heads equal the double reference";
static_assert(compared_rows == 160);

class PrefillData {
 public:
  // page_size 0: contiguous, which becomes a ragged cache, page_size 1. shared_pages: so many first pages are one and the
  // same for all requests.
  explicit PrefillData(const ladder::CaseSpec& spec, std::int32_t shared_pages = 0);

  const ladder::CaseSpec& spec() const { return spec_; }
  bool ragged() const { return ragged_; }
  const std::vector<std::int32_t>& qo_indptr() const { return qo_indptr_; }
  const std::vector<std::int32_t>& kv_indptr() const { return kv_indptr_; }  // of pages
  const std::vector<std::int32_t>& last_page_len() const { return last_page_len_; }

  // On the device. k and v: [pages, page_size, num_kv_heads, head_dim], of a ragged cache [tokens, num_kv_heads, head_dim].
  Tensor q() const;
  Tensor k() const { return cache(k_, spec_.params.head_dim_qk); }
  Tensor v() const { return cache(v_, spec_.params.head_dim_vo); }
  const std::vector<std::int32_t>& host_page_ids() const { return host_ids_; }
  std::span<const std::int32_t> page_ids() const { return {ids_.as<std::int32_t>(), host_ids_.size()}; }
  std::span<const float> sinks() const { return {sinks_.as<float>(), host_sinks_.size()}; }
  std::span<const std::uint8_t> custom_mask() const { return {mask_.as<std::uint8_t>(), host_mask_.size()}; }
  AttentionOutput output() const;       // o of q's dtype
  AttentionProblem problem() const;     // all device pointers, as rungs take it; of pages only

  // Poisons the output, runs once, compares. failure: "", or what is wrong.
  struct Check {
    std::string failure;
    OutputError error;
    Nearest nearest = {};
  };
  Check check(const GpuTimer& timer, const Launch& launch);

 private:
  struct HostCopy;
  Tensor cache(const gpu::DeviceBuffer& buffer, std::int32_t dim) const;
  std::string check_row(const HostCopy& host, const SampledRow& at, Check& found) const;

  ladder::CaseSpec spec_;
  bool ragged_;
  std::int64_t pages_ = 0;  // of the pool
  std::vector<std::int32_t> qo_indptr_{0}, kv_indptr_{0}, last_page_len_, host_ids_;
  std::vector<float> host_sinks_;
  std::vector<std::uint8_t> host_mask_;
  std::vector<std::int64_t> mask_begin_;  // of each request
  gpu::DeviceBuffer sinks_, mask_, q_, k_, v_, o_, lse_log2_, ids_, device_qo_indptr_, device_kv_indptr_, device_last_page_len_;
};

}  // namespace flashladder::bench
