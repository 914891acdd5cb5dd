#include "reference/mla/latents.hpp"

#include "reference/element_io.hpp"

namespace flashladder::reference {

template <class M>
void load_mla_queries(const MlaProblem& problem, std::int32_t request, std::span<const RowId> rows, M& q) {
  using Feature = typename M::Scalar;
  const MlaParams& p = problem.params;
  q.resize(static_cast<Eigen::Index>(rows.size()), p.head_dim_qk());
  const double pe_factor = problem.pe_factor();
  visit_dtype(problem.q_nope.dtype, [&]<class Element>(Element) {
    const auto row_of = [&](const Tensor& t, RowId id) {
      const std::int64_t row = std::int64_t{problem.qo_indptr[request]} + id.query;
      return t.data_as<const Element>() + row * t.strides[0] + id.head * t.strides[1];
    };
    for (std::size_t r = 0; r < rows.size(); ++r) {
      load_row(row_of(problem.q_nope, rows[r]), p.head_dim_ckv, q.row(r).data());
      auto* pe = q.row(r).data() + p.head_dim_ckv;
      load_row(row_of(problem.q_pe, rows[r]), p.head_dim_kpe, pe);
      for (std::int32_t d = 0; pe_factor != 1 && d < p.head_dim_kpe; ++d) pe[d] = static_cast<Feature>(pe[d] * pe_factor);
    }
  });
}

template <class M>
void load_latents(const MlaProblem& problem, std::int32_t request, Range keys, M& latents) {
  const PagedMlaCache& cache = problem.cache;
  const PageTable table = problem.page_table();
  latents.resize(keys.size(), problem.params.head_dim_qk());
  visit_cache_dtype(cache.dtype, [&]<class Element>(Element) {
    const auto *ckv = static_cast<const Element*>(cache.ckv), *kpe = static_cast<const Element*>(cache.kpe);
    for (std::int32_t token = keys.begin; token < keys.end; ++token) {
      const KvSlot slot = table.locate(request, token);
      auto* row = latents.row(token - keys.begin).data();
      load_row(ckv + cache.ckv_strides.offset(slot), cache.head_dim_ckv, row);
      if (cache.head_dim_kpe == 0) continue;
      load_row(kpe + cache.kpe_strides.offset(slot), cache.head_dim_kpe, row + cache.head_dim_ckv);
    }
  });
}

template void load_mla_queries(const MlaProblem&, std::int32_t, std::span<const RowId>, Matrix<float>&);
template void load_mla_queries(const MlaProblem&, std::int32_t, std::span<const RowId>, Matrix<double>&);
template void load_mla_queries(const MlaProblem&, std::int32_t, std::span<const RowId>, Buffer&);
template void load_latents(const MlaProblem&, std::int32_t, Range, Matrix<float>&);
template void load_latents(const MlaProblem&, std::int32_t, Range, Matrix<double>&);
template void load_latents(const MlaProblem&, std::int32_t, Range, Buffer&);

}  // namespace flashladder::reference
