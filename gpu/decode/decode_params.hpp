// What every decode kernel is given: one query token for each request, against its paged keys and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/attention_problem.hpp"
#include "core/plan.hpp"

namespace flashladder::gpu {

// Plain numbers and device pointers; kernels take it as const __grid_constant__.
struct DecodeParams {
  const void* q = nullptr;         // [batch, num_qo_heads, head_dim]
  const void* k = nullptr;         // slot (page, entry) of KV head h begins at element k_strides.offset(slot, h)
  const void* v = nullptr;
  KvStrides k_strides, v_strides;
  PageTable table;
  const float* sinks = nullptr;    // [num_qo_heads], or nullptr: none
  void* o = nullptr;               // [batch, num_qo_heads, head_dim], of o_dtype
  float* lse_log2 = nullptr;       // [batch, num_qo_heads], or nullptr: not wanted
  std::int32_t num_qo_heads = 1, num_kv_heads = 1;
  float sm_scale = 1, soft_cap = 0;
  DType o_dtype = DType::f32;      // f32, f16 or bf16

  FL_HD constexpr std::int32_t group_size() const { return num_qo_heads / num_kv_heads; }
};

// What the planned kernels are given beside it: core/plan.hpp, on the device.
struct PlannedParams {
  const WorkItem* items = nullptr;      // [num_items]
  const Merge* merges = nullptr;        // [num_merges]
  float* partial_o = nullptr;           // [partial_rows, head_dim], normalised
  float* partial_lse_log2 = nullptr;    // [partial_rows]
};

// Packed query rows that a block of a decode kernel carries at most; larger groups take several tiles.
inline constexpr std::int32_t most_rows = 8;

// The host's side of a launch: which instance of a kernel, and how many.
struct DecodeCall {
  DecodeParams params;
  DType dtype = DType::f16;  // of q, K and V
  std::int32_t head_dim = 64, batch = 0;
  bool programmatic = false;  // D6: may start before the kernel ahead ends. That one must not write plan or page ids
};

// problem and output hold device pointers (DeviceProblem::view), dense q and o. InputError unless every token of K and V
// begins at a multiple of 16 bytes, which is what a lane loads.
DecodeCall decode_call(const AttentionProblem& problem, const AttentionOutput& output);

// The plan's workspace, laid out as core/plan.hpp says.
PlannedParams planned_params(const WorkItem* items, const Merge* merges, std::int64_t partial_rows, std::int32_t head_dim,
                             void* workspace);

// "" if the decode rungs compute this, else why not. Whether every request has one query is for the caller to know.
std::string why_no_decode(const AttentionParams& params, DType dtype);

}  // namespace flashladder::gpu
