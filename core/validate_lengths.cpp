// The rules of lengths and page ids: index pointers, page lists, block tables.
#include <algorithm>
#include <limits>
#include <string>

#include "core/checks.hpp"
#include "core/refuse.hpp"
#include "core/validate.hpp"

namespace flashladder {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

// Names of arguments are put together only when they are needed: plans are made between two kernels.
void validate_indptr(std::span<const std::int32_t> indptr, std::int64_t batch, const char* name, const char* batch_is) {
  if (static_cast<std::int64_t>(indptr.size()) != batch + 1) {
    refuse(std::string(name) + " size", static_cast<std::int64_t>(indptr.size()),
           std::string("must be batch + 1, batch being ") + batch_is + " (" + std::to_string(batch + 1) + ")");
  }
  require_data(indptr, name);
  if (indptr[0] != 0) refuse(element(name, 0), indptr[0], "must be the start (0)");
  for (std::size_t r = 0; r + 1 < indptr.size(); ++r) {
    if (indptr[r + 1] < indptr[r]) {
      refuse(element(name, static_cast<std::int64_t>(r) + 1), indptr[r + 1],
             "must not be less than the entry before it (" + std::to_string(indptr[r]) + ")", static_cast<int>(r));
    }
  }
}

}  // namespace

void validate_page_counts(std::span<const std::int32_t> paged_kv_indptr,
                          std::span<const std::int32_t> paged_kv_last_page_len, std::int32_t page_size) {
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  const auto batch = static_cast<std::int64_t>(paged_kv_last_page_len.size());
  require(batch < int32_max, "batch", batch, "must be less than 2^31 - 1");
  validate_indptr(paged_kv_indptr, batch, "paged_kv_indptr", "the size of paged_kv_last_page_len");
  require_data(paged_kv_last_page_len, "paged_kv_last_page_len");
  for (std::int32_t r = 0; r < batch; ++r) {
    const std::int64_t pages = paged_kv_indptr[r + 1] - paged_kv_indptr[r];
    const std::int32_t last = paged_kv_last_page_len[r];
    if (pages == 0 && last != 0) {
      refuse(element("paged_kv_last_page_len", r), last, "must be 0 for a request without pages", r);
    }
    if (pages > 0 && (last < 1 || last > page_size)) {
      refuse(element("paged_kv_last_page_len", r), last, "must be 1 .. page_size (" + std::to_string(page_size) + ")", r);
    }
    const std::int64_t tokens = pages == 0 ? 0 : (pages - 1) * page_size + last;
    require(tokens <= int32_max, "kv_len", tokens, "must be at most 2^31 - 1", r);
  }
}

void validate_page_table(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                         std::span<const std::int32_t> paged_kv_last_page_len, std::int32_t page_size) {
  validate_page_counts(paged_kv_indptr, paged_kv_last_page_len, page_size);
  const auto entries = static_cast<std::int64_t>(paged_kv_indices.size());
  if (entries != paged_kv_indptr.back()) {
    refuse("paged_kv_indices size", entries,
           "must be the last entry of paged_kv_indptr (" + std::to_string(paged_kv_indptr.back()) + ")");
  }
  require_data(paged_kv_indices, "paged_kv_indices");
}

void validate_page_ids(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                       std::int32_t num_pages) {
  for (std::size_t i = 0; i < paged_kv_indices.size(); ++i) {
    const std::int32_t page = paged_kv_indices[i];
    if (page >= 0 && page < num_pages) continue;
    const auto next = std::upper_bound(paged_kv_indptr.begin(), paged_kv_indptr.end(), static_cast<std::int64_t>(i));
    refuse(element("paged_kv_indices", static_cast<std::int64_t>(i)), page,
           "must be a page of the pool, 0 .. " + std::to_string(num_pages - 1),
           static_cast<int>(next - paged_kv_indptr.begin()) - 1);
  }
}

void validate_block_table(std::int64_t block_entries, std::span<const std::int32_t> seq_lens, std::int32_t page_size) {
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  const auto batch = static_cast<std::int64_t>(seq_lens.size());
  require(batch < int32_max, "batch", batch, "must be less than 2^31 - 1");
  require_data(seq_lens, "seq_lens");
  require(block_entries <= int32_max, "block_tables size", block_entries, "must be at most 2^31 - 1");
  const bool rows_alike = batch == 0 ? block_entries == 0 : block_entries % batch == 0;
  if (!rows_alike) {
    refuse("block_tables size", block_entries,
           "must be batch * max_pages, batch being the size of seq_lens (" + std::to_string(batch) + ")");
  }
  const std::int64_t max_pages = batch == 0 ? 0 : block_entries / batch;
  for (std::int32_t r = 0; r < batch; ++r) {
    if (seq_lens[r] < 0) refuse(element("seq_lens", r), seq_lens[r], "must be 0 or more", r);
    if (pages_for(seq_lens[r], page_size) > max_pages) {
      refuse(element("seq_lens", r), seq_lens[r],
             "must fit in a row of block_tables: max_pages (" + std::to_string(max_pages) + ") of page_size (" +
                 std::to_string(page_size) + ")",
             r);
    }
  }
}

void validate_block_ids(std::span<const std::int32_t> block_tables, std::span<const std::int32_t> seq_lens,
                        std::int32_t page_size, std::int32_t num_pages) {
  if (seq_lens.empty()) return;
  const std::size_t max_pages = block_tables.size() / seq_lens.size();
  for (std::size_t r = 0; r < seq_lens.size(); ++r) {
    for (std::int32_t i = 0; i < pages_for(seq_lens[r], page_size); ++i) {
      const std::int32_t page = block_tables[r * max_pages + static_cast<std::size_t>(i)];
      if (page >= 0 && page < num_pages) continue;
      refuse("block_tables[" + std::to_string(r) + ", " + std::to_string(i) + "]", page,
             "must be a page of the pool, 0 .. " + std::to_string(num_pages - 1), static_cast<int>(r));
    }
  }
}

void validate_qo_indptr(std::span<const std::int32_t> qo_indptr, std::int64_t batch, const char* argument) {
  validate_indptr(qo_indptr, batch, argument, "the number of requests");
}

void validate_kv_indptr(std::span<const std::int32_t> kv_indptr, std::int64_t batch) {
  validate_indptr(kv_indptr, batch, "kv_indptr", "the number of requests");
}

}  // namespace flashladder
