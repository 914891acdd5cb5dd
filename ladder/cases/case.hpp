// A case with its data: everything an AttentionProblem borrows, in host memory. Drawn from a spec (drawn/) or read from a
// file (files/).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/attention_problem.hpp"
#include "core/mla_problem.hpp"
#include "ladder/cases/case_spec.hpp"
#include "ladder/cases/memory/owned_tensor.hpp"

namespace flashladder::ladder {

struct Case {
  CaseSpec spec;
  OwnedTensor q;                                     // [nnz_qo, num_qo_heads, head_dim_qk]
  OwnedTensor kv_cache;                              // 5-D (core/kv_cache.hpp), or
  OwnedTensor k_cache, v_cache;                      // 4-D each: spec.one_cache_tensor() says which
  // Op mla: q [nnz_qo, num_heads, head_dim_ckv + head_dim_kpe] and k_cache [pages, page_size, 1, the same] hold both parts
  // side by side, there is no other cache; and where spec.combined_cache is off, these hold the parts apart.
  OwnedTensor q_nope, q_pe;                          // [nnz_qo, num_heads, head_dim_ckv], [..., head_dim_kpe]
  OwnedTensor ckv_cache, kpe_cache;                  // [pages, page_size, head_dim_ckv], [..., head_dim_kpe]
  std::vector<std::int32_t> qo_indptr;               // [batch + 1]
  // The page lists, always; with spec.block_table the same as a table, which is what problem() then has.
  std::vector<std::int32_t> paged_kv_indptr;         // [batch + 1]
  std::vector<std::int32_t> paged_kv_indices;        // [paged_kv_indptr[batch]]
  std::vector<std::int32_t> paged_kv_last_page_len;  // [batch]
  std::vector<std::int32_t> block_tables;            // [batch, max_pages], or empty; seq_lens is spec.kv_lens
  std::vector<std::uint8_t> custom_mask;             // [sum of qo_len * kv_len], or empty
  std::vector<float> sinks;                          // [num_qo_heads], or empty
  std::vector<float> k_scale, v_scale;               // [1] or [num_kv_heads], or empty: 1. mla: one number, of both parts
  OwnedTensor expected_o;                            // [nnz_qo, num_qo_heads, head_dim_vo] f32 or f64, if a file gave it
  OwnedTensor expected_lse_log2;                     // [nnz_qo, num_qo_heads] f32 or f64, if a file gave it
  std::map<std::string, std::string> notes;          // a file's metadata whose keys begin with x-

  // Borrows from this case, which must outlive it and stay where it is. Throws InputError if the cache's shapes contradict
  // each other; anything else is core validate()'s to find.
  AttentionProblem problem() const;
  // The same of op mla, as latent attention; problem() has it as multi-query attention.
  MlaProblem mla() const;
};

}  // namespace flashladder::ladder
