// What both classes of cascade are made of (multi_level_cascade.cpp, graph_cascade.cpp): a session for each level, the states
// that these leave in the workspace, and the merge that makes o of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "api/attention_backend.hpp"
#include "api/attention_config.hpp"
#include "api/attention_session.hpp"
#include "api/multi_level_cascade.hpp"
#include "core/attention_problem.hpp"
#include "core/checks.hpp"

namespace flashladder::api {

// Parts of the workspace begin with whole cache lines, and a staging part has four slots of multiples of 16.
inline constexpr std::size_t device_grain = 128, staging_grain = 64;
constexpr std::size_t whole(std::size_t bytes, std::size_t grain) { return (bytes + grain - 1) / grain * grain; }
constexpr WorkspaceBytes whole(const WorkspaceBytes& b) {
  return {whole(b.device, device_grain), whole(b.staging, staging_grain), whole(b.least_device, device_grain)};
}
WorkspaceBytes sum(const std::vector<WorkspaceBytes>& levels, const WorkspaceBytes& besides);

// What levels before the last compute is a state to be merged: f32, without what belongs to the row's end.
AttentionConfig config_of_level(AttentionConfig config, std::size_t level, std::size_t num_levels);

inline BatchLengths lengths_of(const CascadeLevel& level) {
  return {.qo_indptr = level.qo_indptr, .paged_kv_indptr = level.paged_kv_indptr,
          .paged_kv_last_page_len = level.paged_kv_last_page_len};
}

// A refusal says of which level it is.
template <class Call>
auto at_level(std::size_t level, Call&& call) {
  return in_element("levels", static_cast<std::int64_t>(level), std::forward<Call>(call));
}

// InputError unless there is such a level.
const AttentionSession& level_of(const std::vector<AttentionSession>& sessions, std::int32_t level);
std::string explain_levels(const std::vector<AttentionSession>& sessions);  // a line for each

// The levels' o [num_levels, rows, num_qo_heads, head_dim_vo] and lse_log2 [num_levels + 1, rows, num_qo_heads], f32, the last
// of them for a caller who wants no lse. With one level nothing: it writes o itself.
class CascadeStates {
 public:
  static std::size_t bytes(const AttentionConfig& config, std::size_t num_levels, std::int64_t rows);

  CascadeStates(const AttentionConfig& config, std::size_t num_levels, std::int64_t rows, std::byte* memory)
      : config_(config), num_levels_(num_levels), rows_(rows), memory_(memory) {}

  // The rows of o that are written, the first ones: as many as `here` says; on the GPU as many as lie `there` when the stream
  // comes to the merge, if that is not null, and else all.
  struct Written {
    std::int64_t here = 0;
    const std::int32_t* there = nullptr;
  };
  // run() of all levels and the merge. page_ids: each level's; empty: its session has them.
  void run(std::vector<AttentionSession>& sessions, const AttentionArguments& arguments,
           std::span<const std::span<const std::int32_t>> page_ids, const Written& written, Stream stream) const;

 private:
  AttentionOutput of_level(std::size_t level) const;
  void merge(const AttentionOutput& output, const Written& written, Stream stream) const;

  const AttentionConfig& config_;
  std::size_t num_levels_;
  std::int64_t rows_;
  std::byte* memory_;
};

}  // namespace flashladder::api
