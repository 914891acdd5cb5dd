// What a decode object is made for, and how much memory it wants: the words of BatchDecodeWithPagedKVCache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "api/device.hpp"
#include "core/attention_params.hpp"
#include "core/tensor.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::api {

using planner::SplitPolicy;

// The numbers that no plan() and no run() changes. The GPU takes f16 and bf16, head_dim 64, 128 and 256, and no window or
// position encoding; the CPU takes everything. What can't be computed is refused when the object is made.
struct DecodeConfig {
  std::int32_t num_qo_heads = 0, num_kv_heads = 0;  // any group size
  std::int32_t head_dim = 0;                        // of q, K, V and o
  std::int32_t page_size = 0;                       // tokens
  DType dtype = DType::f16;                         // of q, K and V
  std::optional<DType> o_dtype{};                   // dtype if not given, or f32
  Device device = Device::cpu;                      // best_device() takes the GPU where there is one

  std::optional<float> sm_scale{};  // 1 / sqrt(head_dim) if not given
  float logits_soft_cap = 0;        // c > 0: logit = c * tanh(logit / c)
  bool sinks = false;               // run() gets one extra logit for each query head
  std::int32_t window_left = -1;    // keys kept to the left of the newest one; -1: all
  PosEncodingMode pos_encoding_mode = PosEncodingMode::NONE;
  float rope_scale = 1, rope_theta = 10000;  // ROPE_LLAMA only

  // balanced: equal work for every CTA, the fastest. fixed, with chunk_size keys (a multiple of 64): a request's bits do not
  // depend on its neighbours in the batch. The others: planner/plan_inputs.hpp.
  SplitPolicy policy = SplitPolicy::balanced;
  std::int32_t chunk_size = 0;
  std::int32_t threads = 0;  // on the CPU; 0: one for each hardware thread
  // GPU only: run()'s kernel may start before the one in front on the stream has ended. It waits before it reads q, K and V,
  // but not before it reads page indices: the kernel in front must not write those.
  bool enable_pdl = false;

  AttentionParams params() const;
  DType output_dtype() const { return o_dtype.value_or(dtype); }
};

// The largest batch that a workspace, or a captured graph, is meant for.
struct DecodeLimits {
  std::int32_t max_batch = 0;
  std::int64_t max_pages = 0;  // of all requests together, up to 2^31 - 1
};

struct WorkspaceBytes {
  std::size_t device = 0, staging = 0;
};

// The caller's memory, borrowed for the life of the object: there is no other on the device.
//   device   where the kernels run: cudaMalloc or a part of it on the GPU, any memory on the CPU; 16-byte aligned
//   staging  GPU: page-locked host memory (cudaMallocHost, cudaHostRegister), 16-byte aligned. CPU: none
// No two objects may share memory. Contents don't matter.
struct Workspace {
  std::span<std::byte> device, staging{};
};

}  // namespace flashladder::api
