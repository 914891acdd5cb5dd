// Chapter 17's batch: requests that share a prefix, as one flat batch and as two levels, and attention over either by the
// library's classes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "api/batch_prefill.hpp"
#include "api/multi_level_cascade.hpp"
#include "core/softmax_state.hpp"
#include "walkthroughs/toy.hpp"

namespace flashladder::walkthroughs {

// One level, or a flat batch: which rows stand together, and in which pages their keys lie.
struct LevelOfPages {
  std::vector<std::int32_t> qo_indptr{0}, paged_kv_indptr{0}, paged_kv_indices, paged_kv_last_page_len;

  void add(std::int32_t rows, std::span<const std::int32_t> pages, std::int32_t last_page_len) {
    qo_indptr.push_back(qo_indptr.back() + rows);
    paged_kv_indices.insert(paged_kv_indices.end(), pages.begin(), pages.end());
    paged_kv_indptr.push_back(static_cast<std::int32_t>(paged_kv_indices.size()));
    paged_kv_last_page_len.push_back(pages.empty() ? 0 : last_page_len);
  }
};

// A state of every row: [rows, head_dim] and [rows].
struct States {
  std::int64_t dim = 0;
  std::vector<float> o, lse_log2;

  States() = default;
  States(std::int64_t rows, std::int64_t head_dim)
      : dim(head_dim), o(static_cast<std::size_t>(rows * head_dim)), lse_log2(static_cast<std::size_t>(rows)) {}
  AttentionOutput view() {
    return {.o = contiguous(o.data(), DType::f32, {std::ssize(lse_log2), 1, dim}), .lse_log2 = lse_log2};
  }
  std::span<const float> row(std::int64_t r) const {
    return std::span(o).subspan(static_cast<std::size_t>(r * dim), static_cast<std::size_t>(dim));
  }
};

inline double distance(const States& a, const States& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.o.size(); ++i) most = std::max(most, std::abs(double{a.o[i]} - b.o[i]));
  return most;
}

// One head of four features, pages of two tokens, one query a request. Four requests: the first three share eight keys and
// have 3, 1 and 2 of their own; the last one has four, all its own.
struct CascadeBatch {
  static constexpr std::int32_t shared_pages = 4, sharing = 3, page_size = 2;
  ladder::Case c;  // flat: the page lists name the shared pages three times
  LevelOfPages flat, prefix, own;

  explicit CascadeBatch(std::uint64_t seed)
      : c(toy_case({.name = "shared prefix", .seed = seed, .qo_lens = {1, 1, 1, 1}, .kv_lens = {11, 9, 10, 4},
                    .params = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 4, .head_dim_vo = 4, .sm_scale = 0.5f,
                               .mask = MaskMode::causal},
                    .page_size = page_size})) {
    std::vector<std::int32_t>& ids = c.paged_kv_indices;
    for (std::int32_t r = 1; r < sharing; ++r) {
      std::copy_n(ids.begin(), shared_pages, ids.begin() + c.paged_kv_indptr[static_cast<std::size_t>(r)]);
    }
    const std::span<const std::int32_t> all(ids);
    prefix.add(sharing, all.first(shared_pages), page_size);
    prefix.add(1, {}, 0);
    for (std::size_t r = 0; r < 4; ++r) {
      const auto begin = static_cast<std::size_t>(c.paged_kv_indptr[r]);
      const auto end = static_cast<std::size_t>(c.paged_kv_indptr[r + 1]);
      const std::size_t own_begin = begin + (r < sharing ? shared_pages : 0);
      flat.add(1, all.subspan(begin, end - begin), c.paged_kv_last_page_len[r]);
      own.add(1, all.subspan(own_begin, end - own_begin), c.paged_kv_last_page_len[r]);
    }
  }

  api::AttentionConfig config(MaskMode mask) const {
    AttentionParams params = c.spec.params;
    params.mask = mask, params.sinks = !c.sinks.empty();
    return api::config_for(params, {.page_size = page_size, .dtype = DType::f32}, {.threads = 1});
  }

  // One prefill over the level as it is.
  States attend(const LevelOfPages& level, MaskMode mask) const {
    const api::AttentionConfig made = config(mask);
    std::vector<std::byte> memory(api::BatchPrefillWithPagedKVCache::workspace_bytes(
        made, level.qo_indptr, level.paged_kv_indptr, level.paged_kv_last_page_len).device);
    api::BatchPrefillWithPagedKVCache prefill(made, {.device = memory});
    prefill.plan(level.qo_indptr, level.paged_kv_indptr, level.paged_kv_last_page_len);
    States states(level.qo_indptr.back(), 4);
    prefill.run(c.q.view(), c.problem().kv, level.paged_kv_indices, states.view(), nullptr, c.sinks);
    return states;
  }

  std::vector<api::CascadeLevel> levels() const {
    return {{prefix.qo_indptr, prefix.paged_kv_indptr, prefix.paged_kv_last_page_len},
            {own.qo_indptr, own.paged_kv_indptr, own.paged_kv_last_page_len}};
  }
  std::size_t cascade_bytes() const {
    return api::MultiLevelCascadeAttention::workspace_bytes(config(MaskMode::causal), levels()).device;
  }
  States cascade() const {
    std::vector<std::byte> memory(cascade_bytes());
    api::MultiLevelCascadeAttention attention(2, config(MaskMode::causal), {.device = memory});
    attention.plan(levels());
    States states(4, 4);
    const std::span<const std::int32_t> ids[] = {prefix.paged_kv_indices, own.paged_kv_indices};
    attention.run(c.q.view(), c.problem().kv, ids, states.view(), nullptr, c.sinks);
    return states;
  }
};

// States of the same rows over other keys: what both give together, each with its weight.
inline States merged(const States& a, const States& b) {
  States out = a;
  for (std::size_t r = 0; r < out.lse_log2.size(); ++r) {
    auto state = SoftmaxState<float>::from_lse_log2(a.lse_log2[r]);
    const MergeWeights<float> w = merge(state, SoftmaxState<float>::from_lse_log2(b.lse_log2[r]));
    const auto at = [&](std::size_t x) { return r * static_cast<std::size_t>(a.dim) + x; };
    for (std::size_t x = 0; x < static_cast<std::size_t>(a.dim); ++x) {
      out.o[at(x)] = (a.o[at(x)] * w.a + b.o[at(x)] * w.b) * state.inverse_d();
    }
    out.lse_log2[r] = state.lse_log2();
  }
  return out;
}

}  // namespace flashladder::walkthroughs
