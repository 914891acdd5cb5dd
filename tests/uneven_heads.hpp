// A case whose query heads are of very different sizes, some of them so small that their numbers are next to nothing in
// bf16: who brings a head's q into the range of f16 must undo it for this head and no other.
#pragma once

#include <cmath>
#include <cstdint>

#include "ladder/cases/drawn/draw_case.hpp"
#include "reference/element_io.hpp"

namespace flashladder::test {

inline ladder::Case uneven_heads(const ladder::CaseSpec& spec) {
  ladder::Case c = ladder::draw_case(spec);
  const AttentionParams& p = spec.params;
  reference::visit_dtype(spec.dtype, [&]<class Element>(Element) {
    auto* q = static_cast<Element*>(c.problem().q.data);
    for (std::int64_t row = 0; row < spec.nnz_qo() * p.num_qo_heads; ++row) {
      constexpr int sizes[] = {0, -6, -1, -120, -3};  // exponents
      for (std::int32_t d = 0; d < p.head_dim_qk; ++d, ++q) *q = Element(std::ldexp(static_cast<float>(*q), sizes[row % 5]));
    }
  });
  return c;
}

}  // namespace flashladder::test
