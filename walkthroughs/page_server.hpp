// A server in miniature: a pool of page numbers, the cache that the numbers speak of, and requests that grow. What chapter
// 04 does to its pages is done here, with core's pool and the reference's append; the chapter only looks.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/page_pool.hpp"
#include "ladder/cases/case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "reference/append.hpp"

namespace flashladder::walkthroughs {

struct PageServer {
  PagePool pool;
  ladder::Case c;  // the cache, and the page table of all live requests; every request has one query (decode)
  ladder::Random random{11};

  // Every slot starts as NaN, so that a reader of an unused one is found out.
  PageServer(std::int32_t num_pages, std::int32_t page_size, const AttentionParams& params) : pool(num_pages, page_size, 2) {
    c.spec.params = params;
    c.spec.page_size = page_size;
    c.kv_cache = ladder::OwnedTensor(DType::f32, {num_pages, 2, page_size, params.num_kv_heads, params.head_dim_qk});
    fill(c.kv_cache, std::numeric_limits<float>::quiet_NaN());
  }

  // Request i of the live ones grows by tokens[i]: first the table, then the keys and values go where the table says.
  reference::BatchIndicesPositions append(const std::vector<std::int32_t>& tokens) {
    std::vector<std::int32_t> append_indptr{0};
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      pool.append(pool.requests()[i], tokens[i]);
      append_indptr.push_back(append_indptr.back() + tokens[i]);
    }
    refresh();
    const auto lengths = reference::get_seq_lens(c.paged_kv_indptr, c.paged_kv_last_page_len, pool.page_size());
    auto rows = reference::get_batch_indices_positions(append_indptr, lengths, append_indptr.back());
    const ladder::OwnedTensor k = drawn({append_indptr.back(), c.spec.params.num_kv_heads, c.spec.params.head_dim_qk});
    const ladder::OwnedTensor v = drawn(k.shape);
    reference::append_paged_kv_cache(k.view(), v.view(), rows.batch_indices, rows.positions, c.problem().kv,
                                     c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len);
    return rows;
  }

  // A new request begins with the first tokens of another. Full pages are shared; of a partial one the entries are copied.
  PagePool::Fork fork(int request, std::int32_t tokens) {
    const PagePool::Fork fork = pool.fork(request, tokens);
    if (fork.copy) {
      const auto [source, destination, entries] = *fork.copy;
      const PagedKvCache kv = c.problem().kv;  // NHD: the entries of a page, all heads, lie together
      for (void* base : {kv.k, kv.v}) {
        float* const page = static_cast<float*>(base);
        std::copy_n(page + source * kv.k_strides.page, entries * kv.k_strides.entry, page + destination * kv.k_strides.page);
      }
    }
    refresh();
    return fork;
  }

  void remove(int request) {
    pool.remove(request);
    refresh();
  }

  // What lies in a slot: the first feature of KV head 0's key.
  float& key(const PageTable& table, std::int32_t row, std::int32_t token) {
    const PagedKvCache kv = c.problem().kv;
    return static_cast<float*>(kv.k)[kv.k_strides.offset(table.locate(row, token), 0)];
  }

  static void fill(ladder::OwnedTensor& tensor, float value) {
    std::fill_n(tensor.view().data_as<float>(), tensor.size(), value);
  }

 private:
  ladder::OwnedTensor drawn(std::vector<std::int64_t> shape) {
    ladder::OwnedTensor tensor(DType::f32, std::move(shape));
    for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.view().data_as<float>()[i] = static_cast<float>(random.normal());
    return tensor;
  }

  void refresh() {
    const HostPageTable table = pool.table();
    c.paged_kv_indptr = table.indptr;
    c.paged_kv_indices = table.indices;
    c.paged_kv_last_page_len = table.last_page_len;
    const std::int32_t batch = table.view().num_requests;
    c.spec.qo_lens.assign(batch, 1);
    c.spec.kv_lens.clear();
    for (std::int32_t b = 0; b < batch; ++b) c.spec.kv_lens.push_back(table.view().length(b));
    c.qo_indptr.clear();
    for (std::int32_t b = 0; b <= batch; ++b) c.qo_indptr.push_back(b);
    ladder::Random queries(5);  // always the same queries: only the cache decides what changes
    c.q = ladder::OwnedTensor(DType::f32, {batch, c.spec.params.num_qo_heads, c.spec.params.head_dim_qk});
    for (std::int64_t i = 0; i < c.q.size(); ++i) c.q.view().data_as<float>()[i] = static_cast<float>(queries.normal());
  }
};

// Every request a line: its logical pages with their token numbers (. = unused), and the physical page each lies in.
inline std::string show_table(const PageServer& server) {
  const HostPageTable host = server.pool.table();
  const PageTable table = host.view();
  std::string out;
  for (std::int32_t r = 0; r < table.num_requests; ++r) {
    std::string line = "request " + std::to_string(server.pool.requests()[r]) + "  ";
    for (std::int32_t first = 0; first < table.length(r); first += table.page_size) {
      line += " [";
      for (std::int32_t t = first; t < first + table.page_size; ++t) {
        line += (t > first ? " " : "") + (t < table.length(r) ? std::to_string(t) : std::string("."));
      }
      line += "] in page " + std::to_string(table.locate(r, first).page) + "  ";
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

// The pool, a page after the other: who holds it.
inline std::string show_pool(const PagePool& pool) {
  std::string ids = "page   ", holders = "held by";
  for (std::int32_t page = 0; page < pool.num_pages(); ++page) {
    std::string who;
    for (const int r : pool.requests()) {
      if (std::ranges::count(pool.pages(r), page)) who += (who.empty() ? "" : "+") + std::to_string(r);
    }
    const std::string id = std::to_string(page);
    if (who.empty()) who = "-";
    const std::size_t width = std::max(id.size(), who.size()) + 2;
    ids += std::string(width - id.size(), ' ') + id;
    holders += std::string(width - who.size(), ' ') + who;
  }
  return ids + "\n" + holders + "\n";
}

inline std::string show(const std::vector<std::int32_t>& numbers) {
  std::string out;
  for (const std::int32_t n : numbers) out += (out.empty() ? "" : ", ") + std::to_string(n);
  return "[" + out + "]";
}

inline std::string index_arrays(const ladder::Case& c) {
  return "paged_kv_indptr         " + show(c.paged_kv_indptr) + "\npaged_kv_indices        " + show(c.paged_kv_indices) +
         "\npaged_kv_last_page_len  " + show(c.paged_kv_last_page_len) + "\n";
}

// What the library says when it refuses `call`; "" if it does not.
template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

// The same requests without pages: page_size 1, and token t of the whole batch in page t.
inline ladder::Case gathered(const ladder::Case& c) {
  const AttentionProblem problem = c.problem();
  const AttentionParams& params = problem.params;
  ladder::Case flat = c;
  flat.spec.page_size = 1;
  const std::int64_t row = std::int64_t{params.num_kv_heads} * params.head_dim_qk;
  flat.kv_cache = ladder::OwnedTensor(DType::f32, {c.spec.total_kv(), 2, 1, params.num_kv_heads, params.head_dim_qk});
  flat.paged_kv_indptr = {0};
  float* out = flat.kv_cache.view().data_as<float>();
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    for (std::int32_t t = 0; t < problem.kv_len(b); ++t) {
      const std::int64_t from = problem.kv.k_strides.offset(problem.page_table().locate(b, t), 0);
      for (const void* base : {problem.kv.k, problem.kv.v}) {
        out = std::copy_n(static_cast<const float*>(base) + from, row, out);
      }
    }
    flat.paged_kv_indptr.push_back(flat.paged_kv_indptr.back() + problem.kv_len(b));
    flat.paged_kv_last_page_len[b] = 1;
  }
  flat.paged_kv_indices.resize(flat.paged_kv_indptr.back());
  std::iota(flat.paged_kv_indices.begin(), flat.paged_kv_indices.end(), 0);
  return flat;
}

}  // namespace flashladder::walkthroughs
