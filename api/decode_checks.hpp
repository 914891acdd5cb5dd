// The rules for what a decode object is given, the same on either device. Cheap: no array is read but the host's indptr.
#pragma once

#include <cstdint>
#include <span>

#include "api/decode_backend.hpp"
#include "api/decode_config.hpp"

namespace flashladder::api {

// Heads, dims, dtypes, page size, scale and cap. What a device can't compute is its backend's to say.
void validate(const DecodeConfig& config);

// A batch of so many requests and pages is one that the graph was captured for.
void require_within(const DecodeLimits& limits, std::span<const std::int32_t> paged_kv_indptr);

// The page ids that a plan of so many pages reads: the first `pages` of them.
std::span<const std::int32_t> checked_indices(std::span<const std::int32_t> paged_kv_indices, std::int32_t pages);

// run()'s tensors against the config; q and o have `rows` rows.
void check(const DecodeArguments& arguments, const DecodeConfig& config, std::int32_t rows);

}  // namespace flashladder::api
