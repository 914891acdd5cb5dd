// The MLA rungs, from the outside: multi-head latent attention with absorbed projections, over pages of latent rows that all
// query heads share (DeepSeek-V2, arXiv:2405.04434).
//
//   logit = sm_scale * (q_nope . ckv + q_pe . kpe),   o = softmax(logit) ckv
//
// ckv has 512 features and is both the larger part of the key and the value. Packed rows are all heads of a query, then
// those of the next (core/row.hpp with pack = heads): a tile of 64 rows may hold a part of one query, or several.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/attention_params.hpp"
#include "core/mla_problem.hpp"
#include "core/page_table.hpp"
#include "core/tensor.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/rung_grid.hpp"

namespace flashladder::gpu {

inline constexpr std::int32_t mla_ckv = 512, mla_kpe = 64;  // features of a latent row, and of its rotated part

// Latent rows in pages. ckv and kpe may be slices of one tensor.
struct LatentPages {
  const void* ckv = nullptr;                  // [pages, page_size, 512]
  const void* kpe = nullptr;                  // [pages, page_size, 64]
  MlaStrides ckv_strides, kpe_strides;        // features are dense
  PageList pages;                             // of all requests
};

// The part of a query that meets kpe; the part that meets ckv is QueryRows::q.
struct PeQueries {
  const void* q = nullptr;   // [nnz_qo, heads, 64]
  std::int64_t token = 0;    // strides in elements; features are dense
  std::int32_t head = 0;

  FL_HD constexpr std::int64_t offset(RowPlace at) const { return at.query * token + std::int64_t{at.qo_head} * head; }
};

// Plain numbers and device pointers. rows: q is q_nope [nnz_qo, heads, 512], o [nnz_qo, heads, 512]; group_size and
// num_qo_heads are the heads; there are no sinks.
struct MlaCall {
  QueryRows rows;
  PeQueries rotated;
  LatentPages kv;
  AttentionParams params;     // num_kv_heads 1, head_dim_qk 576, head_dim_vo 512; mask none or causal; sm_scale, with the
                              // scale of kpe
  float nope_factor = 1;      // the scale of ckv by that of kpe: multiplies q_nope . ckv
  DType dtype = DType::f16;   // of q_nope and q_pe
  DType kv_dtype = DType::f16;  // of ckv and kpe
  std::int64_t nnz_qo = 0;    // queries of all requests: rows of q and o
  bool programmatic = false;  // may start before the previous kernel on the stream ends, if that one writes no page ids

  // Of latent rows.
  bool has_scales() const { return nope_factor != 1 || rows.v_scale != 1; }
};

// What tells the rungs apart: dtypes of queries and of latent rows, and whether rows have scales.
struct MlaFormats {
  DType q = DType::f16, kv = DType::f16;
  bool scales = false;
};

// problem and output hold device pointers. InputError if heads lie 2^31 elements apart.
MlaCall mla_call(const MlaProblem& problem, const AttentionOutput& output);

// "" if the rung computes this, else why not.
using WhyNotMla = std::string(const AttentionParams& params, const MlaFormats& formats);
namespace l4 {
WhyNotMla why_not;  // 16-bit queries; latent rows of their dtype or of E4M3, with scales or without
}
namespace l5 {
WhyNotMla why_not;  // all of 16 bits and one dtype, without scales
}

// InputError unless the call and the plan are what a kernel with tiles of `tile_rows` rows takes: its formats, 512 and 64
// features, packed heads, and everything that a lane loads or stores 16 bytes of at multiples of 16 bytes.
void require_mla(const MlaCall& call, const PackedShape& capacity, std::int32_t tile_rows);         // l5's
void require_mla_of_rows(const MlaCall& call, const PackedShape& capacity, std::int32_t tile_rows);  // l4's: E4M3 and scales

// Joins the partials of a plan's cut tiles, in slot order: behind either kernel.
void merge_mla(const MlaCall& call, const PackedShape& shape, const PackedParams& plan, cudaStream_t stream);

// Tensor cores of sm_80 and newer: what a reader should begin with. Rounds P to the dtype of q; L5 too.
// capacity: of a plan within it whose pack is the heads, claimed or with queues. packed, partials: as in decode/decode.hpp.
namespace l4 {
const std::string& why_no_device();  // "" if there is a GPU, with shared memory enough
constexpr RungGrid grid() { return {64, 1}; }
void attend(const MlaCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

// For Hopper GPUs (sm_90a; why_no_hopper()): wgmma, a warp group that copies.
namespace l5 {
constexpr RungGrid grid() { return {64, 1}; }
// How a plan that it executes is best made. Where the row tiles of a request share its keys and there are more of them than
// CTAs run at once, they are claimed, so that those who share keys run together and the L2 cache serves all but one; else
// queues of equal cost are best.
constexpr bool claims(bool share_keys, std::int64_t row_tiles, std::int64_t ctas) {
  return share_keys && row_tiles > ctas + ctas / 2;
}
inline constexpr double keys_per_item = 384;  // what an item of a queue costs beside its keys, the merge of its rows included
void attend(const MlaCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

}  // namespace flashladder::gpu
