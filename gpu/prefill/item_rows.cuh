// A finished row of an item: to the output, its sink merged, or to the partials if its tile's keys are cut among items.
#pragma once

#include <cstdint>

#include "core/row.hpp"
#include "core/softmax_state.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/write_row.cuh"

namespace flashladder::gpu {

// What scales o of row r of the item; the one who has feature 0 writes its lse.
__device__ inline float finish_item_row(const QueryRows& rows, const PackedParams& plan, const PackedItem& item,
                                        RowPlace place, int r, int feature, SoftmaxState<float> state,
                                        float row_constant = 0) {
  if (item.merge < 0) return finish_row(rows, place, feature, state, row_constant);
  if (feature == 0) plan.partial_lse_log2[std::int64_t{item.slot} + r] = state.lse_log2();
  return state.inverse_d();
}

// Neighbours of row r, scaled already.
template <class Neighbours>
__device__ void store_item_row(const QueryRows& rows, const PackedParams& plan, const PackedItem& item, RowPlace place,
                               int r, int head_dim, int feature, const Neighbours& value) {
  if (item.merge < 0) {
    store_row(rows.o, rows.o_dtype, rows.o_offset(place) + feature, value);
  } else {
    store_row(plan.partial_o, DType::f32, (std::int64_t{item.slot} + r) * head_dim + feature, value);
  }
}

}  // namespace flashladder::gpu
