// A batch of requests over a paged cache (32 query heads, pages of 16, f16), and the formula in double for some of its rows.
#pragma once

#include <unistd.h>

#include "support.hpp"

constexpr int num_qo_heads = 32, page_size = 16;

struct KvShape {
  int num_kv_heads = 8, head_dim = 128;
  fl::KvLayout layout = fl::KvLayout::NHD;
};

struct Batch {
  int batch, qo_len;
  int num_kv_heads, head_dim;
  fl::KvLayout layout;
  fl::PagePool pool;
  fl::HostPageTable table;
  std::vector<std::int32_t> qo_indptr;
  Array<std::int32_t> indices;
  Array<fl::Half> q, o;
  std::vector<Array<fl::Half>> caches;  // one a layer

  Batch(const std::vector<int>& kv_lens, int qo_len_, int layers, KvShape shape = {})
      : batch(fitting(kv_lens, qo_len_, layers, shape)), qo_len(qo_len_), num_kv_heads(shape.num_kv_heads),
        head_dim(shape.head_dim), layout(shape.layout),
        pool(pages_for(kv_lens), page_size, 7), table(filled(pool, kv_lens)),
        qo_indptr(static_cast<std::size_t>(batch) + 1), indices(table.indices),
        q(drawn(rows() * num_qo_heads * dim(), 1)), o(drawn(rows() * num_qo_heads * dim(), 2)) {
    for (int b = 0; b <= batch; ++b) qo_indptr[static_cast<std::size_t>(b)] = b * qo_len;
    const auto elements = static_cast<std::size_t>(pool.num_pages()) * 2 * page_size * kv_row();
    for (int l = 0; l < layers; ++l) caches.push_back(drawn(elements, 10u + static_cast<unsigned>(l)));
  }
  Batch(int batch_, int qo_len_, int kv_len, int layers)  // all of one length
      : Batch(std::vector<int>(static_cast<std::size_t>(batch_), kv_len), qo_len_, layers) {}

  std::size_t rows() const { return static_cast<std::size_t>(batch) * static_cast<std::size_t>(qo_len); }
  fl::Tensor rows_of(Array<fl::Half>& a) const {
    return tensor(a, {static_cast<std::int64_t>(rows()), num_qo_heads, head_dim});
  }
  fl::PagedKvCache kv(int layer) {
    Array<fl::Half>& cache = caches[static_cast<std::size_t>(layer)];
    const int pages = pool.num_pages();
    if (layout == fl::KvLayout::NHD) {
      return paged_kv_cache(tensor(cache, {pages, 2, page_size, num_kv_heads, head_dim}), layout);
    }
    return paged_kv_cache(tensor(cache, {pages, 2, num_kv_heads, page_size, head_dim}), layout);
  }
  std::span<const std::int32_t> page_ids() { return {indices.data(), indices.host.size()}; }
  api::AttentionConfig config(fl::MaskMode mask) const {
    return {.heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = head_dim},
            .cache = {.page_size = page_size}, .logits = {.mask = mask}, .execution = {.device = api::best_device()}};
  }

 private:
  // How many requests, if q, o and the caches leave half of the machine's memory free; else the program ends.
  static int fitting(const std::vector<int>& kv_lens, int qo_len, int layers, const KvShape& shape) {
    double tokens = 0;
    for (const int len : kv_lens) tokens += len + page_size;  // the last page may have one token
    const double row = sizeof(fl::Half) * static_cast<double>(shape.head_dim);
    const double bytes = 2 * row * (tokens * shape.num_kv_heads * layers +
                                    1.0 * static_cast<double>(kv_lens.size()) * qo_len * num_qo_heads);
    const double memory = 1.0 * static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
    if (bytes <= memory / 2) return static_cast<int>(kv_lens.size());
    std::fprintf(stderr, "%zu requests: q, o and %d caches of such a batch take %.3g GB, more than half of this machine's "
                 "%.3g GB of memory\n", kv_lens.size(), layers, bytes * 1e-9, memory * 1e-9);
    std::exit(2);
  }
  std::size_t dim() const { return static_cast<std::size_t>(head_dim); }
  std::size_t kv_row() const { return static_cast<std::size_t>(num_kv_heads) * dim(); }
  static int pages_for(const std::vector<int>& kv_lens) {
    int pages = 0;
    for (const int len : kv_lens) pages += (len + page_size - 1) / page_size;
    return pages;
  }
  static fl::HostPageTable filled(fl::PagePool& pool, const std::vector<int>& kv_lens) {
    for (const int len : kv_lens) pool.append(pool.add_request(), len);
    return pool.table();
  }
};

// Of 64 rows, from all over the batch: o by softmax(q K^T / sqrt(head_dim)) V in double, query i seeing the keys up to its
// own. An output of f16 is off by its own rounding, and by that of the weights that a tensor core multiplies: each at most
// some 2^-10 of the size of a row's features. 2^-8 of it is allowed; zeros, or another row's output, are off by all of it.
// Prints the verdict.
inline bool is_right(Batch& b, int layer) {
  b.o.download();
  const int head_dim = b.head_dim, group = num_qo_heads / b.num_kv_heads;
  const auto dim = static_cast<std::size_t>(head_dim);
  const fl::PageTable table = b.table.view();
  const fl::PagedKvCache kv = b.kv(layer);
  const fl::Half* const keys = b.caches[static_cast<std::size_t>(layer)].host.data();
  const fl::Half* const values = keys + (static_cast<const fl::Half*>(kv.v) - static_cast<const fl::Half*>(kv.k));
  double worst = 0;
  for (std::size_t sample = 0; sample < 64; ++sample) {
    const std::size_t all = b.rows() * num_qo_heads, row = (sample * (all - 1)) / 63;
    const int query = static_cast<int>(row / num_qo_heads) % b.qo_len, head = static_cast<int>(row % num_qo_heads);
    const int request = static_cast<int>(row / num_qo_heads) / b.qo_len, kv_head = head / group;
    const fl::Half* q = &b.q.host[row * dim];
    std::vector<double> o(dim, 0.0);
    double sum = 0, size = 0, error = 0;
    for (int j = 0; j <= query + table.length(request) - b.qo_len; ++j) {
      const fl::KvSlot slot = table.locate(request, j);
      const fl::Half *k = keys + kv.k_strides.offset(slot, kv_head), *v = values + kv.v_strides.offset(slot, kv_head);
      double dot = 0;
      for (int d = 0; d < head_dim; ++d) dot += double{static_cast<float>(q[d])} * static_cast<float>(k[d]);
      const double weight = std::exp(dot / std::sqrt(head_dim));
      sum += weight;
      for (int d = 0; d < head_dim; ++d) o[static_cast<std::size_t>(d)] += weight * static_cast<float>(v[d]);
    }
    for (std::size_t d = 0; d < dim; ++d) {
      const double want = o[d] / sum, off = std::fabs(static_cast<float>(b.o.host[row * dim + d]) - want);
      size += want * want / head_dim;
      error = off <= error ? error : std::isnan(off) ? HUGE_VAL : off;
    }
    worst = std::max(worst, error / std::sqrt(size));
  }
  const bool right = worst <= 0x1p-8;
  std::printf("  Output: %s the formula in double on 64 rows, largest error %.1e of a row's size (%.1e allowed)\n",
              right ? "equals" : "DOES NOT EQUAL", worst, 0x1p-8);
  return right;
}
