// A drawn case whose requests share prefixes: the page lists of the case name the shared pages again and again, as one flat
// attention reads them, and `levels` has the same keys as a cascade reads them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "api/multi_level_cascade.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::test {

// Neighbouring requests that share so many pages on a level.
struct SharedGroup {
  std::int32_t requests, pages;
};

struct CascadeCase {
  struct Level {
    std::vector<std::int32_t> qo_indptr{0}, paged_kv_indptr{0}, paged_kv_indices, paged_kv_last_page_len;

    void add(std::int32_t end_row, std::span<const std::int32_t> pages, std::int32_t last_page_len) {
      qo_indptr.push_back(end_row);
      paged_kv_indices.insert(paged_kv_indices.end(), pages.begin(), pages.end());
      paged_kv_indptr.push_back(static_cast<std::int32_t>(paged_kv_indices.size()));
      paged_kv_last_page_len.push_back(pages.empty() ? 0 : last_page_len);
    }
    operator api::CascadeLevel() const { return {qo_indptr, paged_kv_indptr, paged_kv_last_page_len}; }
  };
  ladder::Case c;
  std::vector<Level> levels;

  // shared: the levels but the last. spec.kv_lens: what each request has for itself; the prefixes are added here.
  CascadeCase(ladder::CaseSpec spec, const std::vector<std::vector<SharedGroup>>& shared) {
    for (const auto& level : shared) {
      std::size_t request = 0;
      for (const SharedGroup& group : level) {
        for (std::int32_t i = 0; i < group.requests; ++i) spec.kv_lens[request++] += group.pages * spec.page_size;
      }
    }
    c = draw_case(spec);
    std::vector<std::int32_t> at(c.paged_kv_indptr.begin(), c.paged_kv_indptr.end() - 1);  // where each goes on
    for (const auto& level : shared) share(level, at);
    Level own;
    for (std::size_t r = 0; r < at.size(); ++r) {
      const std::span ids(c.paged_kv_indices);
      own.add(c.qo_indptr[r + 1], ids.subspan(at[r], c.paged_kv_indptr[r + 1] - at[r]), c.paged_kv_last_page_len[r]);
    }
    levels.push_back(std::move(own));
  }

  std::vector<api::CascadeLevel> lengths() const { return {levels.begin(), levels.end()}; }
  std::vector<std::span<const std::int32_t>> page_ids() const {
    std::vector<std::span<const std::int32_t>> ids;
    for (const Level& level : levels) ids.push_back(level.paged_kv_indices);
    return ids;
  }
  // The smallest limits that this batch is within.
  std::vector<api::AttentionLimits> limits() const {
    std::vector<api::AttentionLimits> all;
    for (const Level& level : levels) {
      all.push_back({.max_batch = static_cast<std::int32_t>(level.paged_kv_last_page_len.size()),
                     .max_pages = level.paged_kv_indptr.back(), .max_nnz_qo = level.qo_indptr.back()});
    }
    return all;
  }

 private:
  // The pages of a group's first request become those of the others.
  void share(const std::vector<SharedGroup>& groups, std::vector<std::int32_t>& at) {
    Level level;
    std::size_t request = 0;
    for (const SharedGroup& group : groups) {
      const std::size_t end = request + static_cast<std::size_t>(group.requests);
      const std::int32_t* first = request < at.size() ? c.paged_kv_indices.data() + at[request] : nullptr;
      const std::vector<std::int32_t> pages(first, first + group.pages);
      for (; request < end; ++request) {
        std::copy(pages.begin(), pages.end(), c.paged_kv_indices.begin() + at[request]);
        at[request] += group.pages;
      }
      level.add(c.qo_indptr[end], pages, c.spec.page_size);
    }
    levels.push_back(std::move(level));
  }
};

// Requests 0 .. 6: uneven groups, one that shares nothing, an empty one, one without keys of its own, one without queries.
inline ladder::CaseSpec cascade_spec(std::int32_t page_size, DType dtype = DType::f32) {
  ladder::CaseSpec spec{.name = "cascade", .seed = 11, .qo_lens = {1, 3, 1, 1, 0, 2, 1}, .kv_lens = {17, 3, 150, 0, 9, 40, 1},
                        .page_size = page_size, .dtype = dtype};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f};
  return spec;
}
inline std::vector<std::vector<SharedGroup>> two_levels() { return {{{3, 7}, {1, 2}, {0, 0}, {1, 0}, {2, 30}}}; }
inline std::vector<std::vector<SharedGroup>> three_levels() {
  return {{{4, 11}, {3, 5}}, {{2, 1}, {1, 0}, {1, 4}, {3, 9}}};
}

// 1 to 9 requests, 2 to 4 levels, groups of any size.
inline CascadeCase random_cascade(std::uint64_t seed, DType dtype) {
  ladder::Random random(seed, 17);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random.below(n)); };
  ladder::CaseSpec spec{.name = "cascade", .seed = seed, .qo_lens = {}, .kv_lens = {}, .page_size = 1 + below(20),
                        .dtype = dtype};
  const std::int32_t group = 1 + below(8), kv_heads = 1 + below(3);
  spec.params = {.num_qo_heads = group * kv_heads, .num_kv_heads = kv_heads, .head_dim_qk = 64, .head_dim_vo = 64,
                 .sm_scale = 0.15f, .mask = below(2) ? MaskMode::causal : MaskMode::none,
                 .logits_soft_cap = below(3) ? 0.0f : 20.0f, .sinks = below(2) == 0};
  for (std::int32_t r = 1 + below(9); r > 0; --r) {
    const std::int32_t qo_len = below(3) ? 1 : below(20);
    spec.qo_lens.push_back(qo_len);
    spec.kv_lens.push_back(std::max(0, qo_len - 1) + below(4) * below(40));
  }
  // From the last shared level to the first: a group of a level is some groups of the next.
  std::vector<std::vector<SharedGroup>> shared;
  std::vector<std::int32_t> sizes(spec.qo_lens.size(), 1);
  for (std::int32_t l = 1 + below(3); l > 0; --l) {
    std::vector<SharedGroup> groups;
    for (std::size_t i = 0; i < sizes.size();) {
      SharedGroup joined{0, below(4) * below(200) / spec.page_size};
      for (std::int32_t n = 1 + below(4); n > 0 && i < sizes.size(); --n) joined.requests += sizes[i++];
      groups.push_back(joined);
    }
    sizes.clear();
    for (const SharedGroup& g : groups) sizes.push_back(g.requests);
    shared.insert(shared.begin(), groups);
  }
  return {spec, shared};
}

}  // namespace flashladder::test
