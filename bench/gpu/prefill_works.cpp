// Family prefill: the public prefill classes, paged and ragged, as their users call them: plan() once, then run().
//
// Whole outputs of this size are too much for a reference on the host. What is compared is a sample of rows and heads, in
// double, from the very numbers that the GPU read.
#include <algorithm>
#include <bit>
#include <cmath>
#include <variant>

#include "api/batch_prefill.hpp"
#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/families.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "gpu/check.hpp"
#include "gpu/device.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::bench {
namespace {

using gpu::DeviceBuffer;
using ladder::CaseSpec;
using Prefill = std::variant<api::BatchPrefillWithPagedKVCache, api::BatchPrefillWithRaggedKVCache>;

double value_of(DType dtype, std::uint16_t bits) {
  if (dtype == DType::bf16) return std::bit_cast<float>(std::uint32_t{bits} << 16);
  Half half;
  half.bits = bits;
  return static_cast<float>(half);
}

std::uint16_t bits_of(DType dtype, float x) { return dtype == DType::f16 ? Half(x).bits : BFloat16(x).bits; }

// `count` numbers, nearly N(0, 1); from 3 * 2^20 on they repeat.
DeviceBuffer random_elements(DType dtype, std::int64_t count, std::uint64_t seed) {
  constexpr std::int64_t drawn = std::int64_t{3} << 20;
  ladder::Random random(seed);
  std::vector<std::uint16_t> host(static_cast<std::size_t>(std::min(count, drawn)));
  for (std::uint16_t& x : host) x = bits_of(dtype, static_cast<float>(random.normal()));
  const std::size_t bytes = static_cast<std::size_t>(count) * 2, block = host.size() * 2;
  DeviceBuffer buffer(bytes);
  for (std::size_t at = 0; at < bytes; at += block) {
    gpu::check(cudaMemcpy(buffer.data() + at, host.data(), std::min(block, bytes - at), cudaMemcpyHostToDevice));
  }
  return buffer;
}

std::vector<std::uint16_t> on_host(const DeviceBuffer& buffer) {
  std::vector<std::uint16_t> host(buffer.size() / 2);
  buffer.download(host.data());
  return host;
}

struct PrefillRun {
  CaseSpec spec;  // of a contiguous case: page_size 1
  bool ragged;
  std::vector<std::int32_t> qo_indptr{0}, kv_indptr{0}, last_page_len, page_ids;
  DeviceBuffer q, k, v, o, lse_log2, ids, workspace;
  std::unique_ptr<Pinned> staging;
  std::unique_ptr<Prefill> prefill;

  PrefillRun(const CaseSpec& spec_, api::Backend backend) : spec(spec_), ragged(spec_.page_size == 0) {
    if (ragged) spec.page_size = 1;
    const AttentionParams& p = spec.params;
    for (std::int32_t b = 0; b < spec.batch(); ++b) {
      qo_indptr.push_back(qo_indptr.back() + spec.qo_lens[b]);
      kv_indptr.push_back(kv_indptr.back() + pages_for(spec.kv_lens[b], spec.page_size));
      last_page_len.push_back(last_page_len_for(spec.kv_lens[b], spec.page_size));
    }
    const std::int64_t pages = kv_indptr.back(), tokens = pages * spec.page_size, rows = spec.nnz_qo();
    for (std::int32_t i = 0; i < pages; ++i) page_ids.push_back(i);
    ladder::Random random(7);
    for (auto i = static_cast<std::uint32_t>(pages); i > 1; --i) std::swap(page_ids[i - 1], page_ids[random.below(i)]);
    q = random_elements(spec.dtype, rows * p.num_qo_heads * p.head_dim_qk, 1);
    k = random_elements(spec.dtype, tokens * p.num_kv_heads * p.head_dim_qk, 2);
    v = random_elements(spec.dtype, tokens * p.num_kv_heads * p.head_dim_vo, 3);
    o = DeviceBuffer(static_cast<std::size_t>(rows * p.num_qo_heads * p.head_dim_vo) * 2, DeviceBuffer::guard_band);
    lse_log2 = DeviceBuffer(static_cast<std::size_t>(rows * p.num_qo_heads) * sizeof(float), DeviceBuffer::guard_band);
    ids = DeviceBuffer(page_ids.data(), page_ids.size() * sizeof(std::int32_t));
    api::AttentionConfig config = api::config_for(p, {.page_size = spec.page_size, .dtype = spec.dtype},
                                                  {.device = Device::gpu, .backend = backend});
    make(config);
  }

  void make(const api::AttentionConfig& config) {
    const api::WorkspaceBytes bytes =
        ragged ? api::BatchPrefillWithRaggedKVCache::workspace_bytes(config, qo_indptr, kv_indptr)
               : api::BatchPrefillWithPagedKVCache::workspace_bytes(config, qo_indptr, kv_indptr, last_page_len);
    workspace = DeviceBuffer(bytes.device);
    staging = std::make_unique<Pinned>(bytes.staging);
    const api::Workspace memory{{workspace.data(), workspace.size()}, staging->bytes};
    if (ragged) {
      prefill = std::make_unique<Prefill>(std::in_place_type<api::BatchPrefillWithRaggedKVCache>, config, memory);
    } else {
      prefill = std::make_unique<Prefill>(std::in_place_type<api::BatchPrefillWithPagedKVCache>, config, memory);
    }
  }

  void plan(void* stream) {
    if (ragged) return std::get<1>(*prefill).plan(qo_indptr, kv_indptr, stream);
    std::get<0>(*prefill).plan(qo_indptr, kv_indptr, last_page_len, stream);
  }

  void launch(void* stream) const {
    const AttentionParams& p = spec.params;
    const std::int64_t rows = spec.nnz_qo(), pages = kv_indptr.back();
    const Tensor q_view = contiguous(q.data(), spec.dtype, {rows, p.num_qo_heads, p.head_dim_qk});
    const AttentionOutput output{.o = contiguous(o.data(), spec.dtype, {rows, p.num_qo_heads, p.head_dim_vo}),
                                 .lse_log2 = {lse_log2.as<float>(), static_cast<std::size_t>(rows * p.num_qo_heads)}};
    if (ragged) {
      std::get<1>(*prefill).run(q_view, contiguous(k.data(), spec.dtype, {pages, p.num_kv_heads, p.head_dim_qk}),
                                contiguous(v.data(), spec.dtype, {pages, p.num_kv_heads, p.head_dim_vo}), output, stream);
      return;
    }
    const auto cache = [&](const DeviceBuffer& buffer, std::int32_t dim) {
      return contiguous(buffer.data(), spec.dtype, {pages, spec.page_size, p.num_kv_heads, dim});
    };
    std::get<0>(*prefill).run(q_view, paged_kv_cache(cache(k, p.head_dim_qk), cache(v, p.head_dim_vo), KvLayout::NHD),
                              {ids.as<std::int32_t>(), page_ids.size()}, output, stream);
  }

  std::string check(const GpuTimer& timer);
};

struct HostCopy {
  std::vector<std::uint16_t> q, k, v, o;
  std::vector<float> lse_log2;
};

// One row and head in double, from what the GPU read: "", or what is wrong with the GPU's.
std::string check_row(const PrefillRun& run, const HostCopy& host, std::int32_t b, std::int32_t i, std::int32_t head) {
  const CaseSpec& spec = run.spec;
  const AttentionParams& p = spec.params;
  const std::int32_t kv_len = spec.kv_lens[b], kv_head = head / p.group_size();
  const Range keys = visible_keys(p, spec.qo_lens[b], kv_len, i);
  const std::int64_t row = (std::int64_t{run.qo_indptr[b]} + i) * p.num_qo_heads + head;
  const PageTable table{.indptr = run.kv_indptr.data(), .indices = run.ragged ? nullptr : run.page_ids.data(),
                        .last_page_len = run.last_page_len.data(), .page_size = spec.page_size,
                        .num_requests = spec.batch()};
  const auto token = [&](std::int32_t j) {
    const KvSlot slot = table.locate(b, j);
    return (slot.page * spec.page_size + slot.entry) * p.num_kv_heads + kv_head;
  };
  const auto at = [&](const std::vector<std::uint16_t>& from, std::int64_t index) {
    return value_of(spec.dtype, from[static_cast<std::size_t>(index)]);
  };
  std::vector<double> logits;
  for (std::int32_t j = keys.begin; j < keys.end; ++j) {
    double dot = 0;
    const std::int64_t query = row * p.head_dim_qk, key = token(j) * p.head_dim_qk;
    for (int d = 0; d < p.head_dim_qk; ++d) dot += at(host.q, query + d) * at(host.k, key + d);
    const double logit = dot * p.sm_scale;
    logits.push_back(p.logits_soft_cap > 0 ? p.logits_soft_cap * std::tanh(logit / p.logits_soft_cap) : logit);
  }
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& x : logits) sum += x = std::exp(x - most);
  std::vector<double> o(static_cast<std::size_t>(p.head_dim_vo)), weight(o.size());  // weight: sum of p |v|
  for (std::size_t j = 0; j < logits.size(); ++j) {
    for (int d = 0; d < p.head_dim_vo; ++d) {
      const double x = logits[j] / sum * at(host.v, token(keys.begin + static_cast<std::int32_t>(j)) * p.head_dim_vo + d);
      o[static_cast<std::size_t>(d)] += x, weight[static_cast<std::size_t>(d)] += std::abs(x);
    }
  }
  // Half a unit of the dtype for every p, once more for o; float's roundings beside them: scores of up to 8, 64 tiles.
  const double unit = spec.dtype == DType::f16 ? 0x1p-11 : 0x1p-8, rest = 0x1p-16;
  for (int d = 0; d < p.head_dim_vo; ++d) {
    const auto x = static_cast<std::size_t>(d);
    const double got = at(host.o, row * p.head_dim_vo + d);
    const double tolerance = (unit + rest) * weight[x] + unit * std::abs(o[x]) + 1e-7;
    if (!(std::abs(got - o[x]) <= tolerance)) {
      return "o: request " + std::to_string(b) + " query " + std::to_string(i) + " head " + std::to_string(head) +
             " feature " + std::to_string(d) + ": got " + std::to_string(got) + ", want " + std::to_string(o[x]);
    }
  }
  const double lse_log2 = (most + std::log(sum)) * log2_e, got = host.lse_log2[static_cast<std::size_t>(row)];
  return std::abs(got - lse_log2) <= 1e-4 ? "" : "lse_log2: " + std::to_string(got) + ", want " + std::to_string(lse_log2);
}

constexpr int sampled = 160;  // rows and heads

std::string PrefillRun::check(const GpuTimer& timer) {
  o.poison();
  lse_log2.poison();
  launch(timer.stream());
  timer.synchronise();
  if (!o.guards_intact() || !lse_log2.guards_intact()) return "wrote outside of its output";
  HostCopy host{on_host(q), on_host(k), on_host(v), on_host(o), std::vector<float>(lse_log2.size() / sizeof(float))};
  lse_log2.download(host.lse_log2.data());
  for (const float x : host.lse_log2) {
    if (std::isnan(x)) return "lse_log2 of some row is NaN";
  }
  std::vector<std::string> wrong(sampled);
  reference::ThreadPool pool(reference::ThreadPool::hardware_threads());
  pool.claim(sampled, pool.size(), [&](std::int32_t n, int) {
    ladder::Random random(11, static_cast<std::uint64_t>(n));
    const auto below = [&](std::int32_t most) {
      return static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(most)));
    };
    const std::int32_t b = below(spec.batch()), queries = spec.qo_lens[b];
    const std::int32_t i = n % 8 == 0 ? 0 : n % 8 == 1 ? queries - 1 : below(queries);
    wrong[static_cast<std::size_t>(n)] = check_row(*this, host, b, i, below(spec.params.num_qo_heads));
  });
  for (const std::string& what : wrong) {
    if (!what.empty()) return what;
  }
  return "";
}

}  // namespace

std::vector<TimedWork> prefill_works(const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const PrefillCase& c : prefill_cases()) {
    std::vector<api::Backend> backends;
    if (gpu::why_no_hopper().empty()) backends.push_back(api::Backend::fa3);
    if (backends.empty() || c.fa2_too) backends.push_back(api::Backend::fa2);
    for (const api::Backend backend : backends) {
      say("checking " + c.spec.name);
      const auto run = std::make_shared<PrefillRun>(c.spec, backend);
      run->plan(timer->stream());
      works.push_back({.line = {.family = name_of(Family::prefill), .work = c.spec.name,
                                .backend = std::string("flashladder ") + api::name_of(backend)},
                       .bytes = c.bytes(), .flops = c.flops(),
                       .checked = std::to_string(sampled) + " rows and heads equal the double reference",
                       .failure = run->check(*timer), .time_us = [=] {
                         return timer->event_us([&](void* stream) { run->launch(stream); });
                       }});
    }
  }
  return works;
}

}  // namespace flashladder::bench
