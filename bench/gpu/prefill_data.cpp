#include "bench/gpu/prefill_data.hpp"

#include <algorithm>
#include <cmath>

#include "bench/gpu/paged_pool.hpp"
#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "gpu/check.hpp"
#include "ladder/cases/drawn/draw_parts.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::bench {
namespace {

using gpu::DeviceBuffer;

double share_of(const Nearest& n) { return n.tolerance > 0 ? n.error / n.tolerance : 0; }

DeviceBuffer random_elements(DType dtype, std::int64_t count, std::uint64_t seed) {
  const std::vector<std::uint16_t> host = draw_elements(dtype, count, seed);
  const std::size_t bytes = static_cast<std::size_t>(count) * 2, block = host.size() * 2;
  DeviceBuffer buffer(bytes);
  for (std::size_t at = 0; at < bytes; at += block) {
    buffer.upload(host.data(), std::min(block, bytes - at), at);
  }
  return buffer;
}

// The pages of every request: all of a pool, shuffled, of which the first `shared` begin every list.
std::vector<std::int32_t> page_lists(const std::vector<std::int32_t>& indptr, std::int32_t shared) {
  const auto batch = static_cast<std::int32_t>(indptr.size()) - 1;
  const std::vector<std::int32_t> pool = shuffled_pages(indptr.back() - shared * (batch - 1));
  std::vector<std::int32_t> ids;
  auto next = pool.begin() + shared;
  for (std::int32_t b = 0; b < batch; ++b) {
    ids.insert(ids.end(), pool.begin(), pool.begin() + shared);
    const auto own = next;
    next += indptr[static_cast<std::size_t>(b) + 1] - indptr[static_cast<std::size_t>(b)] - shared;
    ids.insert(ids.end(), own, next);
  }
  return ids;
}

DeviceBuffer on_device(const std::vector<std::int32_t>& host) {
  return {host.data(), host.size() * sizeof(std::int32_t)};
}

std::vector<std::uint16_t> on_host(const DeviceBuffer& buffer) {
  std::vector<std::uint16_t> host(buffer.size() / 2);
  buffer.download(host.data());
  return host;
}

}  // namespace

PrefillData::PrefillData(const ladder::CaseSpec& spec, std::int32_t shared_pages)
    : spec_(spec), ragged_(spec.page_size == 0) {
  if (ragged_) spec_.page_size = 1;
  const AttentionParams& p = spec_.params;
  for (std::int32_t b = 0; b < spec_.batch(); ++b) {
    qo_indptr_.push_back(qo_indptr_.back() + spec_.qo_lens[b]);
    kv_indptr_.push_back(kv_indptr_.back() + pages_for(spec_.kv_lens[b], spec_.page_size));
    last_page_len_.push_back(last_page_len_for(spec_.kv_lens[b], spec_.page_size));
  }
  host_ids_ = page_lists(kv_indptr_, shared_pages);
  pages_ = kv_indptr_.back() - std::int64_t{shared_pages} * (spec_.batch() - 1);
  const std::int64_t tokens = pages_ * spec_.page_size, rows = spec_.nnz_qo();
  q_ = random_elements(spec_.dtype, rows * p.num_qo_heads * p.head_dim_qk, q_seed);
  k_ = random_elements(spec_.dtype, tokens * p.num_kv_heads * p.head_dim_qk, k_seed);
  v_ = random_elements(spec_.dtype, tokens * p.num_kv_heads * p.head_dim_vo, v_seed);
  o_ = DeviceBuffer(static_cast<std::size_t>(rows * p.num_qo_heads * p.head_dim_vo) * 2, DeviceBuffer::guard_band);
  lse_log2_ = DeviceBuffer(static_cast<std::size_t>(rows * p.num_qo_heads) * sizeof(float), DeviceBuffer::guard_band);
  ids_ = on_device(host_ids_);
  device_qo_indptr_ = on_device(qo_indptr_), device_kv_indptr_ = on_device(kv_indptr_);
  device_last_page_len_ = on_device(last_page_len_);
  if (p.sinks) host_sinks_ = draw_sinks(p.num_qo_heads);
  if (p.mask == MaskMode::custom) host_mask_ = ladder::draw_mask(spec_);
  sinks_ = {host_sinks_.data(), host_sinks_.size() * sizeof(float)};
  mask_ = {host_mask_.data(), host_mask_.size()};
  for (std::int64_t b = 0, begin = 0; b < spec_.batch(); ++b) {
    mask_begin_.push_back(begin);
    begin += std::int64_t{spec_.qo_lens[b]} * spec_.kv_lens[b];
  }
}

Tensor PrefillData::q() const {
  return contiguous(q_.data(), spec_.dtype, {spec_.nnz_qo(), spec_.params.num_qo_heads, spec_.params.head_dim_qk});
}

Tensor PrefillData::cache(const DeviceBuffer& buffer, std::int32_t dim) const {
  const std::int64_t heads = spec_.params.num_kv_heads;
  if (ragged_) return contiguous(buffer.data(), spec_.dtype, {pages_, heads, dim});
  return contiguous(buffer.data(), spec_.dtype, {pages_, spec_.page_size, heads, dim});
}

AttentionOutput PrefillData::output() const {
  const AttentionParams& p = spec_.params;
  return {.o = contiguous(o_.data(), spec_.dtype, {spec_.nnz_qo(), p.num_qo_heads, p.head_dim_vo}),
          .lse_log2 = {lse_log2_.as<float>(), static_cast<std::size_t>(spec_.nnz_qo() * p.num_qo_heads)}};
}

AttentionProblem PrefillData::problem() const {
  return {.params = spec_.params, .q = q(), .kv = paged_kv_cache(k(), v(), KvLayout::NHD),
          .qo_indptr = span_of(device_qo_indptr_), .paged_kv_indptr = span_of(device_kv_indptr_),
          .paged_kv_indices = page_ids(), .paged_kv_last_page_len = span_of(device_last_page_len_),
          .custom_mask = custom_mask(), .sinks = sinks()};
}

struct PrefillData::HostCopy {
  std::vector<std::uint16_t> q, k, v, o;
  std::vector<float> lse_log2;
};

// One row and head in double, from what the GPU read: "", or what is wrong with the GPU's. found: the errors of its
// features, rms as the sum of squares.
std::string PrefillData::check_row(const HostCopy& host, const SampledRow& sampled, Check& found) const {
  const AttentionParams& p = spec_.params;
  const auto [b, i, head] = sampled;
  const std::int32_t kv_len = spec_.kv_lens[b], kv_head = head / p.group_size();
  const std::uint8_t* mask = host_mask_.empty() ? nullptr : host_mask_.data() + mask_begin_[static_cast<std::size_t>(b)];
  const ScoreTransform<double> score(p, head);
  const std::int64_t row = (std::int64_t{qo_indptr_[b]} + i) * p.num_qo_heads + head;
  const PageTable table{.indptr = kv_indptr_.data(), .indices = ragged_ ? nullptr : host_ids_.data(),
                        .last_page_len = last_page_len_.data(), .page_size = spec_.page_size,
                        .num_requests = spec_.batch()};
  const auto token = [&](std::int32_t j) {
    const KvSlot slot = table.locate(b, j);
    return (slot.page * spec_.page_size + slot.entry) * p.num_kv_heads + kv_head;
  };
  const auto at = [&](const std::vector<std::uint16_t>& from, std::int64_t index) {
    return value_of(spec_.dtype, from[static_cast<std::size_t>(index)]);
  };
  std::vector<double> logits;  // log2 units
  std::vector<std::int32_t> keys;
  SoftmaxState<double> state;
  const Range hull = visible_keys(p, spec_.qo_lens[b], kv_len, i);
  for (std::int32_t j = hull.begin; j < hull.end; ++j) {
    if (!visible(p, spec_.qo_lens[b], kv_len, i, j, mask)) continue;
    double dot = 0;
    const std::int64_t query = row * p.head_dim_qk, key = token(j) * p.head_dim_qk;
    for (int d = 0; d < p.head_dim_qk; ++d) dot += at(host.q, query + d) * at(host.k, key + d);
    logits.push_back(score(dot, i, j)), keys.push_back(j);
    merge(state, SoftmaxState<double>{logits.back(), 1});
  }
  if (p.sinks) merge(state, SoftmaxState<double>::from_sink(host_sinks_[static_cast<std::size_t>(head)]));
  std::vector<double> o(static_cast<std::size_t>(p.head_dim_vo)), weight(o.size());  // weight: sum of p |v|
  for (std::size_t j = 0; j < logits.size(); ++j) {
    const double share = std::exp2(logits[j] - state.m) * state.inverse_d();
    for (int d = 0; d < p.head_dim_vo; ++d) {
      const double x = share * at(host.v, token(keys[j]) * p.head_dim_vo + d);
      o[static_cast<std::size_t>(d)] += x, weight[static_cast<std::size_t>(d)] += std::abs(x);
    }
  }
  // Half a unit of the dtype for every p, once more for o; float's roundings beside them: scores of up to 8, 64 tiles.
  const double unit = spec_.dtype == DType::f16 ? 0x1p-11 : 0x1p-8, rest = 0x1p-16;
  for (int d = 0; d < p.head_dim_vo; ++d) {
    const auto x = static_cast<std::size_t>(d);
    const double got = at(host.o, row * p.head_dim_vo + d), off = std::abs(got - o[x]);
    const double tolerance = (unit + rest) * weight[x] + unit * std::abs(o[x]) + 1e-7;
    if (!(off <= tolerance)) {
      return "o: request " + std::to_string(b) + " query " + std::to_string(i) + " head " + std::to_string(head) +
             " feature " + std::to_string(d) + ": got " + std::to_string(got) + ", want " + std::to_string(o[x]);
    }
    found.error.max = std::max(found.error.max, off);
    found.error.rms += off * off;
    if (off / tolerance >= share_of(found.nearest)) found.nearest = {off, tolerance};
  }
  const double lse_log2 = state.lse_log2(), got = host.lse_log2[static_cast<std::size_t>(row)];
  if (got == lse_log2 || std::abs(got - lse_log2) <= 1e-4 + std::abs(lse_log2) * 0x1p-22) return "";
  return "lse_log2: " + std::to_string(got) + ", want " + std::to_string(lse_log2);
}

PrefillData::Check PrefillData::check(const GpuTimer& timer, const Launch& launch) {
  o_.poison();
  lse_log2_.poison();
  gpu::check(cudaDeviceSynchronize());  // the poison lies there before another stream writes
  launch(timer.stream());
  timer.synchronise();
  if (!o_.guards_intact() || !lse_log2_.guards_intact()) return {"wrote outside of its output", {}};
  HostCopy host{on_host(q_), on_host(k_), on_host(v_), on_host(o_), std::vector<float>(lse_log2_.size() / sizeof(float))};
  lse_log2_.download(host.lse_log2.data());
  for (const float x : host.lse_log2) {
    if (std::isnan(x)) return {"lse_log2 of some row is NaN", {}};
  }
  std::vector<std::string> wrong(compared_rows);
  std::vector<Check> rows(compared_rows);
  reference::ThreadPool pool(reference::ThreadPool::hardware_threads());
  pool.claim(compared_rows, pool.size(), [&](std::int32_t n, int) {
    const auto at = static_cast<std::size_t>(n);
    wrong[at] = check_row(host, sampled_row(spec_, n), rows[at]);
  });
  Check result;
  for (std::size_t n = 0; n < wrong.size(); ++n) {
    if (!wrong[n].empty()) return {wrong[n], {}};
    result.error.max = std::max(result.error.max, rows[n].error.max);
    result.error.rms += rows[n].error.rms;
    if (share_of(rows[n].nearest) >= share_of(result.nearest)) result.nearest = rows[n].nearest;
  }
  result.error.rms = std::sqrt(result.error.rms / (double{compared_rows} * spec_.params.head_dim_vo));
  return result;
}

}  // namespace flashladder::bench
