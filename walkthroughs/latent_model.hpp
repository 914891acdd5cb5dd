// Chapter 19's attention layer, small enough for a page: projections down to a latent row and up to keys and values of each
// head, drawn from a seed; one query on some tokens, computed with keys and values, and with the projections absorbed.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "api/batch_mla.hpp"
#include "api/single_attention.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::walkthroughs {

using Values = std::vector<float>;

// rows x cols, row-major
struct Projection {
  int rows, cols;
  Values w;

  Projection(int r, int c, ladder::Random& random) : rows(r), cols(c) {
    for (int i = 0; i < r * c; ++i) w.push_back(static_cast<float>(random.normal() / std::sqrt(double(c))));
  }
  Values operator()(const float* x) const {  // w x
    Values y(static_cast<std::size_t>(rows));
    for (int i = 0; i < rows; ++i) {
      double sum = 0;
      for (int j = 0; j < cols; ++j) sum += double{w[static_cast<std::size_t>(i * cols + j)]} * double{x[j]};
      y[static_cast<std::size_t>(i)] = static_cast<float>(sum);
    }
    return y;
  }
  Values transposed(const float* x) const {  // w^T x
    Values y(static_cast<std::size_t>(cols));
    for (int j = 0; j < cols; ++j) {
      double sum = 0;
      for (int i = 0; i < rows; ++i) sum += double{w[static_cast<std::size_t>(i * cols + j)]} * double{x[i]};
      y[static_cast<std::size_t>(j)] = static_cast<float>(sum);
    }
    return y;
  }
};

inline double dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

inline double distance(const Values& a, const Values& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double{a[i]} - double{b[i]}));
  return most;
}

// Two heads. A head's key has 4 features from the latent row and 2 that RoPE has rotated, which both heads share; its value
// has 3. The latent row has 6 features.
struct LatentModel {
  static constexpr int heads = 2, nope = 4, pe = 2, value = 3, rank = 6, tokens = 5;
  std::vector<Projection> up_k, up_v;  // of each head: [nope, rank], [value, rank]
  Values q_nope, q_pe;                 // [heads, nope], [heads, pe]
  Values c, k_pe;                      // [tokens, rank], [tokens, pe]: what is cached

  explicit LatentModel(std::uint64_t seed) {
    ladder::Random random(seed, 1900);
    const auto draw = [&](Values& to, int n) {
      for (int i = 0; i < n; ++i) to.push_back(static_cast<float>(1.5 * random.normal()));
    };
    for (int h = 0; h < heads; ++h) up_k.emplace_back(nope, rank, random), up_v.emplace_back(value, rank, random);
    draw(q_nope, heads * nope), draw(q_pe, heads * pe), draw(c, tokens * rank), draw(k_pe, tokens * pe);
  }

  static float sm_scale() { return 1 / std::sqrt(static_cast<float>(nope + pe)); }
  const float* latent(int token) const { return &c[static_cast<std::size_t>(token * rank)]; }
  const float* rotated(int token) const { return &k_pe[static_cast<std::size_t>(token * pe)]; }
  const float* query(int h) const { return &q_nope[static_cast<std::size_t>(h * nope)]; }
  const float* rotated_query(int h) const { return &q_pe[static_cast<std::size_t>(h * pe)]; }

  // W_UK^T q of each head, [heads, rank]: the key's projection on the query's side.
  Values absorbed_queries() const {
    Values all;
    for (int h = 0; h < heads; ++h) {
      for (const float x : up_k[static_cast<std::size_t>(h)].transposed(query(h))) all.push_back(x);
    }
    return all;
  }
  // q . k of each token, not scaled.
  double with_key(int h, int token) const {
    const Values k = up_k[static_cast<std::size_t>(h)](latent(token));
    return dot(query(h), k.data(), nope) + dot(rotated_query(h), rotated(token), pe);
  }
  double with_latent(int h, int token) const {
    const Values q = absorbed_queries();
    return dot(&q[static_cast<std::size_t>(h * rank)], latent(token), rank) + dot(rotated_query(h), rotated(token), pe);
  }

  // o [heads, value], by keys and values of each head.
  Values by_keys() const {
    Values k, v, q, o(heads * value);
    for (int t = 0; t < tokens; ++t) {
      for (int h = 0; h < heads; ++h) {
        for (const float x : up_k[static_cast<std::size_t>(h)](latent(t))) k.push_back(x);
        k.insert(k.end(), rotated(t), rotated(t) + pe);
        for (const float x : up_v[static_cast<std::size_t>(h)](latent(t))) v.push_back(x);
      }
    }
    for (int h = 0; h < heads; ++h) {
      q.insert(q.end(), query(h), query(h) + nope);
      q.insert(q.end(), rotated_query(h), rotated_query(h) + pe);
    }
    api::single_decode_with_kv_cache(contiguous(q.data(), DType::f32, {heads, nope + pe}),
                                     contiguous(k.data(), DType::f32, {tokens, heads, nope + pe}),
                                     contiguous(v.data(), DType::f32, {tokens, heads, value}),
                                     {.o = contiguous(o.data(), DType::f32, {heads, value})},
                                     {.logits = {.sm_scale = sm_scale()}});
    return o;
  }

  // Attention between absorbed queries and latent rows: [heads, rank].
  Values latent_attention(float scale) const {
    Values c_rows = c, k_rows = k_pe;
    return attend(contiguous(c_rows.data(), DType::f32, {1, tokens, rank}),
                  contiguous(k_rows.data(), DType::f32, {1, tokens, pe}), q_pe, scale, {});
  }
  // With latent rows in E4M3, each part of them over its scale. The rotated part is `larger` times as large as in c, and its
  // queries as much smaller, which no score sees.
  Values in_8_bits(const MlaScales& scales, float larger) const {
    std::vector<Float8E4M3> c_rows, k_rows;
    for (const float x : c) c_rows.emplace_back(x / scales.k);
    for (const float x : k_pe) k_rows.emplace_back(x * larger / scales.kpe);
    Values smaller = q_pe;
    for (float& x : smaller) x /= larger;
    return attend(contiguous(c_rows.data(), DType::f8_e4m3, {1, tokens, rank}),
                  contiguous(k_rows.data(), DType::f8_e4m3, {1, tokens, pe}), smaller, sm_scale(), scales);
  }
  Values attend(const Tensor& c_rows, const Tensor& k_rows, Values pe_rows, float scale, const MlaScales& scales) const {
    Values q = absorbed_queries(), o(heads * rank);
    const api::MlaConfig config{.num_heads = heads, .head_dim_ckv = rank, .head_dim_kpe = pe, .page_size = tokens,
                                .sm_scale = scale, .kv_dtype = c_rows.dtype, .q_dtype = DType::f32};
    const api::AttentionLimits limits{.max_batch = 1, .max_pages = 1, .max_nnz_qo = 1};
    std::vector<std::max_align_t> memory(api::BatchMLAPagedAttention::workspace_bytes(config, limits).device /
                                             sizeof(std::max_align_t) + 1);
    api::BatchMLAPagedAttention attention(config, limits, {std::as_writable_bytes(std::span(memory))});
    const std::int32_t indptr[] = {0, 1}, page[] = {0}, length[] = {tokens};
    attention.plan(indptr, indptr, page, length);
    attention.run(contiguous(q.data(), DType::f32, {1, heads, rank}), contiguous(pe_rows.data(), DType::f32, {1, heads, pe}),
                  paged_mla_cache(c_rows, k_rows), {.o = contiguous(o.data(), DType::f32, {1, heads, rank})}, nullptr, scales);
    return o;
  }
  // W_UV o of each head, [heads, value]: the value's projection, behind the sum.
  Values projected(const Values& o) const {
    Values all;
    for (int h = 0; h < heads; ++h) {
      for (const float x : up_v[static_cast<std::size_t>(h)](&o[static_cast<std::size_t>(h * rank)])) all.push_back(x);
    }
    return all;
  }
};

}  // namespace flashladder::walkthroughs
