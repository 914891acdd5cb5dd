#include "reference/gather.hpp"

#include "core/rope.hpp"
#include "reference/element_io.hpp"

namespace flashladder::reference {
namespace {

template <class T>
void rotate(const AttentionParams& p, std::int64_t position, T* head) {
  if (p.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA) return;
  apply_rope(head, RopeStyle::neox, position, p.head_dim_qk, p.rope_scale, p.rope_theta);
}

template <class M>
void load_tokens(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, const void* base,
                 const KvStrides& strides, std::int32_t dim, M& out) {
  const PageTable table = problem.page_table();
  out.resize(keys.size(), dim);
  visit_cache_dtype(problem.kv.dtype, [&]<class Element>(Element) {
    const auto* elements = static_cast<const Element*>(base);
    for (std::int32_t token = keys.begin; token < keys.end; ++token) {
      const std::int64_t offset = strides.offset(table.locate(request, token), kv_head);
      load_row(elements + offset, dim, out.row(token - keys.begin).data());
    }
  });
}

}  // namespace

bool rows_in_place(const AttentionProblem& problem) {
  return problem.kv.dtype == DType::f32 && problem.params.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA;
}

void locate_rows(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, const float** k,
                 const float** v) {
  const PageTable table = problem.page_table();
  for (std::int32_t token = keys.begin; token < keys.end; ++token) {
    const KvSlot slot = table.locate(request, token);
    *k++ = static_cast<const float*>(problem.kv.k) + problem.kv.k_strides.offset(slot, kv_head);
    *v++ = static_cast<const float*>(problem.kv.v) + problem.kv.v_strides.offset(slot, kv_head);
  }
}

std::vector<RowId> rows_of_head(std::int32_t qo_head, Range queries) {
  std::vector<RowId> rows;
  for (std::int32_t i = queries.begin; i < queries.end; ++i) rows.push_back({i, qo_head});
  return rows;
}

template <class M>
void load_queries(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows, M& q) {
  const std::int64_t diagonal = std::int64_t{problem.kv_len(request)} - problem.qo_len(request);
  q.resize(static_cast<Eigen::Index>(rows.size()), problem.params.head_dim_qk);
  visit_dtype(problem.q.dtype, [&]<class Element>(Element) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const std::int64_t row = problem.qo_indptr[request] + rows[r].query;
      const auto* head =
          problem.q.data_as<const Element>() + row * problem.q.strides[0] + rows[r].head * problem.q.strides[1];
      load_row(head, problem.params.head_dim_qk, q.row(r).data());
      rotate(problem.params, rows[r].query + diagonal, q.row(r).data());
    }
  });
}

template <class M>
void load_keys(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, M& k) {
  load_tokens(problem, request, kv_head, keys, problem.kv.k, problem.kv.k_strides, problem.kv.head_dim_qk, k);
  for (std::int32_t j = keys.begin; j < keys.end; ++j) rotate(problem.params, j, k.row(j - keys.begin).data());
}

template <class M>
void load_values(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, M& v) {
  load_tokens(problem, request, kv_head, keys, problem.kv.v, problem.kv.v_strides, problem.kv.head_dim_vo, v);
}

template void load_queries(const AttentionProblem&, std::int32_t, std::span<const RowId>, Matrix<float>&);
template void load_keys(const AttentionProblem&, std::int32_t, std::int32_t, Range, Matrix<float>&);
template void load_values(const AttentionProblem&, std::int32_t, std::int32_t, Range, Matrix<float>&);
template void load_queries(const AttentionProblem&, std::int32_t, std::span<const RowId>, Matrix<double>&);
template void load_keys(const AttentionProblem&, std::int32_t, std::int32_t, Range, Matrix<double>&);
template void load_values(const AttentionProblem&, std::int32_t, std::int32_t, Range, Matrix<double>&);
template void load_queries(const AttentionProblem&, std::int32_t, std::span<const RowId>, Buffer&);
template void load_keys(const AttentionProblem&, std::int32_t, std::int32_t, Range, Buffer&);
template void load_values(const AttentionProblem&, std::int32_t, std::int32_t, Range, Buffer&);

}  // namespace flashladder::reference
