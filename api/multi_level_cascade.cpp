// workspace.device   the levels' o [num_levels, nnz_qo, num_qo_heads, head_dim_vo] and lse_log2 [num_levels + 1, nnz_qo,
//                    num_qo_heads], f32, the last of them for a caller who wants no lse; then a part for each level's session.
//                    With one level the sessions' part alone
// workspace.staging  a part for each level's session
#include "api/multi_level_cascade.hpp"

#include <utility>

#include "api/attention_checks.hpp"
#include "api/attention_session.hpp"
#include "api/cascade_checks.hpp"
#include "core/checks.hpp"
#include "core/refuse.hpp"
#include "reference/merge_states.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/merge/merge_states.hpp"
#endif

namespace flashladder::api {
namespace {

const AttentionSession::Kind paged{.decode = false};

// Parts of the workspace begin with whole cache lines, and a staging part has four slots of multiples of 16.
constexpr std::size_t device_grain = 128, staging_grain = 64;
constexpr std::size_t whole(std::size_t bytes, std::size_t grain) { return (bytes + grain - 1) / grain * grain; }
WorkspaceBytes whole(const WorkspaceBytes& b) {
  return {whole(b.device, device_grain), whole(b.staging, staging_grain), whole(b.least_device, device_grain)};
}

// What levels before the last compute is a state to be merged: f32, without what belongs to the row's end.
AttentionConfig config_of_level(AttentionConfig config, std::int32_t level, std::int32_t num_levels) {
  if (num_levels > 1) config.o_dtype = DType::f32;
  if (level + 1 == num_levels) return config;
  config.logits.mask = MaskMode::none;
  config.logits.sinks = false;
  return config;
}

std::vector<AttentionSession> make_sessions(std::int32_t num_levels, const AttentionConfig& config) {
  validate_cascade_config(num_levels, config);
  std::vector<AttentionSession> sessions;
  for (std::int32_t l = 0; l < num_levels; ++l) sessions.emplace_back(config_of_level(config, l, num_levels), paged);
  return sessions;
}

std::size_t partial_bytes(const AttentionConfig& config, std::size_t num_levels, std::int64_t nnz_qo) {
  if (num_levels == 1) return 0;
  const auto rows = static_cast<std::size_t>(nnz_qo) * static_cast<std::size_t>(config.heads.num_qo_heads);
  const std::size_t of_o = num_levels * static_cast<std::size_t>(config.heads.dim_vo()), of_lse = num_levels + 1;
  return whole(rows * (of_o + of_lse) * sizeof(float), device_grain);
}

WorkspaceBytes sum(const std::vector<WorkspaceBytes>& levels, std::size_t partials) {
  WorkspaceBytes all{partials, 0, partials};
  for (const WorkspaceBytes& b : levels) {
    all.device += b.device, all.staging += b.staging, all.least_device += b.least_device;
  }
  return all;
}

BatchLengths lengths_of(const CascadeLevel& level) {
  return {.qo_indptr = level.qo_indptr, .paged_kv_indptr = level.paged_kv_indptr,
          .paged_kv_last_page_len = level.paged_kv_last_page_len};
}

// A refusal says of which level it is.
template <class Call>
auto at_level(std::size_t level, Call&& call) {
  return in_element("levels", static_cast<std::int64_t>(level), std::forward<Call>(call));
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

// As many sixteenths of what is needed as there is room for: so that the next batches mostly fit the same parts.
std::size_t sixteenths(std::size_t room, std::size_t needed) { return needed == 0 ? 16 : 16 * room / needed; }

}  // namespace

WorkspaceBytes MultiLevelCascadeAttention::workspace_bytes(const AttentionConfig& config,
                                                           std::span<const CascadeLevel> levels) {
  std::vector<AttentionSession> sessions = make_sessions(static_cast<std::int32_t>(levels.size()), config);
  std::vector<WorkspaceBytes> bytes;
  measure(sessions, levels, config, bytes);
  return sum(bytes, partial_bytes(config, levels.size(), levels.back().qo_indptr.back()));
}

WorkspaceBytes MultiLevelCascadeAttention::workspace_bytes(const AttentionConfig& config,
                                                           std::span<const AttentionLimits> levels) {
  validate_level_limits(levels);
  const std::vector<AttentionSession> sessions = make_sessions(static_cast<std::int32_t>(levels.size()), config);
  std::vector<WorkspaceBytes> bytes;
  for (std::size_t l = 0; l < levels.size(); ++l) bytes.push_back(whole(sessions[l].bytes_for(levels[l])));
  return sum(bytes, partial_bytes(config, levels.size(), *levels.back().max_nnz_qo));
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
  divide(partial_bytes(config_, sessions_.size(), nnz_qo_));
  for (AttentionSession& session : sessions_) session.plan_measured(stream);
  planned_ = true;
}

// The parts stay where they are if this batch fits them. Else all sessions move: attach() waits until the copies from the
// old staging parts have been carried out. What the levels get decides nothing but where things lie: if there is room for
// all that they want they get at least that, and else exactly the least.
void MultiLevelCascadeAttention::divide(std::size_t partials) {
  WorkspaceBytes all = sum(wanted_, partials);
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

// Where a level's state lies in the workspace.
AttentionOutput MultiLevelCascadeAttention::partial(std::size_t level) const {
  const std::int64_t heads = config_.heads.num_qo_heads, dim = config_.heads.dim_vo();
  const auto rows = static_cast<std::size_t>(nnz_qo_ * heads), width = static_cast<std::size_t>(dim);
  auto* o = reinterpret_cast<float*>(workspace_.device.data());
  float* lse_log2 = o + sessions_.size() * rows * width;
  return {.o = contiguous(o + level * rows * width, DType::f32, {nnz_qo_, heads, dim}),
          .lse_log2 = {lse_log2 + level * rows, rows}};
}

void MultiLevelCascadeAttention::run(const ConstTensor& q, const PagedKvCache& kv,
                                     std::span<const std::span<const std::int32_t>> page_ids, const AttentionOutput& output,
                                     Stream stream, std::span<const float> sinks, const KvScales& scales) {
  require(planned_, "run()", "", "must come after plan(); none is in force, or the last one was refused");
  require_equal(std::ssize(page_ids), std::ssize(sessions_), "page_ids size", "num_levels");
  check({.q = q, .kv = kv, .page_ids = {}, .output = output, .sinks = sinks, .scales = scales}, config_, paged,
        {.qo_indptr = {&nnz_qo_, 1}}, {});
  for (std::size_t l = 0; l < sessions_.size(); ++l) {
    const bool last = l + 1 == sessions_.size();
    at_level(l, [&] {
      sessions_[l].run({.q = q, .kv = kv, .page_ids = page_ids[l], .output = sessions_.size() == 1 ? output : partial(l),
                        .sinks = last ? sinks : std::span<const float>{}, .scales = scales}, stream);
    });
  }
  if (sessions_.size() > 1) merge(output, stream);
}

// All levels at once, in their order: each state is read once, and o is rounded and written once.
void MultiLevelCascadeAttention::merge(const AttentionOutput& output, [[maybe_unused]] Stream stream) const {
  const std::int64_t levels = std::ssize(sessions_), heads = config_.heads.num_qo_heads, dim = config_.heads.dim_vo();
  const AttentionOutput first = partial(0);
  const auto state_first = [](Tensor t) {  // [levels, nnz_qo, ...] as [nnz_qo, levels, ...]
    std::swap(t.shape[0], t.shape[1]);
    std::swap(t.strides[0], t.strides[1]);
    return t;
  };
  const Tensor v = state_first(contiguous(first.o.data, DType::f32, {levels, nnz_qo_, heads, dim}));
  const Tensor s = state_first(contiguous(first.lse_log2.data(), DType::f32, {levels, nnz_qo_, heads}));
  const std::span<float> wanted = output.lse(), lse = wanted.empty() ? partial(sessions_.size()).lse_log2 : wanted;
  const Tensor s_out = contiguous(lse.data(), DType::f32, {nnz_qo_, heads});
  if (config_.execution.device == Device::cpu) {
    return reference::merge_states(v, s, output.o, s_out, output.lse_factor());
  }
#ifdef FLASHLADDER_CUDA
  gpu::merge_states(v, s, output.o, s_out, static_cast<cudaStream_t>(stream), config_.execution.enable_pdl,
                    output.lse_factor());
#endif
}

const Plan& MultiLevelCascadeAttention::current_plan(std::int32_t level) const {
  require(level >= 0 && level < num_levels(), "level", level, "must be 0 .. num_levels - 1");
  return sessions_[static_cast<std::size_t>(level)].current_plan();
}

std::int32_t MultiLevelCascadeAttention::num_levels() const { return static_cast<std::int32_t>(sessions_.size()); }

std::string MultiLevelCascadeAttention::explain() const {
  std::string text;
  for (std::size_t l = 0; l < sessions_.size(); ++l) {
    text += (l == 0 ? "level " : "\nlevel ") + std::to_string(l) + ": " + sessions_[l].explain();
  }
  return text;
}

}  // namespace flashladder::api
