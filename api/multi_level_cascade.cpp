// workspace.device   the levels' o [num_levels, nnz_qo, num_qo_heads, head_dim_vo] and lse_log2 [num_levels + 1, nnz_qo,
//                    num_qo_heads], f32, the last of them for a caller who wants no lse; then a part for each level's session.
//                    With one level the sessions' part alone
// workspace.staging  a part for each level's session
#include "api/multi_level_cascade.hpp"

#include "api/attention_checks.hpp"
#include "api/attention_session.hpp"
#include "api/cascade_checks.hpp"
#include "api/cascade_parts.hpp"
#include "core/refuse.hpp"

namespace flashladder::api {
namespace {

const AttentionSession::Kind paged{.decode = false};

std::vector<AttentionSession> make_sessions(std::int32_t num_levels, const AttentionConfig& config) {
  validate_cascade_config(num_levels, config);
  std::vector<AttentionSession> sessions;
  const auto levels = static_cast<std::size_t>(num_levels);
  for (std::size_t l = 0; l < levels; ++l) sessions.emplace_back(config_of_level(config, l, levels), paged);
  return sessions;
}

// What each level takes. Its session then knows the level's plan.
void measure(std::vector<AttentionSession>& sessions, std::span<const CascadeLevel> levels, const AttentionConfig& config,
             std::vector<WorkspaceBytes>& bytes) {
  require_equal(std::ssize(levels), std::ssize(sessions), "levels size", "num_levels");
  bytes.clear();
  for (std::size_t l = 0; l < sessions.size(); ++l) {
    bytes.push_back(whole(at_level(l, [&] { return sessions[l].bytes_for(lengths_of(levels[l])); })));
  }
  validate_levels(levels, config);
}

WorkspaceBytes of_states(std::size_t bytes) { return {.device = bytes, .least_device = bytes}; }

// As many sixteenths of what is needed as there is room for: so that the next batches mostly fit the same parts.
std::size_t sixteenths(std::size_t room, std::size_t needed) { return needed == 0 ? 16 : 16 * room / needed; }

}  // namespace

WorkspaceBytes MultiLevelCascadeAttention::workspace_bytes(const AttentionConfig& config,
                                                           std::span<const CascadeLevel> levels) {
  std::vector<AttentionSession> sessions = make_sessions(static_cast<std::int32_t>(levels.size()), config);
  std::vector<WorkspaceBytes> bytes;
  measure(sessions, levels, config, bytes);
  return sum(bytes, of_states(CascadeStates::bytes(config, levels.size(), levels.back().qo_indptr.back())));
}

WorkspaceBytes MultiLevelCascadeAttention::workspace_bytes(const AttentionConfig& config,
                                                           std::span<const AttentionLimits> levels) {
  validate_level_limits(levels);
  const std::vector<AttentionSession> sessions = make_sessions(static_cast<std::int32_t>(levels.size()), config);
  std::vector<WorkspaceBytes> bytes;
  for (std::size_t l = 0; l < levels.size(); ++l) bytes.push_back(whole(sessions[l].bytes_for(levels[l])));
  return sum(bytes, of_states(CascadeStates::bytes(config, levels.size(), *levels.back().max_nnz_qo)));
}

MultiLevelCascadeAttention::MultiLevelCascadeAttention(std::int32_t num_levels, const AttentionConfig& config,
                                                       const Workspace& workspace)
    : config_(config), workspace_(workspace), sessions_(make_sessions(num_levels, config)), parts_(sessions_.size()) {
  for (AttentionSession& session : sessions_) session.attach(workspace_);  // is it the right memory? plan() divides it
}
MultiLevelCascadeAttention::~MultiLevelCascadeAttention() = default;
MultiLevelCascadeAttention::MultiLevelCascadeAttention(MultiLevelCascadeAttention&&) noexcept = default;
MultiLevelCascadeAttention& MultiLevelCascadeAttention::operator=(MultiLevelCascadeAttention&&) noexcept = default;

void MultiLevelCascadeAttention::plan(std::span<const CascadeLevel> levels, Stream stream) {
  for (const AttentionSession& session : sessions_) session.require_plannable(stream);
  planned_ = false;  // until all is well
  measure(sessions_, levels, config_, wanted_);
  nnz_qo_ = levels.back().qo_indptr.back();
  divide(CascadeStates::bytes(config_, sessions_.size(), nnz_qo_));
  for (AttentionSession& session : sessions_) session.plan_measured(stream);
  planned_ = true;
}

// The parts stay where they are if this batch fits them. Else all sessions move: attach() waits until the copies from the
// old staging parts have been carried out. What the levels get decides nothing but where things lie: if there is room for
// all that they want they get at least that, and else exactly the least.
void MultiLevelCascadeAttention::divide(std::size_t partials) {
  WorkspaceBytes all = sum(wanted_, of_states(partials));
  const bool roomy = all.device <= workspace_.device.size();
  if (!roomy) {
    for (WorkspaceBytes& b : wanted_) b.device = b.least_device;
    all.device = all.least_device;
  }
  const char* ask = ") for this: ask workspace_bytes()";
  const auto require_room = [&](std::size_t has, std::size_t wants, const char* argument) {
    if (has < wants) throw InputError(argument, std::to_string(has), "must be at least (" + std::to_string(wants) + ask);
  };
  require_room(workspace_.device.size(), all.device, "workspace.device bytes");
  require_room(workspace_.staging.size(), all.staging, "workspace.staging bytes");
  bool fits = partials <= partials_;
  for (std::size_t l = 0; l < parts_.size(); ++l) {
    const bool enough = roomy ? parts_[l].device >= wanted_[l].device : parts_[l].device == wanted_[l].device;
    fits = fits && enough && parts_[l].staging >= wanted_[l].staging;
  }
  if (fits) return;
  const std::size_t device = roomy ? sixteenths(workspace_.device.size(), all.device) : 16;
  const std::size_t staging = sixteenths(workspace_.staging.size(), all.staging);
  partials_ = partials * device / 16 / device_grain * device_grain;
  std::size_t device_at = partials_, staging_at = 0;
  for (std::size_t l = 0; l < parts_.size(); ++l) {
    parts_[l] = {.device = wanted_[l].device * device / 16 / device_grain * device_grain,
                 .staging = wanted_[l].staging * staging / 16 / staging_grain * staging_grain};
    sessions_[l].attach({.device = workspace_.device.subspan(device_at, parts_[l].device),
                         .staging = workspace_.staging.subspan(staging_at, parts_[l].staging)});
    device_at += parts_[l].device, staging_at += parts_[l].staging;
  }
}

void MultiLevelCascadeAttention::run(const ConstTensor& q, const PagedKvCache& kv,
                                     std::span<const std::span<const std::int32_t>> page_ids, const AttentionOutput& output,
                                     Stream stream, std::span<const float> sinks, const KvScales& scales) {
  require(planned_, "run()", "", "must come after plan(); none is in force, or the last one was refused");
  require_equal(std::ssize(page_ids), std::ssize(sessions_), "page_ids size", "num_levels");
  const AttentionArguments arguments{.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .scales = scales};
  check(arguments, config_, paged, {.qo_indptr = {&nnz_qo_, 1}}, {});
  const CascadeStates states(config_, sessions_.size(), nnz_qo_, workspace_.device.data());
  states.run(sessions_, arguments, page_ids, {.here = nnz_qo_}, stream);
}

std::int32_t MultiLevelCascadeAttention::num_levels() const { return static_cast<std::int32_t>(sessions_.size()); }

const Plan& MultiLevelCascadeAttention::current_plan(std::int32_t level) const {
  return level_of(sessions_, level).current_plan();
}
std::string MultiLevelCascadeAttention::explain() const { return explain_levels(sessions_); }

}  // namespace flashladder::api
