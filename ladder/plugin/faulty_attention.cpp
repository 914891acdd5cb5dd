#include "ladder/plugin/faulty_attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rope.hpp"
#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "reference/element_io.hpp"

namespace flashladder::ladder {
namespace {

constexpr float hidden = -INFINITY;

struct Attention {
  Fault fault;
  const AttentionProblem& problem;
  Cuts cuts;
  const AttentionParams& p = problem.params;
  std::int32_t b = 0, h = 0, i = 0;   // request, query head, query
  const std::uint8_t* mask = nullptr;

  bool is(Fault f) const { return fault == f; }
  std::int32_t qo_len() const { return problem.qo_len(b); }
  std::int32_t kv_len() const {
    const std::int32_t size = p_size(), n = problem.kv_len(b), last = last_page_len_for(n, size);
    if (is(Fault::last_key_lost)) return std::max(n - 1, 0);
    if (is(Fault::lost_last_page) && last < size) return n - last;
    return is(Fault::full_last_page) && n > 0 ? n - last + size : n;
  }
  std::int32_t p_size() const { return problem.kv.page_size; }

  std::int32_t page_in_packed_rows(std::int32_t j) const {
    std::int32_t first = 0;
    for (std::int32_t r = 0; r < b; ++r) first += pages_for(problem.kv_len(r), p_size());
    return problem.block_tables[first + j / p_size()];
  }

  std::vector<float> row(const void* base, const KvStrides& strides, std::int32_t dim, std::int32_t j) const {
    KvSlot slot = problem.page_table().locate(b, j);
    if (is(Fault::identity_pages)) slot.page = (problem.page_table().first_page(b) + j / p_size()) % problem.kv.num_pages;
    if (is(Fault::packed_block_rows) && problem.has_block_table()) slot.page = page_in_packed_rows(j);
    const std::int32_t kv_head = is(Fault::strided_heads) ? h % p.num_kv_heads : h / p.group_size();
    return load(cache_dtype(), base, strides.offset(slot, kv_head), dim);
  }
  DType cache_dtype() const {
    const DType t = problem.kv.dtype;
    if (!is(Fault::fp8_formats_swapped) || !is_fp8(t)) return t;
    return t == DType::f8_e4m3 ? DType::f8_e5m2 : DType::f8_e4m3;
  }
  std::int32_t scaled_head() const {
    return (h / p.group_size() + (is(Fault::scales_of_next_head) ? 1 : 0)) % p.num_kv_heads;
  }
  float k_scale() const {
    const float scale = problem.scales.k_of(scaled_head());
    if (is(Fault::k_scale_lost)) return 1;
    if (is(Fault::k_scale_instead) && scale != 1) return scale / p.sm_scale;
    return is(Fault::k_scale_twice) ? scale * scale : scale;
  }
  float v_scale() const {
    const float scale = problem.scales.v_of(scaled_head());
    return is(Fault::v_scale_lost) ? 1 : is(Fault::v_scale_twice) ? scale * scale : scale;
  }
  static std::vector<float> load(DType dtype, const void* base, std::int64_t offset, std::int32_t dim) {
    std::vector<float> out(dim);
    reference::visit_cache_dtype(dtype, [&]<class Element>(Element) {
      reference::load_row(static_cast<const Element*>(base) + offset, dim, out.data());
    });
    return out;
  }
  std::vector<float> query() const {
    const std::int64_t row = problem.qo_indptr[b] + i;
    auto q = load(problem.q.dtype, problem.q.data, row * problem.q.strides[0] + h * problem.q.strides[1], p.head_dim_qk);
    rotate(q, is(Fault::rope_from_zero) ? i : std::int64_t{i} + problem.kv_len(b) - qo_len());
    return q;
  }
  void rotate(std::vector<float>& x, std::int64_t position) const {
    if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) {
      apply_rope(x.data(), RopeStyle::neox, position, p.head_dim_qk, p.rope_scale, p.rope_theta);
    }
  }

  bool sees(std::int32_t j) const {
    AttentionParams rule = p;
    if (is(Fault::window_off_by_one) && rule.window_left > 0) --rule.window_left;
    const std::int32_t n = problem.kv_len(b);
    if (j >= n) return visible(rule, qo_len(), n, i, n - 1, mask);
    if (is(Fault::custom_and_causal) && p.mask == MaskMode::custom && j > i + n - qo_len()) return false;
    if (is(Fault::diagonal_lost) && p.mask == MaskMode::causal && j == i + n - qo_len()) return false;
    if (is(Fault::top_left_causal) && p.mask == MaskMode::causal) {
      rule.mask = MaskMode::none;  // the window stays where it is
      return j <= i && visible(rule, qo_len(), n, i, j, mask);
    }
    return visible(rule, qo_len(), n, i, j, mask);
  }
  float logit(float dot, std::int32_t j) const {
    if (!sees(j)) return is(Fault::finite_sentinel) ? -5e4f : hidden;
    if (is(Fault::scale_lost)) dot /= p.sm_scale;
    if (is(Fault::scale_twice) && p.logits_soft_cap > 0) dot *= p.sm_scale;
    if (is(Fault::cap_before_scale) && p.logits_soft_cap > 0) {
      return p.logits_soft_cap * std::tanh(dot / p.logits_soft_cap) * p.sm_scale * k_scale() *
             static_cast<float>(log2_e);
    }
    const std::int32_t origin = is(Fault::alibi_constant_lost) ? alibi_origin(p, qo_len(), problem.kv_len(b), i, mask) : i;
    return ScoreTransform<float>(p, h, k_scale())(dot, origin, j);
  }

  void absorb_tile(const std::vector<float>& q, Range keys, SoftmaxState<float>& state, std::vector<float>& o,
                   std::int32_t twice) const {
    std::vector<float> s;
    for (std::int32_t j = keys.begin; j < keys.end; ++j) {
      auto k = row(problem.kv.k, problem.kv.k_strides, p.head_dim_qk, j);
      rotate(k, j);
      float dot = 0;
      for (std::int32_t c = 0; c < p.head_dim_qk; ++c) dot += q[c] * k[c];
      s.push_back(logit(dot, j));
    }
    float m = std::max(state.m, *std::max_element(s.begin(), s.end()));
    if (is(Fault::max_from_1e_30)) m = std::max(m, 1e-30f);
    SoftmaxState<float> tile{m, 0};
    for (float& x : s) tile.d += x = SoftmaxState<float>::weight(x, m);
    const float unscaled = state.d + tile.d;
    float rescale = merge(state, tile).a;
    if (is(Fault::d_not_rescaled)) state.d = unscaled;
    if (is(Fault::no_rescale)) rescale = 1;
    for (float& x : o) x *= rescale;
    for (std::int32_t j = keys.begin; j < keys.end; ++j) {
      const float w = s[j - keys.begin] * (j == twice ? 2.0f : 1.0f);
      if (w == 0) continue;  // select: a hidden key's value may be anything
      const auto v = row(problem.kv.v, problem.kv.v_strides, p.head_dim_vo, j);
      for (std::int32_t c = 0; c < p.head_dim_vo; ++c) o[c] += w * v[c];
    }
  }

  // One piece of the keys, normalised.
  SoftmaxState<float> piece(const std::vector<float>& q, Range keys, std::vector<float>& o) const {
    SoftmaxState<float> state;
    o.assign(p.head_dim_vo, 0);
    const std::int32_t twice = is(Fault::first_v_row_twice) && keys.begin > 0 ? keys.begin : -1;  // the key whose v is
    for (std::int32_t j = keys.begin; j < keys.end; j += cuts.tile) {
      absorb_tile(q, {j, std::min(j + cuts.tile, keys.end)}, state, o, twice);
    }
    float keep = 1;
    if (is(Fault::sink_per_piece) && p.sinks) keep = merge(state, SoftmaxState<float>::from_sink(problem.sinks[h])).a;
    for (float& x : o) x *= keep * state.inverse_d();
    return SoftmaxState<float>::from_lse_log2(state.lse_log2());
  }

  void merge_piece(SoftmaxState<float> part, const std::vector<float>& part_o, SoftmaxState<float>& all,
                   std::vector<float>& o, int pieces_before) const {
    const SoftmaxState<float> before = all;
    MergeWeights<float> w = merge(all, part);
    if (pieces_before > 0 && is(Fault::merge_wrong_base) && before.d > 0 && part.d > 0) {
      const float all_natural = before.lse_log2(), part_natural = part.lse_log2(), m = std::max(all_natural, part_natural);
      w = {std::exp(all_natural - m) / before.d, std::exp(part_natural - m)};
      all = {m, std::exp(all_natural - m) + std::exp(part_natural - m)};
    }
    if (pieces_before > 0 && is(Fault::merge_plain_mean)) {
      w = {1, 1};
      all.d = static_cast<float>(pieces_before + 1);
    }
    for (std::size_t c = 0; c < o.size(); ++c) o[c] = o[c] * w.a + part_o[c] * w.b;
  }

  void attend_row(const AttentionOutput& output) const {
    const std::vector<float> q = query();
    std::vector<float> o(p.head_dim_vo, 0), part_o;
    SoftmaxState<float> all;
    const std::int32_t size = cuts.pieces > 0 ? std::max(div_up(kv_len(), cuts.pieces), 1) : cuts.piece;
    for (std::int64_t j = 0, n = 0; j < kv_len(); j += size, ++n) {
      const auto begin = static_cast<std::int32_t>(j);
      const auto end = static_cast<std::int32_t>(std::min<std::int64_t>(j + size, kv_len()));
      const SoftmaxState<float> part = piece(q, {begin, end}, part_o);
      merge_piece(part, part_o, all, o, static_cast<int>(n));
    }
    float keep = 1;
    if (p.sinks && !is(Fault::sink_per_piece) && !is(Fault::sink_lost)) {
      keep = merge(all, SoftmaxState<float>::from_sink(problem.sinks[h])).a;
    }
    if (is(Fault::empty_row_not_written) && all.d == 0) return;
    const std::int64_t row = problem.qo_indptr[b] + i;
    float* out = output.o.data_as<float>() + row * output.o.strides[0] + h * output.o.strides[1];
    for (std::int32_t c = 0; c < p.head_dim_vo; ++c) out[c] = o[c] * keep * all.inverse_d() * v_scale();
    output.lse_log2[row * p.num_qo_heads + h] =
        is(Fault::natural_lse) ? lse_natural_from_log2(all.lse_log2()) : all.lse_log2();
    if (is(Fault::one_row_too_far)) out[output.o.strides[1]] = out[0];  // behind the very last row lies a guard band
  }
};

}  // namespace

void faulty_attend(Fault fault, const AttentionProblem& problem, const AttentionOutput& output, Cuts cuts) {
  const auto offsets = mask_offsets(problem);
  Attention a{.fault = fault, .problem = problem, .cuts = cuts};
  for (a.b = 0; a.b < problem.batch(); ++a.b) {
    a.mask = problem.params.mask == MaskMode::custom ? problem.custom_mask.data() + offsets[a.b] : nullptr;
    for (a.i = 0; a.i < a.qo_len(); ++a.i) {
      for (a.h = 0; a.h < problem.params.num_qo_heads; ++a.h) a.attend_row(output);
    }
  }
}

}  // namespace flashladder::ladder
