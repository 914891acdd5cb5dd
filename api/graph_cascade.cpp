// workspace.device   the levels' states (cascade_parts.hpp) of max_nnz_qo rows; how many rows the batch has; then a part for
//                    each level's session. With one level the session's part alone. Nothing moves from plan to plan
// workspace.staging  slots for the number of rows, then a part for each level's session
#include <memory>
#include <optional>
#include <utility>

#include "api/attention_checks.hpp"
#include "api/cascade_checks.hpp"
#include "api/cascade_parts.hpp"
#include "core/refuse.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/staging_ring.hpp"
#endif

namespace flashladder::api {
namespace {

using Kind = AttentionSession::Kind;
Kind kind_of(const AttentionLimits& limits) { return {.decode = false, .graph = limits}; }

std::vector<AttentionSession> make_sessions(const AttentionConfig& config, std::span<const AttentionLimits> limits) {
  validate_level_limits(limits);
  validate_cascade_config(static_cast<std::int32_t>(limits.size()), config);
  std::vector<AttentionSession> sessions;
  for (std::size_t l = 0; l < limits.size(); ++l) {
    sessions.emplace_back(config_of_level(config, l, limits.size()), kind_of(limits[l]));
  }
  return sessions;
}

std::vector<WorkspaceBytes> bytes_of(const std::vector<AttentionSession>& sessions, std::span<const AttentionLimits> limits) {
  std::vector<WorkspaceBytes> bytes;
  for (std::size_t l = 0; l < limits.size(); ++l) bytes.push_back(whole(sessions[l].bytes_for(limits[l])));
  return bytes;
}

// Of the states, and of the number of rows behind them.
WorkspaceBytes bytes_besides(const AttentionConfig& config, std::span<const AttentionLimits> limits) {
  if (limits.size() == 1) return {};
  const std::size_t device = CascadeStates::bytes(config, limits.size(), *limits.back().max_nnz_qo) + device_grain;
  return {.device = device, .staging = config.execution.device == Device::gpu ? staging_grain : 0, .least_device = device};
}

}  // namespace

struct CUDAGraphMultiLevelCascadeAttention::State {
  AttentionConfig config;
  std::vector<AttentionLimits> limits;
  Workspace workspace;
  std::vector<AttentionSession> sessions;  // one a level
  std::int32_t nnz_qo = 0;
  bool planned = false;
#ifdef FLASHLADDER_CUDA
  std::optional<gpu::StagingRing> ring{};  // of the number of rows
#endif

  void divide();
  void validate(std::span<const CascadeLevel> levels, std::span<const std::span<const std::int32_t>> page_ids) const;
  std::int32_t* rows_there() const;
  void send_rows(Stream stream);
};

// With room for the fastest way of each level they take that, else the least.
void CUDAGraphMultiLevelCascadeAttention::State::divide() {
  const std::vector<WorkspaceBytes> parts = bytes_of(sessions, limits);
  const WorkspaceBytes besides = bytes_besides(config, limits), all = sum(parts, besides);
  const bool roomy = all.device <= workspace.device.size();
  require_room(workspace, {.device = all.least_device, .staging = all.staging});
  std::size_t device = besides.device, staging = besides.staging;
  for (std::size_t l = 0; l < sessions.size(); ++l) {
    const std::size_t part = roomy ? parts[l].device : parts[l].least_device;
    sessions[l].attach({.device = workspace.device.subspan(device, part),
                        .staging = workspace.staging.subspan(staging, parts[l].staging)});
    device += part, staging += parts[l].staging;
  }
#ifdef FLASHLADDER_CUDA
  if (besides.staging > 0) ring.emplace(workspace.staging.first(besides.staging));
#endif
}

// All of a batch before any of it is planned: a refused one leaves each level's plan where it is, for the graph to replay.
void CUDAGraphMultiLevelCascadeAttention::State::validate(
    std::span<const CascadeLevel> levels, std::span<const std::span<const std::int32_t>> page_ids) const {
  require_equal(std::ssize(levels), std::ssize(sessions), "levels size", "num_levels");
  require_equal(std::ssize(page_ids), std::ssize(sessions), "page_ids size", "num_levels");
  for (std::size_t l = 0; l < levels.size(); ++l) {
    at_level(l, [&] {
      const BatchLengths lengths = lengths_of(levels[l]);
      validate_lengths(lengths, config, kind_of(limits[l]));
      checked_page_ids(page_ids[l], lengths);
    });
  }
  validate_levels(levels, config);
}

std::int32_t* CUDAGraphMultiLevelCascadeAttention::State::rows_there() const {
  if (config.execution.device == Device::cpu || sessions.size() == 1) return nullptr;
  const std::size_t behind = CascadeStates::bytes(config, limits.size(), *limits.back().max_nnz_qo);
  return reinterpret_cast<std::int32_t*>(workspace.device.data() + behind);
}

// A captured merge reads there how many rows of o are this batch's.
void CUDAGraphMultiLevelCascadeAttention::State::send_rows([[maybe_unused]] Stream stream) {
#ifdef FLASHLADDER_CUDA
  if (!ring) return;
  const std::span<std::byte> slot = ring->next();
  *reinterpret_cast<std::int32_t*>(slot.data()) = nnz_qo;
  const auto on = static_cast<cudaStream_t>(stream);
  gpu::check(cudaMemcpyAsync(rows_there(), slot.data(), sizeof nnz_qo, cudaMemcpyHostToDevice, on));
  ring->enqueued(on);
#endif
}

WorkspaceBytes CUDAGraphMultiLevelCascadeAttention::workspace_bytes(const AttentionConfig& config,
                                                                    std::span<const AttentionLimits> levels) {
  return sum(bytes_of(make_sessions(config, levels), levels), bytes_besides(config, levels));
}

CUDAGraphMultiLevelCascadeAttention::CUDAGraphMultiLevelCascadeAttention(const AttentionConfig& config,
                                                                         std::span<const AttentionLimits> levels,
                                                                         const Workspace& workspace)
    : state_(new State{.config = config, .limits = {levels.begin(), levels.end()}, .workspace = workspace,
                       .sessions = make_sessions(config, levels)}) {
  state_->divide();
}
CUDAGraphMultiLevelCascadeAttention::~CUDAGraphMultiLevelCascadeAttention() = default;
CUDAGraphMultiLevelCascadeAttention::CUDAGraphMultiLevelCascadeAttention(CUDAGraphMultiLevelCascadeAttention&&) noexcept =
    default;
CUDAGraphMultiLevelCascadeAttention& CUDAGraphMultiLevelCascadeAttention::operator=(
    CUDAGraphMultiLevelCascadeAttention&&) noexcept = default;

void CUDAGraphMultiLevelCascadeAttention::plan(std::span<const CascadeLevel> levels,
                                               std::span<const std::span<const std::int32_t>> page_ids, Stream stream,
                                               Device indices_on) {
  State& s = *state_;
  for (const AttentionSession& session : s.sessions) session.require_plannable(stream);
  s.planned = false;  // until all is well
  s.validate(levels, page_ids);
  s.nnz_qo = levels.back().qo_indptr.back();
  for (std::size_t l = 0; l < s.sessions.size(); ++l) {
    at_level(l, [&] { s.sessions[l].plan(lengths_of(levels[l]), page_ids[l], indices_on, stream); });
  }
  s.send_rows(stream);
  s.planned = true;
}

void CUDAGraphMultiLevelCascadeAttention::run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output,
                                              Stream stream, std::span<const float> sinks, const KvScales& scales) {
  State& s = *state_;
  require(s.planned, "run()", "", "must come after plan(); none is in force, or the last one was refused");
  const AttentionArguments arguments{.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .scales = scales};
  const AttentionLimits& limits = s.limits.back();
  check(arguments, s.config, kind_of(limits), {.qo_indptr = {&s.nnz_qo, 1}}, {});
  const CascadeStates states(s.config, s.sessions.size(), *limits.max_nnz_qo, s.workspace.device.data());
  states.run(s.sessions, arguments, {}, {.here = s.nnz_qo, .there = s.rows_there()}, stream);
}

std::int32_t CUDAGraphMultiLevelCascadeAttention::num_levels() const {
  return static_cast<std::int32_t>(state_->sessions.size());
}

const Plan& CUDAGraphMultiLevelCascadeAttention::current_plan(std::int32_t level) const {
  return level_of(state_->sessions, level).current_plan();
}
std::string CUDAGraphMultiLevelCascadeAttention::explain() const { return explain_levels(state_->sessions); }

}  // namespace flashladder::api
