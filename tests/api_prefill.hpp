// What the tests of prefill share: a case through the public class in its plain form, in exactly the memory asked for, and
// the same page ids as a dense table.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "api/flashladder.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "tests/api_cases.hpp"

namespace flashladder::test {

struct Result {
  std::vector<float> o, lse_log2;
  // Bit by bit, so that equal NaN are equal.
  friend bool operator==(const Result& a, const Result& b) {
    const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
    };
    return same(a.o, b.o) && same(a.lse_log2, b.lse_log2);
  }
};

// What `run(output)` writes into rows that start as NaN between guard bands.
inline Result written(const ladder::Case& c, DType o_dtype, const std::function<void(const AttentionOutput&)>& run) {
  ladder::GuardedOutput out(c.q.shape[0], c.spec.params.num_qo_heads, c.spec.params.head_dim_vo, o_dtype);
  const AttentionOutput view = out.view();
  run(view);
  CHECK(out.guards_intact());
  Result result{.o = std::vector<float>(static_cast<std::size_t>(view.o.size())),
                .lse_log2 = {view.lse_log2.begin(), view.lse_log2.end()}};
  reference::load_row(view.o, 0, view.o.size(), result.o.data());
  return result;
}

inline api::AttentionConfig prefill_config(const ladder::Case& c, DType o_dtype) {
  api::AttentionConfig config = config_of(c.spec, Device::cpu, o_dtype);
  config.execution.policy = c.spec.seed % 2 ? SplitPolicy::balanced : SplitPolicy::fixed;
  config.execution.chunk_size = 64;
  return config;
}

// Exactly the workspace that was asked for, between guard bands, all bits set.
struct Memory {
  ladder::GuardedBytes bytes;
  explicit Memory(const api::WorkspaceBytes& size) : bytes(size.device) {
    std::fill_n(bytes.data(), bytes.size(), std::byte{0xff});
    CHECK(size.staging == 0);
  }
  ~Memory() { CHECK(bytes.guards_intact()); }
  api::Workspace view() { return {.device = {bytes.data(), bytes.size()}}; }
};

inline Result by_page_lists(const ladder::Case& c, DType o_dtype) {
  const api::AttentionConfig config = prefill_config(c, o_dtype);
  using Prefill = api::BatchPrefillWithPagedKVCache;
  Memory memory(Prefill::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len));
  Prefill prefill(config, memory.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, out, nullptr, c.sinks, c.custom_mask,
                c.problem().scales);
  });
}

// The case's pages as a dense table with two entries to spare in each row; what is beyond a length is no page at all.
struct Dense {
  std::vector<std::int32_t> block_tables;
  api::BlockTableLengths lengths;

  explicit Dense(const ladder::Case& c) : lengths{c.spec.kv_lens, 2} {
    for (const std::int32_t len : c.spec.kv_lens) {
      lengths.max_pages = std::max(lengths.max_pages, pages_for(len, c.spec.page_size) + 2);
    }
    block_tables.assign(c.spec.kv_lens.size() * static_cast<std::size_t>(lengths.max_pages), -1);
    for (std::size_t b = 0; b < c.spec.kv_lens.size(); ++b) {
      std::copy(c.paged_kv_indices.begin() + c.paged_kv_indptr[b], c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1],
                block_tables.begin() + static_cast<std::ptrdiff_t>(b) * lengths.max_pages);
    }
  }
};

// The case's keys or values, token by token, each row found by walking the pages.
struct Tokens {
  std::vector<std::byte> bytes;
  std::int64_t count = 0, heads, dim;
  DType dtype;

  Tokens(const ladder::Case& c, const void* base, const KvStrides& strides, std::int32_t head_dim)
      : heads(c.spec.params.num_kv_heads), dim(head_dim), dtype(c.spec.cache_dtype()) {
    const std::size_t row = static_cast<std::size_t>(dim) * size_of(dtype);
    for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
      for (std::int32_t t = 0; t < c.spec.kv_lens[b]; ++t, ++count) {
        const std::int32_t page = c.paged_kv_indices[c.paged_kv_indptr[b] + t / c.spec.page_size];
        for (std::int32_t h = 0; h < heads; ++h) {
          const std::int64_t at = strides.page * page + strides.entry * (t % c.spec.page_size) + strides.head * h;
          const auto* from = static_cast<const std::byte*>(base) + at * static_cast<std::int64_t>(size_of(dtype));
          bytes.insert(bytes.end(), from, from + row);
        }
      }
    }
  }
  Tensor tensor() { return contiguous(bytes.data(), dtype, {count, heads, dim}); }
};

inline ladder::Case causal_case(DType dtype, std::uint64_t seed = 7) {
  ladder::CaseSpec spec{.name = "causal", .seed = seed, .qo_lens = {70, 0, 1, 33}, .kv_lens = {300, 5, 129, 33},
                        .dtype = dtype};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f,
                 .mask = MaskMode::causal};
  return ladder::draw_case(spec);
}

}  // namespace flashladder::test
