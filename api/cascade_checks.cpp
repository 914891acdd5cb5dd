#include "api/cascade_checks.hpp"

#include <algorithm>
#include <string>

#include "api/attention_checks.hpp"
#include "core/checks.hpp"
#include "core/page_table.hpp"
#include "core/refuse.hpp"

namespace flashladder::api {
namespace {

std::string at_level(std::size_t level, const std::string& argument) {
  return element("levels", static_cast<std::int64_t>(level)) + "." + argument;
}

// Every boundary of `coarse` is one of `fine`: both ascend from 0 to the same end.
void require_nested(std::span<const std::int32_t> coarse, std::span<const std::int32_t> fine, std::size_t level) {
  std::size_t at = 0;
  for (std::size_t group = 0; group < coarse.size(); ++group) {
    while (at < fine.size() && fine[at] < coarse[group]) ++at;
    if (at < fine.size() && fine[at] == coarse[group]) continue;
    refuse(at_level(level, element("qo_indptr", static_cast<std::int64_t>(group))), coarse[group],
           "must be in qo_indptr of level " + std::to_string(level + 1) +
               ": a group is made of whole groups of the next level");
  }
}

std::int32_t keys_of(const CascadeLevel& level, std::size_t group, std::int32_t page_size) {
  const PageTable table{.indptr = level.paged_kv_indptr.data(), .last_page_len = level.paged_kv_last_page_len.data(),
                        .page_size = page_size};
  return table.length(static_cast<std::int32_t>(group));
}

// Keys that `row` has on some level but the last.
bool has_prefix(std::span<const CascadeLevel> levels, std::int32_t row, std::int32_t page_size) {
  return std::any_of(levels.begin(), levels.end() - 1, [&](const CascadeLevel& level) {
    const auto after = std::upper_bound(level.qo_indptr.begin(), level.qo_indptr.end(), row);  // the next group's beginning
    return keys_of(level, static_cast<std::size_t>(after - level.qo_indptr.begin()) - 1, page_size) > 0;
  });
}

// Query i of n stands on key i + kv_len - n of its whole sequence and sees none behind it. It sees all keys of the levels
// before the last: so already query 0 must stand on the last one of those, or behind: n - 1 <= keys of the last level.
void require_queries_behind_prefix(std::span<const CascadeLevel> levels, std::int32_t page_size) {
  const CascadeLevel& last = levels.back();
  for (std::size_t group = 0; group + 1 < last.qo_indptr.size(); ++group) {
    const std::int32_t row = last.qo_indptr[group], qo_len = last.qo_indptr[group + 1] - row;
    const std::int32_t kv_len = keys_of(last, group, page_size);
    if (qo_len - 1 <= kv_len || !has_prefix(levels, row, page_size)) continue;
    refuse("qo_len", qo_len,
           "must be at most 1 more than the request's keys on the last level (" + std::to_string(kv_len) +
               "): with mask causal its first query would see keys of a shared prefix that come after it",
           static_cast<int>(group));
  }
}

}  // namespace

void validate_cascade_config(std::int32_t num_levels, const AttentionConfig& config) {
  require(num_levels >= 1, "num_levels", num_levels, "must be at least 1");
  validate_config(config, {.decode = false});
  const LogitsConfig& logits = config.logits;
  require(logits.mask != MaskMode::custom, "mask", "custom",
          "is not for a cascade: the bytes would be those of the last level alone, and every row sees all of the others");
  require(logits.window_left < 0, "window_left", logits.window_left,
          "must be -1 in a cascade: a level does not know how many keys lie between its own and the query");
  require(logits.pos_encoding_mode != PosEncodingMode::ALIBI, "pos_encoding_mode", "ALIBI",
          "is not for a cascade: a level counts keys from its own first one, not from that of the sequence");
  require(logits.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA, "pos_encoding_mode", "ROPE_LLAMA",
          "is not for a cascade: a level counts keys from its own first one; rotate q, and keys before they are appended");
}

void validate_levels(std::span<const CascadeLevel> levels, const AttentionConfig& config) {
  const std::size_t last = levels.size() - 1;
  const std::int32_t nnz_qo = levels[last].qo_indptr.back();
  for (std::size_t l = 0; l < last; ++l) {
    if (levels[l].qo_indptr.back() == nnz_qo) continue;
    refuse(at_level(l, "qo_indptr") + " end", levels[l].qo_indptr.back(),
           "must be that of the last level (" + std::to_string(nnz_qo) + "): all levels divide the same rows");
  }
  for (std::size_t l = 0; l < last; ++l) require_nested(levels[l].qo_indptr, levels[l + 1].qo_indptr, l);
  if (config.logits.mask == MaskMode::causal) require_queries_behind_prefix(levels, config.cache.page_size);
}

void validate_level_limits(std::span<const AttentionLimits> levels) {
  require(!levels.empty(), "levels size", 0, "must be at least 1");
  for (std::size_t l = 0; l < levels.size(); ++l) {
    validate_limits(levels[l], false);
    if (levels[l].max_nnz_qo == levels.back().max_nnz_qo) continue;
    refuse(at_level(l, "max_nnz_qo"), *levels[l].max_nnz_qo, "must be the same on all levels: they divide the same rows");
  }
}

}  // namespace flashladder::api
