// What the tests of api/ on the CPU and on the GPU share: configs and batches of drawn cases, and what o should be.
#pragma once

#include <cstring>
#include <vector>

#include "api/batch_decode.hpp"
#include "ladder/cases/case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/compare.hpp"
#include "reference/element_io.hpp"

namespace flashladder::test {

inline api::AttentionConfig config_of(const ladder::CaseSpec& spec, Device device, DType o_dtype) {
  api::AttentionConfig config = api::config_for(spec.params, {.page_size = spec.page_size, .dtype = spec.cache_dtype()},
                                                {.device = device, .threads = 2});
  if (spec.kv_dtype) config.q_dtype = spec.dtype;
  config.o_dtype = o_dtype;
  return config;
}

// As a decode: one query each, no custom mask.
inline ladder::CaseSpec one_query_each(ladder::CaseSpec spec) {
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.custom_mask = ladder::CustomMask::none;
  if (spec.params.mask == MaskMode::custom) spec.params.mask = MaskMode::none;
  return spec;
}

// What a 16-bit o holds, if an f32 one holds `values`: each rounded once.
inline std::vector<std::byte> rounded(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  const Tensor t = contiguous(bytes.data(), dtype, {static_cast<std::int64_t>(values.size())});
  reference::store_row(values.data(), static_cast<std::int64_t>(values.size()), t, 0);
  return bytes;
}

// The requests of a batch that the same pool serves: some of the case's, in any order, some of them none at all, some twice.
struct Batch {
  std::vector<std::int32_t> requests;  // -1: an empty one
  std::vector<std::int32_t> paged_kv_indptr{0}, paged_kv_indices, paged_kv_last_page_len;

  void add(const ladder::Case& c, std::int32_t request) {
    requests.push_back(request);
    if (request >= 0) {
      const auto begin = c.paged_kv_indices.begin();
      paged_kv_indices.insert(paged_kv_indices.end(), begin + c.paged_kv_indptr[request],
                              begin + c.paged_kv_indptr[request + 1]);
    }
    paged_kv_indptr.push_back(static_cast<std::int32_t>(paged_kv_indices.size()));
    paged_kv_last_page_len.push_back(request < 0 ? 0 : c.paged_kv_last_page_len[request]);
  }
  std::int32_t size() const { return static_cast<std::int32_t>(requests.size()); }
};

inline Batch whole_batch(const ladder::Case& c) {
  Batch batch;
  for (std::int32_t b = 0; b < c.spec.batch(); ++b) batch.add(c, b);
  return batch;
}

// At most max_batch requests and max_pages pages.
inline Batch random_batch(const ladder::Case& c, ladder::Random& random, std::int32_t max_batch, std::int64_t max_pages) {
  Batch batch;
  const auto wanted = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(max_batch) + 1));
  while (batch.size() < wanted) {
    const auto request = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(c.spec.batch()) + 1)) - 1;
    const std::int32_t pages = request < 0 ? 0 : c.paged_kv_indptr[request + 1] - c.paged_kv_indptr[request];
    batch.add(c, static_cast<std::int64_t>(batch.paged_kv_indices.size()) + pages <= max_pages ? request : -1);
  }
  return batch;
}

// The rows of q, one for each request of the batch; an empty one gets the first row. At least min_rows.
inline std::vector<std::byte> rows_of(const ladder::OwnedTensor& q, const Batch& batch, std::size_t min_rows = 0) {
  const std::size_t row = q.bytes.size() / static_cast<std::size_t>(q.shape[0]);
  std::vector<std::byte> bytes(std::max(min_rows, batch.requests.size()) * row, std::byte{0xff});
  for (std::size_t b = 0; b < batch.requests.size(); ++b) {
    const auto from = static_cast<std::size_t>(std::max(batch.requests[b], 0));
    std::memcpy(bytes.data() + b * row, q.bytes.data() + from * row, row);
  }
  return bytes;
}

}  // namespace flashladder::test
