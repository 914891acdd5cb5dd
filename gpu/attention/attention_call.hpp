// What every attention kernel is given: rows of queries, pages of keys and values, and beside them the parameters of its
// variant (variants.cuh) and of its plan (packed_plan.hpp). Plain numbers and device pointers; kernels take each of them as
// const __grid_constant__.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/attention_problem.hpp"
#include "core/row.hpp"
#include "gpu/kv_pages.hpp"

namespace flashladder::gpu {

struct QueryRows {
  const void* q = nullptr;                // [nnz_qo, num_qo_heads, head_dim_qk]
  void* o = nullptr;                      // [nnz_qo, num_qo_heads, head_dim_vo], of o_dtype
  float* lse = nullptr;                   // [nnz_qo, num_qo_heads], or nullptr: not wanted
  const float* sinks = nullptr;           // [num_qo_heads], or nullptr: none
  std::int64_t q_token = 0, o_token = 0;  // strides in elements; head_dim is dense
  std::int32_t q_head = 0, o_head = 0;    // the same from head to head, which 32 bits hold
  std::int32_t num_qo_heads = 1, group_size = 1;  // group_size query heads share a KV head
  DType o_dtype = DType::f32;             // f32, f16 or bf16
  DType q_dtype = DType::f16;             // for kernels whose instance does not say
  float lse_factor = 1;                   // lse is lse_log2 times this: 1, or ln 2 for the natural logarithm
  float v_scale = 1;                      // what o is multiplied by, where there is no scale per head
  const float* v_scales = nullptr;        // [num_kv_heads], or nullptr: v_scale
  bool plain_ends = true;                 // neither sinks nor scales of V: a row's values over its weights, and no more

  // Where a row begins in q and o. at.query counts the tokens of all requests.
  FL_HD constexpr std::int64_t q_offset(RowPlace at) const { return at.query * q_token + std::int64_t{at.qo_head} * q_head; }
  FL_HD constexpr std::int64_t o_offset(RowPlace at) const { return at.query * o_token + std::int64_t{at.qo_head} * o_head; }
  FL_HD constexpr std::int64_t lse_offset(RowPlace at) const { return std::int64_t{at.query} * num_qo_heads + at.qo_head; }

  // Of the values that a row sums up.
  FL_HD constexpr float v_scale_of(std::int32_t qo_head) const {
    return v_scales == nullptr ? v_scale : v_scales[qo_head / group_size];
  }
};

// The host's side of a launch: the parameters, and what chooses the instance of a kernel.
struct AttentionCall {
  QueryRows rows;
  KvPages kv;
  PageTable table;                           // on the device; only kernels without a plan read it
  AttentionParams params;                    // what is computed: the variant's parameters are made from it
  const std::uint8_t* custom_mask = nullptr; // on the device, with MaskMode::custom: bytes,
  const std::uint8_t* packed_custom_mask = nullptr;  // or bits as FlashInfer packs them,
  const std::uint32_t* mask_bits = nullptr;  // and what kernels read: make_mask_bits() (mask_bits.hpp)
  DType dtype = DType::f16;                  // of q
  DType kv_dtype = DType::f16;               // of K and V
  std::int32_t batch = 0;
  std::int64_t nnz_qo = 0;    // queries of all requests: rows of q and o
  bool programmatic = false;  // may start before the previous kernel on the stream ends, if that one writes no page ids
  bool plan_is_new = false;   // the previous kernel makes the plan: nothing of it may be read before that has ended
};

// problem and output hold device pointers (DeviceProblem::view). InputError if heads lie 2^31 elements apart. One scale for
// all keys goes into params.sm_scale.
AttentionCall attention_call(const AttentionProblem& problem, const AttentionOutput& output);

// InputError unless q, o and every token of K and V begin at multiples of 16 bytes, which is what a lane loads and stores.
void require_16_bytes(const AttentionCall& call);

// What a kernel's instance is chosen by.
struct AttentionDTypes {
  DType q, kv;
  bool k_per_head = false;  // K has scales per head
};
// "" unless K and V have another dtype than q, or there are scales of K per head: for kernels that take neither.
std::string why_no_mixed_dtypes(AttentionDTypes dtypes);
// "" if the rungs that take everything take this: K and V of q's dtype, or of fp8.
std::string why_not_any_dtypes(AttentionDTypes dtypes);

// "" unless ROPE_LLAMA asks for more pairs of features than the rungs with RoPE have room for.
std::string why_no_rope(const AttentionParams& params);

}  // namespace flashladder::gpu
