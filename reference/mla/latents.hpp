// From tensors and pages to matrices, for the MLA rungs: what gather.hpp is for attention. A latent row is a token's ckv with
// its kpe behind it, as one row of the matrix, whether or not they lie together; a query row likewise q_nope and q_pe.
#pragma once

#include <span>

#include "core/mla_problem.hpp"
#include "reference/gather.hpp"
#include "reference/matrix.hpp"

namespace flashladder::reference {

// q [rows, head_dim_qk]: head_dim_ckv features of q_nope, then those of q_pe, multiplied with problem.pe_factor(). M is
// Matrix<float>, Matrix<double> or Buffer.
template <class M>
void load_mla_queries(const MlaProblem& problem, std::int32_t request, std::span<const RowId> rows, M& q);

// latents [keys, head_dim_qk], as they are stored, token by token through the page table: K; its first head_dim_ckv columns
// are V.
template <class M>
void load_latents(const MlaProblem& problem, std::int32_t request, Range keys, M& latents);

}  // namespace flashladder::reference
