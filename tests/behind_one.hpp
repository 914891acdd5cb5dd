// The rows on which long chains of float additions err most: one key weighs 1 and every other a little less than 2^-24, so
// that each is lost that is added behind it alone; and the values of all the others lie on one side of its own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/score_transform.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "reference/element_io.hpp"

namespace flashladder::test {

// The drawn case, but every row is such a row. Wants plain logits: no soft cap, no ALiBi, no RoPE.
inline ladder::Case behind_one(const ladder::CaseSpec& spec, std::int32_t heaviest = 0) {
  constexpr float logit = 8.4f;  // or its negative: e^-16.8 = 0.85 * 2^-24, below 0.92 of it with all roundings of bf16
  ladder::Case c = ladder::draw_case(spec);
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = spec.params;
  reference::visit_dtype(spec.dtype, [&]<class Element>(Element) {
    const auto as_element = [](float x) { return static_cast<Element>(x); };
    auto* q = static_cast<Element*>(problem.q.data);
    for (std::int64_t row = 0; row < spec.nnz_qo() * p.num_qo_heads; ++row, q += p.head_dim_qk) {
      std::fill_n(q, p.head_dim_qk, as_element(0));
      q[0] = as_element(1 / p.sm_scale);
    }
    for (std::int32_t b = 0; b < spec.batch(); ++b) {
      for (std::int32_t key = 0; key < spec.kv_lens[b]; ++key) {
        for (std::int32_t head = 0; head < p.num_kv_heads; ++head) {
          const KvSlot slot = problem.page_table().locate(b, key);
          Element* k = static_cast<Element*>(problem.kv.k) + problem.kv.k_strides.offset(slot, head);
          k[0] = as_element(key == heaviest ? logit : -logit);
          Element* v = static_cast<Element*>(problem.kv.v) + problem.kv.v_strides.offset(slot, head);
          for (std::int32_t d = 0; d < p.head_dim_vo; ++d) {
            const float size = 1 + std::abs(static_cast<float>(v[d])) / 16;  // a weight of it is still lost
            v[d] = as_element(key == heaviest ? -size : size);
          }
        }
      }
    }
  });
  return c;
}

}  // namespace flashladder::test
