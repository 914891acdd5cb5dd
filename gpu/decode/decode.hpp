// The decode rungs, from the outside. Each enqueues its kernels on the stream and returns; errors are CudaErrors.
// calls: decode_call(); each request has one query, and why_no_decode() had nothing to say.
#pragma once

#include <cuda_runtime_api.h>

#include "gpu/decode/decode_params.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/device_problem.hpp"

namespace flashladder::gpu {

namespace d1 {
void attend(const DecodeCall& call, cudaStream_t stream);
}
namespace d2 {
void attend(const DecodeCall& call, cudaStream_t stream);
}
// The planned rungs: one block an item, items of at most most_rows packed rows, a workspace of plan.workspace_bytes() on
// the device.
namespace d3 {
void attend(const DecodeCall& call, const DevicePlan& plan, void* workspace, cudaStream_t stream);
}
namespace d4 {
void attend(const DecodeCall& call, const DevicePlan& plan, void* workspace, cudaStream_t stream);
}
// Rounds P to the dtype of K and V, as tensor cores want it.
namespace d5 {
// Its items may have more rows: two tiles of 8 heads, but for head_dim 256, where o of 16 heads would not fit the registers.
constexpr std::int32_t most_rows(std::int32_t head_dim) { return head_dim <= 128 ? 16 : 8; }
// Resident in an SM, by shared memory: a block's ring takes 64, 96 or 128 KB (head_dim 64, 128, 256), D6's no more.
constexpr std::int32_t blocks_per_sm(std::int32_t head_dim) { return head_dim <= 64 ? 3 : head_dim <= 128 ? 2 : 1; }
void attend(const DecodeCall& call, const DevicePlan& plan, void* workspace, cudaStream_t stream);
}

// As d5, but persistent: the plan's CTAs run their queues, and merge. packed: a block of pack() for this capacity, on the
// device; partials: partial_bytes(). cta_times: nullptr, or [num_ctas, 2] ns of the GPU's clock, for measurements.
namespace d6 {
constexpr std::int32_t most_rows(std::int32_t head_dim) { return d5::most_rows(head_dim); }
constexpr std::int32_t blocks_per_sm(std::int32_t head_dim) { return d5::blocks_per_sm(head_dim); }
// For the planner's cost model, timed: what starting and ending an item costs a CTA, in keys; and what it costs more where
// so many partials meet that they are merged in groups.
constexpr double keys_per_item = 80, keys_per_grouped_item = 300;
void attend(const DecodeCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream,
            std::uint64_t* cta_times = nullptr);
}

}  // namespace flashladder::gpu
