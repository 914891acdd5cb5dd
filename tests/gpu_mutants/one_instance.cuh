// The one instance that mutants are built for, in the place of gpu/decode/instances.cuh: f16, head_dim 128, and of D6 the
// variant, the stored elements and the fragments of 8 rows that generate.py names (Scaled, General or Rotated; Half or
// Float8E4M3; 1, or 2 where a request has several queries).
#pragma once

#include "core/error.hpp"
#include "core/float8.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/variants.cuh"

namespace flashladder::gpu {

inline void require_one_instance(const AttentionCall& call, std::int32_t query_tile, std::int32_t fragments) {
  require(call.params.head_dim_qk == 128 && query_tile <= 8 * fragments, "head_dim", call.params.head_dim_qk,
          "mutants take head_dim 128, 8 or 16 rows");
}

template <class F>
void with_d5_instance(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  require_one_instance(call, query_tile, 1);
  f.template operator()<Half, 128, 1>();
}

template <class F>
void with_d6_instance(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  require_one_instance(call, query_tile, MUTANT_FRAGMENTS);
  f.template operator()<Half, MUTANT_STORED, 128, MUTANT_FRAGMENTS, MUTANT_VARIANT>();
}

}  // namespace flashladder::gpu
