// From tensors and pages to matrices: the only code of the CPU rungs that touches dtypes, strides and page tables.
// Everything that a request's slots do not hold is never read: unused slots may be NaN.
#pragma once

#include <vector>

#include "core/attention_problem.hpp"
#include "reference/matrix.hpp"

namespace flashladder::reference {

// One row of a query tile: query `query` of its request, query head `head`.
struct RowId {
  std::int32_t query, head;
};
std::vector<RowId> rows_of_head(std::int32_t qo_head, Range queries);
// Packed rows (core/plan.hpp): the heads of one group side by side, so that one pass over K and V serves them all.
std::vector<RowId> rows_of_group(std::int32_t kv_head, std::int32_t group_size, Range packed_rows);

// q [rows, head_dim_qk]; rotated where the problem asks for ROPE_LLAMA. T is float or double.
template <class T>
void load_queries(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows, Matrix<T>& q);

// K [keys, head_dim_qk] (rotated likewise) and V [keys, head_dim_vo] of one KV head, token by token through the page table.
template <class T>
void load_keys(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, Matrix<T>& k);
template <class T>
void load_values(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, Matrix<T>& v);

// Whether K and V can be used where they lie: stored as floats, and not to be rotated.
bool rows_in_place(const AttentionProblem& problem);
// Then these are the addresses of the keys' rows, k[i] and v[i] for key keys.begin + i.
void locate_rows(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, const float** k,
                 const float** v);

}  // namespace flashladder::reference
