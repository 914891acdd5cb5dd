// RoPE on the GPU, in place, q and k in one launch: each head of token i is rotated to the token's position, as
// reference/rope_ops.hpp has it (core/rope.hpp has the formula). q and k must not share memory, with each other or with
// anything that is read.
//
//   q [nnz, num_qo_heads, head_dim], k [nnz, num_kv_heads, head_dim]   device; f16 or bf16, one dtype; dense along head_dim
// Only the first rotary_dim features of a head rotate; the others keep their bits. Arithmetic is float, rounded once. Where
// rotary_dim is a multiple of 8 and heads begin at multiples of 16 bytes (neox: 8), and the rows of a cache at multiples of
// 16, lanes move 8 or 16 bytes at once; else one pair at a time.
// Only enqueues a kernel on `stream`; can be captured. Throws InputError, with nothing enqueued, for what the CPU reference
// refuses, but for the positions, which lie on the device: one that is negative, or no row of the cache, is undefined
// behaviour. Throws CudaError if the launch fails.
//
// enable_pdl: may start before the previous kernel on the stream has ended, and waits for it before it reads anything.
// Compulsory bytes: 4 nnz (num_qo_heads + num_kv_heads) rotary_dim to read and write, 4 nnz of positions (int64: 8 nnz), and
// with a cache 4 rotary_dim for each row of it that is used.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <optional>
#include <span>

#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// cos_sin_cache f32 [max_pos, rotary_dim], device: row p has the cosines of position p's pairs, then their sines.
// positions [nnz], device, 0 .. max_pos - 1. As int64 they are below 2^31 too: the lower half of each is the position, and the
// upper one is not read. The kernel takes them where they lie, and gives the bits that int32 gives.
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int32_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox, cudaStream_t stream,
                                           bool enable_pdl = false);
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int64_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox, cudaStream_t stream,
                                           bool enable_pdl = false);

// pos_ids [nnz], device, >= 0. rotary_dim even, at most head_dim and 512; 0 = head_dim. interleave: pairs (2 k, 2 k + 1),
// else neox pairs (k, k + rotary_dim / 2). Angles are reduced exactly (gpu/rope/turns.hpp), at any position. llama31
// (core/rope.hpp) changes the table of frequencies that the kernel is given, and nothing on the device.
void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                cudaStream_t stream, bool enable_pdl = false,
                                const std::optional<Llama31Scaling>& llama31 = {});

}  // namespace flashladder::gpu
