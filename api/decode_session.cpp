#include "api/decode_session.hpp"

#include <string>

#include "api/decode_checks.hpp"
#include "api/most_work.hpp"
#include "core/error.hpp"
#include "core/validate.hpp"

namespace flashladder::api {
namespace {

std::unique_ptr<DecodeBackend> make_backend(const DecodeConfig& config, [[maybe_unused]] bool for_graphs) {
  require_device(config.device);
#ifdef FLASHLADDER_CUDA
  if (config.device == Device::gpu) return make_gpu_decode(config, for_graphs);
#endif
  return make_cpu_decode(config);
}

void require_room(std::size_t has, std::size_t wants, const char* argument) {
  if (has >= wants) return;  // the sentence is made only if it is needed
  require(false, argument, has, ("must be at least " + std::to_string(wants) + " for this: ask workspace_bytes()").c_str());
}

void require_room(const Workspace& workspace, const WorkspaceBytes& bytes) {
  require_room(workspace.device.size(), bytes.device, "workspace.device bytes");
  require_room(workspace.staging.size(), bytes.staging, "workspace.staging bytes");
}

}  // namespace

planner::PlanInputs plan_inputs(const DecodeConfig& config, const DecodeMachine& machine,
                                std::span<const std::int32_t> kv_lens) {
  const std::int32_t group = config.num_qo_heads / config.num_kv_heads;
  return {.kv_lens = kv_lens,
          .num_qo_heads = config.num_qo_heads, .num_kv_heads = config.num_kv_heads,
          .head_dim_qk = config.head_dim, .head_dim_vo = config.head_dim, .page_size = config.page_size,
          .window_left = config.window_left, .query_tile = machine.query_tile(group),
          .policy = config.policy, .chunk_size = config.chunk_size, .machine = machine.shape, .cost = machine.cost};
}

DecodeSession::DecodeSession(const DecodeConfig& config, const std::optional<DecodeLimits>& limits)
    : config_(config), limits_(limits) {
  validate(config_);
  backend_ = make_backend(config_, for_graphs());
  planner::validate(inputs());
  if (limits_) captured_ = most_work(inputs(), *limits_);
}

Sizes DecodeSession::make_plan(std::span<const std::int32_t> paged_kv_indptr,
                               std::span<const std::int32_t> paged_kv_last_page_len) {
  planned_ = false;  // until all is well
  validate_page_counts(paged_kv_indptr, paged_kv_last_page_len, config_.page_size);
  if (limits_) require_within(*limits_, paged_kv_indptr);
  const PageTable table{.indptr = paged_kv_indptr.data(), .last_page_len = paged_kv_last_page_len.data(),
                        .page_size = config_.page_size};
  kv_lens_.resize(paged_kv_last_page_len.size());
  for (std::size_t b = 0; b < kv_lens_.size(); ++b) kv_lens_[b] = table.length(static_cast<std::int32_t>(b));
  const planner::PlanInputs in = inputs();
  planner::make_plan(in, plan_);
  return captured_ ? *captured_ : planner::usage(plan_, in);
}

WorkspaceBytes DecodeSession::bytes_for(std::span<const std::int32_t> paged_kv_indptr,
                                        std::span<const std::int32_t> paged_kv_last_page_len) {
  return backend_->bytes(make_plan(paged_kv_indptr, paged_kv_last_page_len));
}

WorkspaceBytes DecodeSession::bytes_for(const DecodeLimits& limits) const {
  return backend_->bytes(most_work(inputs(), limits));
}

void DecodeSession::attach(const Workspace& workspace) {
  if (captured_) require_room(workspace, backend_->bytes(*captured_));
  backend_->attach(workspace);
  workspace_ = workspace;
}

void DecodeSession::plan(std::span<const std::int32_t> paged_kv_indptr,
                         std::span<const std::int32_t> paged_kv_last_page_len, std::span<const std::int32_t> indices,
                         Device indices_on, Stream stream) {
  backend_->require_plannable(stream);
  const Sizes sizes = make_plan(paged_kv_indptr, paged_kv_last_page_len);
  const std::int32_t pages = paged_kv_indptr.back();
  if (for_graphs()) indices = checked_indices(indices, pages);
  require_room(workspace_, backend_->bytes(sizes));
  paged_kv_indptr_.assign(paged_kv_indptr.begin(), paged_kv_indptr.end());
  paged_kv_last_page_len_.assign(paged_kv_last_page_len.begin(), paged_kv_last_page_len.end());
  backend_->plan({plan_, paged_kv_indptr_, paged_kv_last_page_len_}, sizes, indices, indices_on, stream);
  planned_ = true;
}

void DecodeSession::run(const DecodeArguments& arguments, Stream stream) {
  require(planned_, "run()", "", "must come after plan(); none is in force, or the last one was refused");
  const std::int32_t rows = limits_ ? limits_->max_batch : plan_.batch;
  check(arguments, config_, rows);
  DecodeArguments checked = arguments;
  if (!for_graphs()) checked.paged_kv_indices = checked_indices(arguments.paged_kv_indices, paged_kv_indptr_.back());
  backend_->run({plan_, paged_kv_indptr_, paged_kv_last_page_len_}, checked, stream);
}

}  // namespace flashladder::api
