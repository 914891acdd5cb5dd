// The decode rungs, from the outside: one query for each request. Each enqueues its kernels on the stream and returns;
// errors are CudaErrors. Calls come from attention_call(); the rung's why_not() had nothing to say.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/needs_general.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/rung_grid.hpp"
#include "gpu/decode/decode_cost.hpp"

namespace flashladder::gpu {

// One block a query head; scalar loads. Takes everything that decode can mean: any head dims, dtype and feature.
namespace d1 {
constexpr std::int32_t key_tile = 128;          // whose weighted values are added to o together
constexpr std::int32_t most_head_dims = 20000;  // head_dim_qk + head_dim_vo: the query and o of a block lie in shared memory
std::string why_not(const AttentionParams& params, AttentionDTypes dtypes);
void attend(const AttentionCall& call, cudaStream_t stream);
}

// The rungs between, built for what they teach. "" if they compute this, else why not.
std::string why_not_lower_rungs(const AttentionParams& params, AttentionDTypes dtypes);

// Packed query rows that a block of lane groups carries at most (D2, D3, D4); larger groups take several tiles.
inline constexpr std::int32_t lane_rows = 8;
constexpr RungGrid lane_groups_grid(std::int32_t group_size) { return {lane_rows, group_size <= 4 ? 3 : 2}; }

namespace d2 {
void attend(const AttentionCall& call, cudaStream_t stream);
}
// The planned rungs. packed: a block of pack() for this shape; partials: partial_bytes(). Both on the device.
// D3 to D5 launch a block for each work of a claimed part, in the order of the claims.
namespace d3 {
void attend(const AttentionCall& call, const PackedShape& shape, std::byte* packed, void* partials, cudaStream_t stream);
}
namespace d4 {
void attend(const AttentionCall& call, const PackedShape& shape, std::byte* packed, void* partials, cudaStream_t stream);
}
// Rounds P to the dtype of K and V, as tensor cores want it; D6 too.
namespace d5 {
// Two tiles of 8 heads, but for head_dim 256, where o of 16 heads would not fit the registers. CTAs an SM holds, by shared
// memory: a block's ring takes 64, 96 or 128 KB (head_dim 64, 128, 256), D6's no more.
constexpr RungGrid grid(std::int32_t head_dim) {
  return {head_dim <= 128 ? 16 : 8, head_dim <= 64 ? 3 : head_dim <= 128 ? 2 : 1};
}
void attend(const AttentionCall& call, const PackedShape& shape, std::byte* packed, void* partials, cudaStream_t stream);
}

// Persistent: the plan's CTAs run their queues, and merge.
namespace d6 {
std::string why_not(const AttentionParams& params, AttentionDTypes dtypes);
// general: needs_general(), whose rows need more registers.
constexpr RungGrid grid(std::int32_t head_dim, bool general) {
  return {general ? 8 : d5::grid(head_dim).query_tile, head_dim <= 128 ? 2 : 1};
}
// Queries of a request, the same for all heads: rows of one tile. 1 where logits depend on the query (General).
constexpr std::int32_t most_queries(const AttentionParams& p) {
  const std::int32_t rows = needs_general(p) ? 1 : grid(p.head_dim_qk, false).query_tile / p.group_size();
  return rows > 1 ? rows : 1;
}
// cta_times: nullptr, or [num_ctas, 2] ns of the GPU's clock, for measurements.
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream,
            std::uint64_t* cta_times = nullptr);
}

// The same with a cluster of CTAs in the place of each CTA, on Hopper: what d6::why_not() allows, where why_no_hopper() has
// nothing to say. A plan's CTAs are its clusters, and its merges have a counter for each row (PackedShape::counters).
// decode_cost.hpp says for which batches.
namespace d7 {
// Clusters that the current GPU runs at once; asks the driver.
std::int32_t clusters(std::int32_t head_dim);
constexpr std::int32_t query_tile(std::int32_t head_dim, bool general) { return d6::grid(head_dim, general).query_tile; }
void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream);
}

}  // namespace flashladder::gpu
