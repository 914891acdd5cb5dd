// One object of plan and run over some requests of a batch, on a stream of its own.
#pragma once

#include "batch.hpp"

// Requests over pages of the batch's cache. `page_ids` lie where attention runs.
struct Requests {
  std::vector<std::int32_t> indptr{0}, last_page_len;
  std::span<const std::int32_t> page_ids;

  void add(int pages, int last) {
    indptr.push_back(indptr.back() + pages);
    last_page_len.push_back(last);
  }
};

// Requests first .. last - 1 of the batch.
inline Requests part_of(Batch& b, int first, int last) {
  const auto& indptr = b.table.indptr;
  const auto at = [](int i) { return static_cast<std::size_t>(i); };
  Requests part;
  for (int r = first; r < last; ++r) part.add(indptr[at(r) + 1] - indptr[at(r)], b.table.last_page_len[at(r)]);
  part.page_ids = b.page_ids().subspan(at(indptr[at(first)]), at(part.indptr.back()));
  return part;
}

// Rows first .. of a [rows, num_qo_heads, head_dim].
inline fl::Tensor rows_from(const Batch& b, Array<fl::Half>& a, int first, int rows) {
  return fl::contiguous(a.data() + std::ptrdiff_t{first} * num_qo_heads * b.head_dim, fl::DType::f16,
                        {rows, num_qo_heads, b.head_dim});
}

inline api::AttentionConfig with_policy(const Batch& b, fl::SplitPolicy policy) {
  api::AttentionConfig config = b.config(fl::MaskMode::none);
  config.execution.policy = policy;
  return config;
}

class Decode {
 public:
  // q and o: rows of the same requests.
  Decode(Batch& b, const api::AttentionConfig& config, Requests requests, const fl::Tensor& q, const fl::Tensor& o,
         api::Stream stream = nullptr)
      : requests_(std::move(requests)), kv_(b.kv(0)), q_(q), o_(o), stream_(stream),
        memory_(Object::workspace_bytes(config, requests_.indptr, requests_.last_page_len)),
        object_(config, memory_.workspace()) {
    object_.plan(requests_.indptr, requests_.last_page_len, stream_);
  }
  void run() { object_.run(q_, kv_, requests_.page_ids, {o_, {}}, stream_); }
  const fl::Plan& plan() const { return object_.current_plan(); }

 private:
  using Object = api::BatchDecodeWithPagedKVCache;

  Requests requests_;
  fl::PagedKvCache kv_;
  fl::Tensor q_, o_;
  api::Stream stream_;
  Memory memory_;
  Object object_;
};
