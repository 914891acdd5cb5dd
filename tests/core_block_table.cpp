// A dense block table is the same index model with regular rows: every view of it against the page lists of the same
// requests, which share no arithmetic with it, and one refusal for each rule.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/validate.hpp"

using namespace flashladder;

namespace {

constexpr std::int32_t int32_most = std::numeric_limits<std::int32_t>::max(), anything = -77;

// Requests of these lengths, each page id drawn once, in both forms. Entries that no request uses hold `anything`.
struct TwoForms {
  std::vector<std::int32_t> indptr{0}, indices, last, block_tables, seq_lens;
  std::int32_t page_size, max_pages;

  TwoForms(std::vector<std::int32_t> lens, std::int32_t size, std::int32_t row)
      : seq_lens(lens), page_size(size), max_pages(row) {
    std::mt19937 random(3);
    block_tables.assign(seq_lens.size() * static_cast<std::size_t>(max_pages), anything);
    for (std::size_t r = 0; r < seq_lens.size(); ++r) {
      std::int32_t left = seq_lens[r], used = 0;
      while (left > 0) {
        indices.push_back(static_cast<std::int32_t>(random() % 1000));
        block_tables[r * static_cast<std::size_t>(max_pages) + static_cast<std::size_t>(used++)] = indices.back();
        if (left <= page_size) last.push_back(left);
        left -= page_size;
      }
      if (used == 0) last.push_back(0);
      indptr.push_back(indptr.back() + used);
    }
  }
  std::int32_t batch() const { return static_cast<std::int32_t>(seq_lens.size()); }
  PageTable lists() const { return {indptr.data(), indices.data(), last.data(), page_size, batch()}; }
  PageTable dense() const { return block_table(block_tables.data(), seq_lens.data(), max_pages, page_size, batch()); }
};

// Two requests of one query each over a pool of 5 pages of 4 tokens; max_pages is 3.
struct Table {
  std::vector<float> q = std::vector<float>(2 * 2 * 8), kv = std::vector<float>(5 * 2 * 4 * 8);
  std::vector<std::int32_t> qo_indptr{0, 1, 2}, tables{4, 1, anything, 0, 2, 3}, lens{7, 12};
  AttentionProblem p;

  Table() {
    p.params = {.num_qo_heads = 2, .num_kv_heads = 1, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = 0.3f};
    p.q = contiguous(q.data(), DType::f32, {2, 2, 8});
    p.kv = paged_kv_cache(contiguous(kv.data(), DType::f32, {5, 2, 4, 1, 8}), KvLayout::NHD);
    p.qo_indptr = qo_indptr;
    p.block_tables = tables;
    p.seq_lens = lens;
  }
};

struct TableRefusal {
  std::string what;
  void (*breaks)(Table&);
  std::string argument, value;
  int request = -1;
};

const TableRefusal refusals[] = {
    {"negative length", [](Table& c) { c.lens[1] = -1; }, "seq_lens[1]", "-1", 1},
    {"longer than its row", [](Table& c) { c.lens[0] = 13; }, "seq_lens[0]", "13", 0},
    {"length of 2^31 - 1", [](Table& c) { c.lens[0] = int32_most; }, "seq_lens[0]", "2147483647", 0},
    {"rows not alike", [](Table& c) { c.p.block_tables = std::span(c.tables).first(5); }, "block_tables size", "5"},
    {"a table without lengths", [](Table& c) { c.p.seq_lens = {}; }, "block_tables size", "6"},
    {"lengths without a table", [](Table& c) { c.p.block_tables = {}; }, "seq_lens[0]", "7", 0},
    {"more than int32 entries",
     [](Table& c) { c.p.block_tables = {c.tables.data(), std::size_t{int32_most} + 1}; }, "block_tables size", "2147483648"},
    {"page size 0", [](Table& c) { c.p.kv.page_size = 0; }, "page_size", "0"},
    {"page beyond the pool", [](Table& c) { c.tables[5] = 5; }, "block_tables[1, 2]", "5", 1},
    {"negative page", [](Table& c) { c.tables[1] = -1; }, "block_tables[0, 1]", "-1", 0},
    {"null table", [](Table& c) { c.p.block_tables = {static_cast<std::int32_t*>(nullptr), 6}; }, "block_tables", "null"},
    {"null lengths", [](Table& c) { c.p.seq_lens = {static_cast<std::int32_t*>(nullptr), 2}; }, "seq_lens", "null"},
    {"indptr as well", [](Table& c) { c.p.paged_kv_indptr = c.qo_indptr; }, "paged_kv_indptr size", "3"},
    {"indices as well", [](Table& c) { c.p.paged_kv_indices = c.tables; }, "paged_kv_indices size", "6"},
    {"last pages as well", [](Table& c) { c.p.paged_kv_last_page_len = c.lens; }, "paged_kv_last_page_len size", "2"},
    {"queries of a third request", [](Table& c) { c.qo_indptr.push_back(2), c.p.qo_indptr = c.qo_indptr; },
     "qo_indptr size", "4"},
};

}  // namespace

TEST_CASE("PageTable: a block table locates every token where the page lists do") {
  for (const std::int32_t page_size : {1, 3, 16}) {
    for (const std::int32_t spare : {0, 5}) {
      CAPTURE(page_size);
      CAPTURE(spare);
      const TwoForms forms({0, 1, page_size - 1, page_size, page_size + 1, 0, 5 * page_size + 2, 97}, page_size,
                           pages_for(97, page_size) + pages_for(2, page_size) + spare);
      const PageTable lists = forms.lists(), dense = forms.dense();
      CHECK(dense.num_entries() == static_cast<std::int32_t>(forms.block_tables.size()));
      CHECK(lists.num_entries() == static_cast<std::int32_t>(forms.indices.size()));
      for (std::int32_t r = 0; r < forms.batch(); ++r) {
        CHECK(dense.length(r) == lists.length(r));
        for (std::int32_t token = 0; token < lists.length(r); ++token) {
          CHECK(dense.locate(r, token) == lists.locate(r, token));
          CHECK(dense.locate_from(dense.first_page(r), token) == lists.locate(r, token));
        }
      }
    }
  }
}

TEST_CASE("PageTable: a block table with identity pages is a padded cache") {
  const std::int32_t lens[] = {3, 0, 5};
  const PageTable table = block_table(nullptr, lens, 8, 1, 3);
  CHECK(table.length(2) == 5);
  CHECK(table.locate(2, 4) == KvSlot{2 * 8 + 4, 0});
}

TEST_CASE("validate accepts block tables whose unused entries hold anything") {
  Table c;
  CHECK_NOTHROW(validate(c.p));
  CHECK(c.p.batch() == 2);
  CHECK(c.p.kv_len(1) == 12);
  c.lens = {0, 0};
  c.tables.assign(6, anything);
  CHECK_NOTHROW(validate(c.p));
}

TEST_CASE("validate refuses block tables") {
  for (const TableRefusal& r : refusals) {
    CAPTURE(r.what);
    Table c;
    r.breaks(c);
    try {
      validate(c.p);
      FAIL_CHECK("it was accepted");
    } catch (const InputError& e) {
      CHECK(e.argument == r.argument);
      CHECK(e.value == r.value);
      CHECK(e.request == r.request);
    }
  }
}
