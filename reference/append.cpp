#include "reference/append.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/validate.hpp"
#include "reference/append_rows.hpp"
#include "reference/element_io.hpp"
#include "reference/kept.hpp"

namespace flashladder::reference {
namespace {

using Indices = std::span<const std::int32_t>;
constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

bool earlier(const AppendedRow& a, const AppendedRow& b) {
  return std::tie(a.slot.page, a.slot.entry, a.row) < std::tie(b.slot.page, b.slot.entry, b.row);
}

[[noreturn]] void refuse(const AppendedRow& row, const std::string& rule) {
  throw InputError(element("positions", row.row), std::to_string(row.position), rule, row.request);
}

// Sorted by slot, rows that collide are neighbours.
void check_slots(std::span<const AppendedRow> sorted) {
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const AppendedRow &a = sorted[i - 1], &b = sorted[i];
    if (a.slot != b.slot || a.request != b.request) continue;
    refuse(b, "must not be the slot of row " + std::to_string(a.row) + " too");
  }
}

// Every page that the table holds against the pages that are written.
void check_shared_pages(const PageTable& table, std::span<const AppendedRow> sorted) {
  for (std::int32_t request = 0; request < table.num_requests; ++request) {
    const std::int32_t first = table.first_page(request), pages = pages_for(table.length(request), table.page_size);
    for (std::int32_t entry = first; entry < first + pages; ++entry) {
      const AppendedRow page{.slot = table.locate_from(entry, 0)};
      const auto found = std::lower_bound(sorted.begin(), sorted.end(), page, earlier);
      if (found == sorted.end() || found->slot.page != page.slot.page || found->table_entry == entry) continue;
      const std::string other = "request " + std::to_string(request);
      refuse(*found, "must not write to page " + std::to_string(page.slot.page) + ", which " + other + " holds " +
                         (request == found->request ? "in another place too" : "too") +
                         ": a shared page is read only");
    }
  }
}

}  // namespace

PageTable checked_table(const PagedKvTable& t, const PagedKvCache& cache) {
  validate_page_table(t.paged_kv_indptr, t.paged_kv_indices, t.paged_kv_last_page_len, cache.page_size);
  validate_page_ids(t.paged_kv_indptr, t.paged_kv_indices, cache.num_pages);
  return {t.paged_kv_indptr.data(), t.paged_kv_indices.data(), t.paged_kv_last_page_len.data(), cache.page_size,
          static_cast<std::int32_t>(t.paged_kv_last_page_len.size())};
}

std::span<const AppendedRow> checked_rows(const PageTable& table, Indices batch_indices, Indices positions) {
  const std::span<AppendedRow> rows = kept<AppendedRow, struct Rows>(static_cast<std::int64_t>(batch_indices.size()));
  std::size_t count = 0;
  for (std::size_t i = 0; i < batch_indices.size(); ++i) {
    const std::int32_t request = batch_indices[i], position = positions[i];
    if (request == -1) continue;
    const auto row = static_cast<std::int64_t>(i);
    require_element(request >= 0 && request < table.num_requests, "batch_indices", row, request,
                    "must be a request of the page table, or -1 to skip the row");
    require_element(position >= 0 && position < table.length(request), "positions", row, position,
                    "must be a token that the page table already includes", request);
    const std::int32_t entry = table.first_page(request) + pages_for(position + 1, table.page_size) - 1;
    rows[count++] = {row, request, position, table.locate(request, position), entry};
  }
  const std::span<AppendedRow> sorted = kept<AppendedRow, struct Sorted>(static_cast<std::int64_t>(count));
  std::copy_n(rows.begin(), count, sorted.begin());
  std::sort(sorted.begin(), sorted.end(), earlier);
  check_slots(sorted);
  check_shared_pages(table, sorted);
  return rows.first(count);
}

std::span<const AppendedRow> checked_rows(std::span<const std::int64_t> slot_mapping, const PagedKvCache& cache) {
  const std::int64_t slots = std::int64_t{cache.num_pages} * cache.page_size;
  const std::span<AppendedRow> rows = kept<AppendedRow, struct Rows>(static_cast<std::int64_t>(slot_mapping.size()));
  std::size_t count = 0;
  for (std::size_t i = 0; i < slot_mapping.size(); ++i) {
    const std::int64_t slot = slot_mapping[i];
    if (slot == -1) continue;
    const auto row = static_cast<std::int64_t>(i);
    require_element(slot >= 0 && slot < slots, "slot_mapping", row, slot,
                    "must be a slot of paged_kv_cache, page * page_size + entry, or -1 to skip the row");
    rows[count++] = {.row = row, .slot = {slot / cache.page_size, static_cast<std::int32_t>(slot % cache.page_size)}};
  }
  const std::span<AppendedRow> sorted = kept<AppendedRow, struct Sorted>(static_cast<std::int64_t>(count));
  std::copy_n(rows.begin(), count, sorted.begin());
  std::sort(sorted.begin(), sorted.end(), earlier);
  for (std::size_t i = 1; i < count; ++i) {
    if (sorted[i - 1].slot != sorted[i].slot) continue;
    const std::int64_t row = sorted[i].row;
    throw InputError(element("slot_mapping", row), std::to_string(slot_mapping[static_cast<std::size_t>(row)]),
                     "must not be the slot of row " + std::to_string(sorted[i - 1].row) + " too");
  }
  return rows.first(count);
}

void store_scaled(std::span<float> values, float scale, const Tensor& pool, std::int64_t offset) {
  for (float& x : values) x /= scale;
  visit_cache_dtype(pool.dtype, [&]<class Element>(Element) {
    store_row(values.data(), static_cast<std::int64_t>(values.size()), pool.data_as<Element>() + offset);
  });
}

namespace {

void quantise_row(const ConstTensor& rows, const AppendedRow& to, const Tensor& pool, const PoolScales& scales,
                  std::int64_t first_feature) {
  const std::int64_t n = rows.shape[2] - first_feature;
  const std::span<float> values = kept<float, struct Quantised>(n);
  for (std::int64_t head = 0; head < rows.shape[1]; ++head) {
    load_row(rows, head_offset(rows, to.row, head) + first_feature, n, values.data());
    store_scaled(values, scales.of(head), pool, pool_offset(pool, to.slot, head) + first_feature);
  }
}

}  // namespace

void copy_row(const ConstTensor& rows, const AppendedRow& to, const Tensor& pool, const PoolScales& scales,
              std::int64_t first_feature) {
  if (rows.dtype != pool.dtype) return quantise_row(rows, to, pool, scales, first_feature);
  const auto bytes = static_cast<std::int64_t>(size_of(rows.dtype));
  const auto length = static_cast<std::size_t>((rows.shape[2] - first_feature) * bytes);
  for (std::int64_t head = 0; head < rows.shape[1]; ++head) {
    const std::int64_t from = head_offset(rows, to.row, head) + first_feature;
    std::memcpy(pool.data_as<std::byte>() + (pool_offset(pool, to.slot, head) + first_feature) * bytes,
                rows.data_as<const std::byte>() + from * bytes, length);
  }
}

void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value, Indices batch_indices,
                           Indices positions, const PagedKvCache& paged_kv_cache, Indices paged_kv_indptr,
                           Indices paged_kv_indices, Indices paged_kv_last_page_len, const KvScales& scales) {
  const PagedKvTable arrays{paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len};
  check_append(append_key, append_value, batch_indices, positions, paged_kv_cache, arrays, &scales);
  validate_on_host(scales);
  const PageTable table = checked_table(arrays, paged_kv_cache);
  const Tensor k = k_pool(paged_kv_cache), v = v_pool(paged_kv_cache);
  for (const AppendedRow& row : checked_rows(table, batch_indices, positions)) {
    copy_row(append_key, row, k, of_k(scales));
    copy_row(append_value, row, v, of_v(scales));
  }
}

void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int64_t> slot_mapping, const PagedKvCache& paged_kv_cache,
                           const KvScales& scales) {
  check_append(append_key, append_value, slot_mapping, paged_kv_cache, &scales);
  validate_on_host(scales);
  const Tensor k = k_pool(paged_kv_cache), v = v_pool(paged_kv_cache);
  for (const AppendedRow& row : checked_rows(slot_mapping, paged_kv_cache)) {
    copy_row(append_key, row, k, of_k(scales));
    copy_row(append_value, row, v, of_v(scales));
  }
}

void get_batch_indices_positions(Indices append_indptr, Indices seq_lens, std::span<std::int32_t> batch_indices,
                                 std::span<std::int32_t> positions) {
  const auto batch = static_cast<std::int64_t>(seq_lens.size()), nnz = static_cast<std::int64_t>(batch_indices.size());
  check_span("seq_lens", seq_lens, batch);
  check_indptr("append_indptr", append_indptr, batch);
  check_span("batch_indices", batch_indices, nnz);
  check_span("positions", positions, nnz);
  check_index_output("batch_indices", batch_indices, {{"append_indptr", append_indptr}, {"seq_lens", seq_lens}});
  check_index_output("positions", positions,
                     {{"append_indptr", append_indptr}, {"seq_lens", seq_lens}, {"batch_indices", batch_indices}});
  require(nnz >= append_indptr.back(), "batch_indices size", nnz, "must be at least the last entry of append_indptr");
  for (std::size_t b = 0; b < seq_lens.size(); ++b) {
    require(append_indptr[b + 1] - append_indptr[b] <= seq_lens[b], "seq_lens", seq_lens[b],
            "must include the appended tokens", static_cast<int>(b));
  }
  std::fill(batch_indices.begin(), batch_indices.end(), -1);
  std::fill(positions.begin(), positions.end(), 0);
  for (std::size_t b = 0; b < seq_lens.size(); ++b) {
    const std::int32_t end = append_indptr[b + 1];
    for (std::int32_t i = append_indptr[b]; i < end; ++i) {
      batch_indices[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(b);
      positions[static_cast<std::size_t>(i)] = seq_lens[b] - (end - i);
    }
  }
}

BatchIndicesPositions get_batch_indices_positions(Indices append_indptr, Indices seq_lens, std::int32_t nnz) {
  require(nnz >= 0, "nnz", nnz, "must not be negative");
  BatchIndicesPositions rows{std::vector<std::int32_t>(static_cast<std::size_t>(nnz)),
                             std::vector<std::int32_t>(static_cast<std::size_t>(nnz))};
  get_batch_indices_positions(append_indptr, seq_lens, rows.batch_indices, rows.positions);
  return rows;
}

void get_seq_lens(Indices kv_indptr, Indices kv_last_page_len, std::int32_t page_size, std::span<std::int32_t> seq_lens) {
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  const auto batch = static_cast<std::int64_t>(kv_last_page_len.size());
  check_span("kv_last_page_len", kv_last_page_len, batch);
  check_indptr("kv_indptr", kv_indptr, batch);
  check_span("seq_lens", seq_lens, batch);
  check_index_output("seq_lens", seq_lens, {{"kv_indptr", kv_indptr}, {"kv_last_page_len", kv_last_page_len}});
  for (std::size_t b = 0; b < seq_lens.size(); ++b) {
    const std::int64_t pages = kv_indptr[b + 1] - kv_indptr[b], last = kv_last_page_len[b];
    if (pages == 0) continue;
    const int request = static_cast<int>(b);
    require(last >= 1 && last <= page_size, "kv_last_page_len", last, "must be 1 .. page_size", request);
    const std::int64_t tokens = (pages - 1) * page_size + last;
    if (tokens <= int32_max) continue;
    throw InputError("kv_indptr", std::to_string(pages) + " pages",
                     "must not make a request of more than 2^31 - 1 tokens: these are " + std::to_string(tokens), request);
  }
  const PageTable table{kv_indptr.data(), nullptr, kv_last_page_len.data(), page_size, static_cast<std::int32_t>(batch)};
  for (std::int32_t b = 0; b < table.num_requests; ++b) seq_lens[static_cast<std::size_t>(b)] = table.length(b);
}

std::vector<std::int32_t> get_seq_lens(Indices kv_indptr, Indices kv_last_page_len, std::int32_t page_size) {
  std::vector<std::int32_t> lengths(kv_last_page_len.size());
  get_seq_lens(kv_indptr, kv_last_page_len, page_size, lengths);
  return lengths;
}

}  // namespace flashladder::reference
