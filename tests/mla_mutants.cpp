// The proof that the tests of latent attention can fail: deliberately broken ones, each of which agree() must reject somewhere
// on the case table. The same code without a mistake must pass everywhere.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "ladder/adapters.hpp"
#include "ladder/case_table.hpp"
#include "reference/element_io.hpp"
#include "tests/rejecting_cases.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

enum class Mistake {
  none, pe_lost, pe_twice, scale_of_576, scale_lost, value_from_kpe, value_with_kpe_shift, top_left_causal, diagonal_lost,
  lost_last_page, last_key_lost, full_last_page, identity_pages, kpe_page_stride, head_0_pe, query_0, natural_lse,
  empty_row_not_written, one_row_too_far, no_rescale, piece_not_weighed, row_scale_not_in_logits, row_scale_not_in_kpe,
  row_scale_not_in_values, row_scale_twice, fp8_formats_swapped,
};

struct Attention {
  Mistake mistake;
  const MlaProblem& problem;
  const MlaParams& p = problem.params;
  std::int32_t b = 0, h = 0, i = 0;  // request, head, query

  bool is(Mistake m) const { return mistake == m; }

  template <class T>
  std::vector<T> load(DType dtype, const void* base, std::int64_t offset, std::int32_t dim) const {
    std::vector<T> out(static_cast<std::size_t>(dim));
    if (is(Mistake::fp8_formats_swapped) && is_fp8(dtype)) {
      dtype = dtype == DType::f8_e4m3 ? DType::f8_e5m2 : DType::f8_e4m3;
    }
    reference::visit_cache_dtype(dtype, [&]<class Element>(Element) {
      reference::load_row(static_cast<const Element*>(base) + offset, dim, out.data());
    });
    return out;
  }
  std::vector<float> query(const Tensor& q, std::int32_t dim) const {
    const std::int64_t row = problem.qo_indptr[b] + (is(Mistake::query_0) ? 0 : i);
    const std::int32_t head = is(Mistake::head_0_pe) && &q == &problem.q_pe ? 0 : h;
    return load<float>(q.dtype, q.data, row * q.strides[0] + head * q.strides[1], dim);
  }
  // The latent row of key j: ckv, then kpe.
  std::vector<float> latent(std::int32_t j) const {
    const PagedMlaCache& cache = problem.cache;
    KvSlot slot = problem.page_table().locate(b, j);
    if (is(Mistake::identity_pages)) slot.page = (problem.page_table().first_page(b) + j / cache.page_size) % cache.num_pages;
    std::vector<float> row = load<float>(cache.dtype, cache.ckv, cache.ckv_strides.offset(slot), p.head_dim_ckv);
    MlaStrides strides = cache.kpe_strides;
    if (is(Mistake::kpe_page_stride)) strides.entry = p.head_dim_kpe, strides.page = strides.entry * cache.page_size;
    if (p.head_dim_kpe == 0) return row;
    const std::vector<float> pe = load<float>(cache.dtype, cache.kpe, strides.offset(slot), p.head_dim_kpe);
    row.insert(row.end(), pe.begin(), pe.end());
    return row;
  }
  std::int32_t kv_len() const {
    const std::int32_t n = problem.kv_len(b), size = problem.cache.page_size, last = last_page_len_for(n, size);
    if (is(Mistake::lost_last_page) && last < size) return n - last;
    if (is(Mistake::last_key_lost)) return std::max(n - 1, 0);
    return is(Mistake::full_last_page) && n > 0 ? n - last + size : n;
  }
  bool sees(std::int32_t j) const {
    const std::int32_t n = problem.kv_len(b), diagonal = i + n - problem.qo_len(b);
    if (p.mask == MaskMode::none) return true;
    if (is(Mistake::top_left_causal)) return j <= i;
    return is(Mistake::diagonal_lost) ? j < diagonal : j <= diagonal;
  }
  float logit(const std::vector<float>& q_nope, const std::vector<float>& q_pe, const std::vector<float>& row) const {
    float nope = 0, pe = 0, scale = p.sm_scale;
    for (std::size_t c = 0; c < q_nope.size(); ++c) nope += q_nope[c] * row[c];
    for (std::size_t c = 0; c < q_pe.size(); ++c) pe += q_pe[c] * row[q_nope.size() + c];
    if (is(Mistake::pe_lost)) pe = 0;
    if (is(Mistake::pe_twice)) pe *= 2;
    if (is(Mistake::scale_of_576)) scale = default_sm_scale(p.head_dim_qk());
    if (is(Mistake::scale_lost)) scale = 1;
    const MlaScales& rows = problem.scales;
    if (!is(Mistake::row_scale_not_in_logits)) nope *= rows.k;
    if (!is(Mistake::row_scale_not_in_logits) && !is(Mistake::row_scale_not_in_kpe)) pe *= rows.kpe;
    if (is(Mistake::row_scale_twice)) scale *= rows.k;
    return (nope + pe) * scale * static_cast<float>(log2_e);
  }
  // The feature of a latent row that is feature c of the value.
  std::size_t value(std::int32_t c) const {
    const std::int32_t width = p.head_dim_qk();
    if (is(Mistake::value_from_kpe)) return static_cast<std::size_t>((p.head_dim_ckv + c) % width);
    return static_cast<std::size_t>(is(Mistake::value_with_kpe_shift) ? c + p.head_dim_kpe : c);
  }

  // Keys [begin, end) of a row: o is relative to state.m.
  void absorb(std::int32_t begin, std::int32_t end, SoftmaxState<float>& state, std::vector<float>& o) const {
    const std::vector<float> q_nope = query(problem.q_nope, p.head_dim_ckv), q_pe = query(problem.q_pe, p.head_dim_kpe);
    for (std::int32_t j = begin; j < end; ++j) {
      if (!sees(j)) continue;
      const std::vector<float> row = latent(j);
      const float x = logit(q_nope, q_pe, row), m = std::max(state.m, x);
      MergeWeights<float> w = merge(state, {m, SoftmaxState<float>::weight(x, m)});
      if (is(Mistake::no_rescale)) w.a = 1;
      const float weight = SoftmaxState<float>::weight(x, m);
      for (std::int32_t c = 0; c < p.head_dim_ckv; ++c) {
        o[static_cast<std::size_t>(c)] = o[static_cast<std::size_t>(c)] * w.a + weight * row[value(c)];
      }
    }
  }

  void attend_row(const AttentionOutput& output) const {
    constexpr std::int32_t piece = 96;
    SoftmaxState<float> all;
    std::vector<float> o(static_cast<std::size_t>(p.head_dim_ckv), 0.0f);
    for (std::int32_t j = 0; j < kv_len(); j += piece) {
      SoftmaxState<float> state;
      std::vector<float> part(o.size(), 0.0f);
      absorb(j, std::min(j + piece, kv_len()), state, part);
      MergeWeights<float> w = merge(all, state);
      if (is(Mistake::piece_not_weighed)) w.b = 1;
      for (std::size_t c = 0; c < o.size(); ++c) o[c] = o[c] * w.a + part[c] * w.b;
    }
    if (is(Mistake::empty_row_not_written) && all.d == 0) return;
    const float v_scale = is(Mistake::row_scale_not_in_values) ? 1 : problem.scales.v;
    const std::int64_t row = problem.qo_indptr[b] + i;
    float* out = output.o.data_as<float>() + row * output.o.strides[0] + h * output.o.strides[1];
    for (std::size_t c = 0; c < o.size(); ++c) out[c] = o[c] * all.inverse_d() * v_scale;
    if (is(Mistake::one_row_too_far)) out[output.o.strides[1]] = out[0];
    output.lse_log2[static_cast<std::size_t>(row * p.num_heads + h)] =
        is(Mistake::natural_lse) ? lse_natural_from_log2(all.lse_log2()) : all.lse_log2();
  }
};

template <Mistake mistake>
void attend(const MlaProblem& problem, const AttentionOutput& output) {
  Attention a{.mistake = mistake, .problem = problem};
  for (a.b = 0; a.b < problem.batch(); ++a.b) {
    for (a.i = 0; a.i < problem.qo_len(a.b); ++a.i) {
      for (a.h = 0; a.h < problem.params.num_heads; ++a.h) a.attend_row(output);
    }
  }
}

const std::vector<test::CheckedCase>& cases() {
  static const std::vector<test::CheckedCase> all = test::with_oracles(mla_case_table());
  return all;
}

template <Mistake mistake>
std::vector<std::string> rejecting_cases(std::size_t enough = 1) {
  return test::rejecting_cases(direct_mla("mutant", "", "", "", attend<mistake>), cases(), enough);
}

}  // namespace

TEST_CASE("MLA: the control without a mistake passes every case") {
  for (const std::string& name : rejecting_cases<Mistake::none>(cases().size())) FAIL_CHECK(name);
}

#define FL_MLA_MUTANT(mistake)                                                   \
  TEST_CASE("MLA: agree rejects the mutant " #mistake) {                         \
    const auto rejected = rejecting_cases<Mistake::mistake>();                   \
    REQUIRE_MESSAGE(!rejected.empty(), "no case of the table notices " #mistake); \
    MESSAGE(rejected.front());                                                   \
  }
FL_MLA_MUTANT(pe_lost)
FL_MLA_MUTANT(pe_twice)
FL_MLA_MUTANT(scale_of_576)
FL_MLA_MUTANT(scale_lost)
FL_MLA_MUTANT(value_from_kpe)
FL_MLA_MUTANT(value_with_kpe_shift)
FL_MLA_MUTANT(top_left_causal)
FL_MLA_MUTANT(diagonal_lost)
FL_MLA_MUTANT(lost_last_page)
FL_MLA_MUTANT(last_key_lost)
FL_MLA_MUTANT(full_last_page)
FL_MLA_MUTANT(identity_pages)
FL_MLA_MUTANT(kpe_page_stride)
FL_MLA_MUTANT(head_0_pe)
FL_MLA_MUTANT(query_0)
FL_MLA_MUTANT(natural_lse)
FL_MLA_MUTANT(empty_row_not_written)
FL_MLA_MUTANT(one_row_too_far)
FL_MLA_MUTANT(no_rescale)
FL_MLA_MUTANT(piece_not_weighed)
FL_MLA_MUTANT(row_scale_not_in_logits)
FL_MLA_MUTANT(row_scale_not_in_kpe)
FL_MLA_MUTANT(row_scale_not_in_values)
FL_MLA_MUTANT(row_scale_twice)
FL_MLA_MUTANT(fp8_formats_swapped)
