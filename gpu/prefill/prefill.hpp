// The prefill rungs, from the outside: any number of queries for each request, ragged, decode included.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/rung_grid.hpp"

namespace flashladder::gpu {

// One thread a row. Takes everything that attention can mean here: any head dims, dtype, mask and feature.
namespace p1 {
std::string why_not(const AttentionParams& params, AttentionDTypes dtypes);
RungGrid grid(const AttentionParams& params);
// capacity: of a claimed part, for any plan within it. packed, partials: as in decode.hpp.
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

// The rungs between, built for what they teach: f16, head_dim 128, causal and window. "" if they compute this, else why not.
std::string why_not_lower_prefill(const AttentionParams& params, AttentionDTypes dtypes);
inline constexpr RungGrid lower_prefill_grid{64, 2};

namespace p2 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}
// Rounds P to the dtype of K and V, as tensor cores want it; P4 and P5 too.
namespace p3 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}
namespace p4 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

// FlashAttention-2's class: every feature, for f16 and bf16 and the head dims that models use. RoPE inside attention on copies
// that are rotated first, as P11 (rotated_copy.hpp): to the kernels themselves it is unknown, and why_not refuses it.
namespace p5 {
std::string why_not(const AttentionParams& params, AttentionDTypes dtypes);
RungGrid grid(const AttentionParams& params);
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

// The rungs between for Hopper GPUs (sm_90a), built for what they teach: why_not_lower_prefill(), and P11's pages, pack and
// grid. P6 to P8 launch a CTA for each work.
namespace p6 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}
namespace p7 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}
namespace p8 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}
namespace p9 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}
namespace p10 {
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

// For Hopper GPUs (sm_90a): pages by the copy engine, wgmma, a stale reference, queries in registers. Tiles of packed rows:
// for each warp group as many whole queries as 64 rows hold.
namespace p11 {
inline constexpr int warp_group_rows = 64;  // packed rows of a warp group: what wgmma multiplies at once
inline constexpr int warp_rows = 16;        // of them, those whose scores and outputs a warp has
// Warp groups that compute: three where registers allow it, since more rows use each key.
constexpr int warp_groups(std::int32_t head_dim_qk) { return head_dim_qk == 64 ? 3 : 2; }
std::string why_not(const AttentionParams& params, AttentionDTypes dtypes);
std::string why_not_pages(std::int32_t page_size);  // that are listed; a ragged cache is always taken
// Query heads that share a row tile: the group, where queries are so few that tiles would not be full without, or 1.
std::int32_t pack(const AttentionParams& params, std::int64_t nnz_qo, std::int64_t batch);
RungGrid grid(const AttentionParams& params, std::int32_t pack);
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

// P11 for mixed batches: a part of the plan are the requests of one query, with D6's tiles and queues, another all others,
// claimed. The first CTAs (mixed_cost.hpp) run a queue with each of two warp groups, and then claim like all.
// Both parts: their blocks lie behind each other; their partial rows are those of the whole plan.
struct MixedShape {
  static constexpr std::int32_t head_dim = 128, decode_rows = 8, queues_per_cta = 2;
  PackedShape decode, prefill;
};
namespace p12 {
std::string why_not(const AttentionParams& params, AttentionDTypes dtypes);  // pages: p11::why_not_pages()
void attend(const AttentionCall& call, const MixedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

}  // namespace flashladder::gpu
