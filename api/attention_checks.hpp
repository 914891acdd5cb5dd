// The rules for what an attention object is given, the same on either device. No array is read but the host's lengths.
#pragma once

#include <cstdint>
#include <span>

#include "api/attention_session.hpp"

namespace flashladder::api {

// Heads, dims, dtypes, page size, logits, limits. What a device can't compute is its backend's to say.
void validate_config(const AttentionConfig& config, const AttentionSession::Kind& kind);
void validate_limits(const AttentionLimits& limits, bool decode);
// One batch against a graph's limits.
void require_within(const AttentionLimits& limits, const BatchLengths& lengths, bool decode);

// plan()'s arrays: their sizes and entries, and that a graph was captured for so much.
void validate_lengths(const BatchLengths& lengths, const AttentionConfig& config, const AttentionSession::Kind& kind);

// The page ids that a plan of these lengths reads: as many as it needs, of what may be more.
std::span<const std::int32_t> checked_page_ids(std::span<const std::int32_t> page_ids, const BatchLengths& lengths);

// run()'s tensors, mask and sinks against the config and the planned lengths.
void check(const AttentionArguments& arguments, const AttentionConfig& config, const AttentionSession::Kind& kind,
           const BatchLengths& planned, const MaskBytes& mask_bytes);

}  // namespace flashladder::api
