// Custom masks as the kernels read them: bits (core/mask_bits.hpp), made in the workspace by a kernel ahead of each run, out
// of the bytes that the caller gives, or out of bits as FlashInfer packs them. The caller's memory may change from run to
// run, so this can't be done when a run is planned; what plans say, where each request's rows lie, is a list beside the
// packed plan.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/host_device.hpp"
#include "core/mask_bits.hpp"
#include "core/plan.hpp"
#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

// A request's rows in all the forms of the mask.
struct alignas(16) MaskedRequest {
  std::int64_t byte = 0;         // of [qo_len, kv_len] bytes
  std::int64_t packed_byte = 0;  // of its bits, row behind row without a gap, as FlashInfer packs them: padded to whole bytes
  std::int32_t first_query = 0, kv_len = 0;

  FL_HD constexpr std::int64_t word() const { return mask_words(first_query, byte); }  // of its bits: RequestShape::mask
};

// Of a batch, or of the largest that a graph is captured for.
struct MaskShape {
  std::int32_t requests = 0;
  std::int64_t words = 0;  // mask_words() of all

  std::int64_t records() const { return std::int64_t{requests} + 1; }
};
// What a tile that begins in the last row, or, without keys, behind it, may read more: its words, and half a word more where
// it begins within one.
inline constexpr std::int64_t words_behind = 128 / keys_of_word + 1;
std::size_t mask_list_bytes(const MaskShape& shape);   // a multiple of 16
std::size_t mask_words_bytes(const MaskShape& shape);  // words_behind included

// A MaskedRequest for each request, and behind them up to the capacity the batch's end, with the largest kv_len. InputError
// if the batch is larger than capacity.
void pack_mask_list(const Plan& plan, const MaskShape& capacity, std::span<std::byte> out);

// Memory on the device, aligned to 16 bytes.
struct MaskMemory {
  MaskShape capacity;
  const std::byte* list = nullptr;  // what pack_mask_list wrote
  std::byte* words = nullptr;       // mask_words_bytes()
  std::int32_t num_sms = 1;         // to be used
};
// Enqueues the making of bits, out of call.custom_mask or call.packed_custom_mask. Returns the same call with mask_bits, to
// be computed behind it; it may start while the last bits are made, since kernels wait before they read anything but their
// plan. A call without a custom mask is returned as it is.
AttentionCall make_mask_bits(const AttentionCall& call, const MaskMemory& to, cudaStream_t stream);

}  // namespace flashladder::gpu
