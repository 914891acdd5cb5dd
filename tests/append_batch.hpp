// A random batch to append to: page tables over shuffled pages, pools in any layout, rows in random order with padding.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "core/kv_cache.hpp"
#include "core/page_table.hpp"
#include "tests/ops_data.hpp"

namespace ops_test {

using Ints = std::vector<std::int32_t>;

struct AppendCase {
  DType dtype = DType::f16;
  int heads = 8, dim_k = 128, dim_v = 128, page_size = 16, batch = 3, longest = 70, most_rows = 40;
  flashladder::KvLayout layout = flashladder::KvLayout::NHD;
  bool one_tensor = false;  // needs dim_k == dim_v
  std::int64_t pad = 8;
};

struct AppendBatch {
  Ints indptr{0}, indices, last, lens;  // the page table
  Ints requests, positions;             // rows, -1 for padding
  int pages = 0;

  AppendBatch(const AppendCase& c, std::mt19937& random) {
    const auto any = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    for (int b = 0; b < c.batch; ++b) {
      lens.push_back(any(0, 3) == 0 ? 0 : any(1, c.longest));
      indptr.push_back(indptr.back() + flashladder::pages_for(lens.back(), c.page_size));
      last.push_back(flashladder::last_page_len_for(lens.back(), c.page_size));
    }
    pages = indptr.back() + 3;  // some are nobody's
    indices.resize(pages);
    std::iota(indices.begin(), indices.end(), 0);
    std::shuffle(indices.begin(), indices.end(), random);
    indices.resize(indptr.back());
    std::vector<std::pair<int, int>> tokens;
    for (int b = 0; b < c.batch; ++b) {
      for (int t = 0; t < lens[b]; ++t) tokens.emplace_back(b, t);
    }
    std::shuffle(tokens.begin(), tokens.end(), random);
    tokens.resize(std::min<std::size_t>(tokens.size(), any(0, c.most_rows)));
    for (const auto& [request, position] : tokens) {
      if (any(0, 5) == 0) add(-1, -1234567);  // a position that nothing may follow
      add(request, position);
    }
    add(-1, 1 << 30);
  }
  int nnz() const { return static_cast<int>(requests.size()); }

  // Where the rows go, as slots.
  std::vector<std::int64_t> slots(int page_size) const {
    std::vector<std::int64_t> all;
    for (int i = 0; i < nnz(); ++i) {
      if (requests[i] < 0) {
        all.push_back(-1);
        continue;
      }
      const int page = indices[indptr[requests[i]] + positions[i] / page_size];
      all.push_back(std::int64_t{page} * page_size + positions[i] % page_size);
    }
    return all;
  }

 private:
  void add(int request, int position) {
    requests.push_back(request);
    positions.push_back(position);
  }
};

// K and V pools, all NaN.
struct AppendPools {
  std::unique_ptr<Padded> k, v;  // v is null where one tensor holds both
  flashladder::KvLayout layout;

  AppendPools(const AppendCase& c, int pages) : layout(c.layout) {
    const auto shape = [&](std::int64_t dim) {
      std::vector<std::int64_t> s{pages, c.page_size, c.heads, dim};
      if (layout == flashladder::KvLayout::HND) std::swap(s[1], s[2]);
      if (c.one_tensor) s.insert(s.begin() + 1, 2);
      return s;
    };
    k = std::make_unique<Padded>(c.dtype, shape(c.dim_k), c.pad);
    if (!c.one_tensor) v = std::make_unique<Padded>(c.dtype, shape(c.dim_v), 2 * c.pad);
  }
  // The cache over these tensors, or over others of the same form.
  flashladder::PagedKvCache cache(const Tensor& k_tensor, const Tensor* v_tensor) const {
    return v ? flashladder::paged_kv_cache(k_tensor, *v_tensor, layout) : flashladder::paged_kv_cache(k_tensor, layout);
  }
  flashladder::PagedKvCache cache() const { return cache(k->t(), v ? &v->t() : nullptr); }
};

}  // namespace ops_test
