#include "ladder/cases/drawn/draw_case.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "ladder/cases/drawn/draw_parts.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/memory/memory.hpp"
#include "ladder/cases/mla_parts.hpp"

namespace flashladder::ladder {
namespace {

// The page lists as rows with entries to spare, which name a page that nobody uses: its slots are NaN.
void draw_block_table(Case& c, std::int32_t unused_page) {
  const std::int64_t max_pages = c.spec.max_pages();
  c.block_tables.assign(static_cast<std::size_t>(c.spec.batch()) * static_cast<std::size_t>(max_pages), unused_page);
  for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
    std::copy(c.paged_kv_indices.begin() + c.paged_kv_indptr[b], c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1],
              c.block_tables.begin() + b * max_pages);
  }
}

void draw_pages(Case& c, std::int32_t pool) {
  const CaseSpec& spec = c.spec;
  c.qo_indptr = c.paged_kv_indptr = {0};
  for (std::int32_t b = 0; b < spec.batch(); ++b) {
    c.qo_indptr.push_back(c.qo_indptr.back() + spec.qo_lens[b]);
    c.paged_kv_indptr.push_back(c.paged_kv_indptr.back() + pages_for(spec.kv_lens[b], spec.page_size));
    c.paged_kv_last_page_len.push_back(last_page_len_for(spec.kv_lens[b], spec.page_size));
  }
  std::vector<std::int32_t> pages(pool);
  std::iota(pages.begin(), pages.end(), 0);
  Random random(spec.seed, static_cast<std::uint64_t>(Stream::pages));
  for (std::int32_t i = 0; i < c.paged_kv_indptr.back(); ++i) {  // Fisher-Yates, as far as pages are needed
    std::swap(pages[i], pages[i + random.below(static_cast<std::uint32_t>(pool - i))]);
  }
  const std::int32_t used = c.paged_kv_indptr.back();
  c.paged_kv_indices.assign(pages.begin(), pages.begin() + used);
  if (spec.block_table) draw_block_table(c, pages.back());
}

void allocate_cache(Case& c, std::int64_t pool) {
  const CaseSpec& spec = c.spec;
  const bool nhd = spec.kv_layout == KvLayout::NHD;
  const std::int64_t heads = spec.params.num_kv_heads, entries = spec.page_size;
  const std::int64_t a = nhd ? entries : heads, b = nhd ? heads : entries;
  if (spec.op == Op::mla) {
    c.k_cache = OwnedTensor(spec.cache_dtype(), {pool, entries, 1, spec.params.head_dim_qk});
  } else if (spec.one_cache_tensor()) {
    c.kv_cache = OwnedTensor(spec.cache_dtype(), {pool, 2, a, b, spec.params.head_dim_qk});
  } else {
    c.k_cache = OwnedTensor(spec.cache_dtype(), {pool, a, b, spec.params.head_dim_qk});
    c.v_cache = OwnedTensor(spec.cache_dtype(), {pool, a, b, spec.params.head_dim_vo});
  }
}

}  // namespace

Case draw_case(const CaseSpec& spec) {
  const std::string what = "case " + shown(spec.name.empty() ? "without a name" : spec.name);
  within(what, [&] { validate(spec); });
  require(spec.custom_mask != CustomMask::given && spec.values != Values::given, what.c_str(), "",
          "was read from a file, and can't be drawn");
  require_memory(spec.bytes_estimate(), what);

  Case c;
  c.spec = spec;
  const std::int64_t pool = std::max<std::int64_t>(1, 2 * spec.total_pages());
  draw_pages(c, static_cast<std::int32_t>(pool));
  allocate_cache(c, pool);
  c.q = OwnedTensor(spec.dtype, {spec.nnz_qo(), spec.params.num_qo_heads, spec.params.head_dim_qk});
  draw_values(c);
  if (spec.op == Op::mla && !spec.combined_cache) split_parts(c);
  if (spec.custom_mask != CustomMask::none) c.custom_mask = draw_mask(spec);
  if (spec.params.sinks) {
    Random random(spec.seed, static_cast<std::uint64_t>(Stream::sinks));
    for (std::int32_t h = 0; h < spec.params.num_qo_heads; ++h) c.sinks.push_back(static_cast<float>(random.normal()));
  }
  return c;
}

}  // namespace flashladder::ladder
