// Family mla: the cases that the peers are timed on, and skewed lengths.
#include <string>
#include <utility>

#include "bench/gpu_cases.hpp"
#include "bench/gpu_lengths.hpp"

namespace flashladder::bench {
namespace {

using ladder::CaseSpec;

// Causal where a request has several queries, as drafts are.
CaseSpec mla_case(std::string name, Lengths kv_lens, std::int32_t heads, std::int32_t qo_len = 1) {
  CaseSpec s;
  s.name = std::move(name) + " h" + std::to_string(heads);
  s.op = ladder::Op::mla;
  if (qo_len > 1) s.name += " q" + std::to_string(qo_len);
  s.qo_lens = uniform(static_cast<std::int32_t>(kv_lens.size()), qo_len);
  s.kv_lens = std::move(kv_lens);
  s.page_size = 64;
  s.dtype = DType::f16;
  s.combined_cache = false;
  s.params = MlaParams{.num_heads = heads, .sm_scale = default_sm_scale(192),
                       .mask = qo_len > 1 ? MaskMode::causal : MaskMode::none}.attention();
  return s;
}

}  // namespace

std::vector<CaseSpec> mla_cases() {
  return {mla_case("B128 kv4096", uniform(128, 4096), 16),  mla_case("B128 kv4096", uniform(128, 4096), 64),
          mla_case("B128 kv4096", uniform(128, 4096), 128), mla_case("B16 kv8192", uniform(16, 8192), 128),
          mla_case("B64 lognormal", lognormal64, 16),       mla_case("B64 lognormal", lognormal64, 64),
          mla_case("B1 kv8192", uniform(1, 8192), 128),     mla_case("B1 kv16384", uniform(1, 16384), 16),
          mla_case("B32 kv8192", uniform(32, 8192), 16, 4)};
}

double mla_bytes(const CaseSpec& s) {
  return static_cast<double>(s.total_kv()) * s.params.head_dim_qk * static_cast<double>(size_of(s.dtype));
}
double mla_flops(const CaseSpec& s) {
  return 2.0 * (s.params.head_dim_qk + s.params.head_dim_vo) * s.params.num_qo_heads * static_cast<double>(s.visible_pairs());
}

}  // namespace flashladder::bench
