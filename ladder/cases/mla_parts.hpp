// Op mla: from a tensor of both parts to two of one part each, and back, along the last dimension. Bits are copied, those of
// unused slots too.
#pragma once

#include <cstdint>
#include <utility>

#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

using Parts = std::pair<OwnedTensor, OwnedTensor>;
Parts cut(const OwnedTensor& both, std::int64_t features_of_first);
OwnedTensor joined(const OwnedTensor& first, const OwnedTensor& second);  // the same shape but for the last dimension

void split_parts(Case& c);  // q, k_cache -> q_nope, q_pe, ckv_cache, kpe_cache

// k_cache has one head, which ckv_cache and kpe_cache do not name.
std::vector<std::int64_t> with_head(const std::vector<std::int64_t>& shape);
std::vector<std::int64_t> without_head(const std::vector<std::int64_t>& shape);

}  // namespace flashladder::ladder
