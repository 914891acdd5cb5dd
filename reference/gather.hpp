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

// q [rows, head_dim_qk]; rotated where the problem asks for ROPE_LLAMA. M is Matrix<float>, Matrix<double> or Buffer.
template <class M>
void load_queries(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows, M& q);

// K [keys, head_dim_qk] (rotated likewise) and V [keys, head_dim_vo] of one KV head, token by token through the page table.
template <class M>
void load_keys(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, M& k);
template <class M>
void load_values(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, M& v);

// Whether K and V can be used where they lie: stored as floats, and not to be rotated.
bool rows_in_place(const AttentionProblem& problem);
// Then these are the addresses of the keys' rows, k[i] and v[i] for key keys.begin + i.
void locate_rows(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, const float** k,
                 const float** v);

}  // namespace flashladder::reference
