#include "reference/append.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/op_checks.hpp"
#include "core/page_table.hpp"
#include "core/validate.hpp"

namespace flashladder::reference {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

struct Write {
  std::int64_t row;
  std::int32_t request;
  KvSlot slot;
};

// Where every row goes; rows to skip are left out.
std::vector<Write> locate_rows(const PageTable& table, std::span<const std::int32_t> batch_indices,
                               std::span<const std::int32_t> positions) {
  std::vector<Write> writes;
  writes.reserve(batch_indices.size());
  for (std::size_t i = 0; i < batch_indices.size(); ++i) {
    const std::int32_t request = batch_indices[i], position = positions[i];
    if (request == -1) continue;
    const auto row = static_cast<std::int64_t>(i);
    require(request >= 0 && request < table.num_requests, element("batch_indices", row).c_str(), request,
            "must be a request of the page table, or -1 to skip the row");
    require(position >= 0 && position < table.length(request), element("positions", row).c_str(), position,
            "must be a token that the page table already includes", request);
    writes.push_back({row, request, table.locate(request, position)});
  }
  return writes;
}

// Sorted by slot, rows that collide are neighbours.
void check_collisions(std::vector<Write> writes, std::span<const std::int32_t> positions) {
  std::sort(writes.begin(), writes.end(), [](const Write& a, const Write& b) {
    return std::tie(a.slot.page, a.slot.entry, a.row) < std::tie(b.slot.page, b.slot.entry, b.row);
  });
  for (std::size_t i = 1; i < writes.size(); ++i) {
    const Write &a = writes[i - 1], &b = writes[i];
    if (a.slot.page != b.slot.page) continue;
    const std::string argument = element("positions", b.row), value = std::to_string(positions[b.row]);
    const std::string page = "page " + std::to_string(b.slot.page), other = "row " + std::to_string(a.row);
    if (a.request != b.request) {
      throw InputError(argument, value, "must not write to " + page + ", to which " + other + " of request " +
                       std::to_string(a.request) + " writes too: a shared page is read only", b.request);
    }
    if (a.slot == b.slot) throw InputError(argument, value, "must not be the slot of " + other + " too", b.request);
  }
}

void copy_row(const Tensor& rows, std::int64_t row, void* pool, const KvStrides& strides, KvSlot slot) {
  const auto bytes = static_cast<std::int64_t>(size_of(rows.dtype));
  for (std::int32_t head = 0; head < rows.shape[1]; ++head) {
    const auto* from = rows.data_as<const std::byte>() + (row * rows.strides[0] + head * rows.strides[1]) * bytes;
    std::memcpy(static_cast<std::byte*>(pool) + strides.offset(slot, head) * bytes, from, rows.shape[2] * bytes);
  }
}

}  // namespace

void append_paged_kv_cache(const Tensor& append_key, const Tensor& append_value, std::span<const std::int32_t> batch_indices,
                           std::span<const std::int32_t> positions, const PagedKvCache& paged_kv_cache,
                           std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                           std::span<const std::int32_t> paged_kv_last_page_len) {
  const PagedKvCache& cache = paged_kv_cache;
  check_append(append_key, append_value, batch_indices, positions, cache);
  validate_page_table(paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, cache.page_size);
  validate_page_ids(paged_kv_indptr, paged_kv_indices, cache.num_pages);

  const PageTable table{paged_kv_indptr.data(), paged_kv_indices.data(), paged_kv_last_page_len.data(), cache.page_size,
                        static_cast<std::int32_t>(paged_kv_last_page_len.size())};
  const std::vector<Write> writes = locate_rows(table, batch_indices, positions);
  check_collisions(writes, positions);
  for (const Write& w : writes) {
    copy_row(append_key, w.row, cache.k, cache.k_strides, w.slot);
    copy_row(append_value, w.row, cache.v, cache.v_strides, w.slot);
  }
}

BatchIndicesPositions get_batch_indices_positions(std::span<const std::int32_t> append_indptr,
                                                  std::span<const std::int32_t> seq_lens, std::int32_t nnz) {
  const auto batch = static_cast<std::int32_t>(seq_lens.size());
  check_span("seq_lens", seq_lens, batch);
  check_indptr("append_indptr", append_indptr, batch);
  require(nnz >= append_indptr.back(), "nnz", nnz, "must be at least the last entry of append_indptr");
  for (std::int32_t b = 0; b < batch; ++b) {
    require(append_indptr[b + 1] - append_indptr[b] <= seq_lens[b], "seq_lens", seq_lens[b],
            "must include the appended tokens", b);
  }
  BatchIndicesPositions rows{std::vector<std::int32_t>(nnz, -1), std::vector<std::int32_t>(nnz, 0)};
  for (std::int32_t b = 0; b < batch; ++b) {
    for (std::int32_t i = append_indptr[b]; i < append_indptr[b + 1]; ++i) {
      rows.batch_indices[i] = b;
      rows.positions[i] = seq_lens[b] - (append_indptr[b + 1] - i);
    }
  }
  return rows;
}

std::vector<std::int32_t> get_seq_lens(std::span<const std::int32_t> kv_indptr,
                                       std::span<const std::int32_t> kv_last_page_len, std::int32_t page_size) {
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  const auto batch = static_cast<std::int32_t>(kv_last_page_len.size());
  check_span("kv_last_page_len", kv_last_page_len, batch);
  check_indptr("kv_indptr", kv_indptr, batch);
  for (std::int32_t b = 0; b < batch; ++b) {
    const std::int64_t pages = kv_indptr[b + 1] - kv_indptr[b], last = kv_last_page_len[b];
    if (pages == 0) continue;
    require(last >= 1 && last <= page_size, "kv_last_page_len", last, "must be 1 .. page_size", b);
    const std::int64_t tokens = (pages - 1) * page_size + last;
    require(tokens <= int32_max, "kv_indptr", tokens, "must not make a request longer than 2^31 - 1 tokens", b);
  }
  const PageTable table{kv_indptr.data(), nullptr, kv_last_page_len.data(), page_size, batch};
  std::vector<std::int32_t> lengths(batch);
  for (std::int32_t b = 0; b < batch; ++b) lengths[b] = table.length(b);
  return lengths;
}

}  // namespace flashladder::reference
