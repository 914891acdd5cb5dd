#include "ladder/cases/case.hpp"

#include <cstddef>

namespace flashladder::ladder {
namespace {

// Features [first, first + count) of a tensor's last dimension.
Tensor features(Tensor t, std::int64_t first, std::int64_t count) {
  t.data = static_cast<std::byte*>(t.data) + first * static_cast<std::int64_t>(size_of(t.dtype));
  t.shape[static_cast<std::size_t>(t.rank) - 1] = count;
  return t;
}

// [pages, page_size, 1, features] without its one head.
Tensor without_head(Tensor t) {
  t.rank = 3;
  t.shape[2] = t.shape[3];
  t.strides[2] = t.strides[3];
  return t;
}

PagedKvCache cache_of(const Case& c) {
  if (c.spec.op == Op::mla) {
    return paged_kv_cache(c.k_cache.view(), features(c.k_cache.view(), 0, c.spec.params.head_dim_vo), KvLayout::NHD);
  }
  return c.spec.one_cache_tensor() ? paged_kv_cache(c.kv_cache.view(), c.spec.kv_layout)
                                   : paged_kv_cache(c.k_cache.view(), c.v_cache.view(), c.spec.kv_layout);
}

}  // namespace

namespace {

void set_scale(std::span<const float> given, float& number, std::span<const float>& per_head) {
  if (given.size() == 1) {
    number = given[0];
  } else {
    per_head = given;
  }
}

}  // namespace

AttentionProblem Case::problem() const {
  AttentionProblem problem;
  problem.params = spec.params;
  problem.q = q.view();
  problem.kv = cache_of(*this);
  problem.qo_indptr = qo_indptr;
  problem.custom_mask = custom_mask;
  problem.sinks = sinks;
  set_scale(k_scale, problem.scales.k, problem.scales.k_per_head);
  set_scale(v_scale, problem.scales.v, problem.scales.v_per_head);
  if (spec.block_table && spec.batch() > 0) {
    problem.block_tables = block_tables;
    problem.seq_lens = spec.kv_lens;
  } else {
    problem.paged_kv_indptr = paged_kv_indptr;
    problem.paged_kv_indices = paged_kv_indices;
    problem.paged_kv_last_page_len = paged_kv_last_page_len;
  }
  return problem;
}

MlaProblem Case::mla() const {
  const AttentionProblem as_attention = problem();
  MlaProblem m;
  m.params = spec.mla_params();
  m.scales = {.k = as_attention.scales.k, .kpe = as_attention.scales.k, .v = as_attention.scales.v};
  const std::int32_t ckv = m.params.head_dim_ckv, kpe = m.params.head_dim_kpe;
  if (spec.combined_cache) {
    m.q_nope = features(q.view(), 0, ckv);
    m.q_pe = features(q.view(), ckv, kpe);
    m.cache = paged_mla_cache(without_head(k_cache.view()), ckv);
  } else {
    m.q_nope = q_nope.view();
    m.q_pe = q_pe.view();
    m.cache = paged_mla_cache(ckv_cache.view(), kpe_cache.view());
  }
  m.qo_indptr = as_attention.qo_indptr;
  m.paged_kv_indptr = as_attention.paged_kv_indptr;
  m.paged_kv_indices = as_attention.paged_kv_indices;
  m.paged_kv_last_page_len = as_attention.paged_kv_last_page_len;
  m.block_tables = as_attention.block_tables;
  m.seq_lens = as_attention.seq_lens;
  return m;
}

}  // namespace flashladder::ladder
