#include "api/attention_session.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "api/attention_checks.hpp"
#include "api/most_work.hpp"
#include "core/error.hpp"
#include "core/validate.hpp"
#include "planner/chunk_size.hpp"

namespace flashladder::api {
namespace {

std::unique_ptr<AttentionBackend> make_backend(const AttentionConfig& config, [[maybe_unused]] const BackendKind& kind) {
  require_device(config.execution.device);
#ifdef FLASHLADDER_CUDA
  if (config.execution.device == Device::gpu) return make_gpu_attention(config, kind);
#endif
  return make_cpu_attention(config);
}

void require_room(std::size_t has, std::size_t wants, const char* argument) {
  if (has >= wants) return;  // the sentence is made only if it is needed
  require(false, argument, has, ("must be at least " + std::to_string(wants) + " for this: ask workspace_bytes()").c_str());
}

void require_room(const Workspace& workspace, const WorkspaceBytes& bytes) {
  require_room(workspace.device.size(), bytes.device, "workspace.device bytes");
  require_room(workspace.staging.size(), bytes.staging, "workspace.staging bytes");
}

void assign(std::vector<std::int32_t>& to, std::span<const std::int32_t> from) { to.assign(from.begin(), from.end()); }

}  // namespace

planner::PlanInputs plan_inputs(const AttentionConfig& config, const AttentionMachine& machine, bool decode,
                                std::span<const std::int32_t> qo_lens, std::span<const std::int32_t> kv_lens) {
  const HeadShape& heads = config.heads;
  const ExecutionConfig& execution = config.execution;
  planner::PlanInputs in{.qo_lens = qo_lens, .kv_lens = kv_lens,
          .num_qo_heads = heads.num_qo_heads, .num_kv_heads = heads.num_kv_heads,
          .head_dim_qk = heads.head_dim_qk, .head_dim_vo = heads.dim_vo(), .page_size = config.cache.page_size,
          .mask = config.logits.mask, .window_left = config.logits.window_left,
          .query_tile = machine.query_tile(decode, heads.num_qo_heads / heads.num_kv_heads), .pack = machine.pack,
          .claimed = machine.claimed, .predicted = !machine.claimed,
          .policy = execution.policy, .chunk_size = execution.chunk_size, .machine = machine.shape, .cost = machine.cost};
  if (in.policy == SplitPolicy::balanced && machine.enough_tiles > 0 &&
      planner::count_tiles(in) >= machine.enough_tiles * in.machine.num_ctas()) {
    in.policy = SplitPolicy::none;
  }
  return in;
}

AttentionMachine AttentionSession::machine() const {
  if (kind_.graph) {
    const std::int64_t nnz_qo = kind_.graph->max_nnz_qo.value_or(0);
    return backend_->machine(nnz_qo, kind_.graph->max_batch, kind_.graph->max_qo_len.value_or(nnz_qo));
  }
  std::int64_t nnz_qo = 0, most_qo_len = 0;
  for (const std::int32_t len : qo_lens_) nnz_qo += len, most_qo_len = std::max<std::int64_t>(most_qo_len, len);
  return backend_->machine(nnz_qo, std::ssize(qo_lens_), most_qo_len);
}

planner::PlanInputs AttentionSession::inputs() const {
  return plan_inputs(config_, machine(), kind_.decode, qo_lens_, kv_lens_);
}

AttentionSession::AttentionSession(const AttentionConfig& config, const Kind& kind) : config_(config), kind_(kind) {
  validate_config(config_, kind_);
  backend_ = make_backend(config_, {.decode = kind_.decode, .for_graphs = kind_.graph.has_value(), .ragged = kind_.ragged});
  planner::validate(inputs());
  if (kind_.graph) captured_ = most_work(inputs(), *kind_.graph);
}

void AttentionSession::keep(const BatchLengths& lengths) {
  const std::size_t batch = lengths.batch();
  max_pages_.reset();
  if (lengths.block_table) {
    max_pages_ = lengths.block_table->max_pages;
    assign(kv_lens_, lengths.block_table->seq_lens);
  } else {
    assign(paged_kv_indptr_, kind_.ragged ? lengths.kv_indptr : lengths.paged_kv_indptr);
    assign(paged_kv_last_page_len_, lengths.paged_kv_last_page_len);
    if (kind_.ragged) {
      paged_kv_last_page_len_.resize(batch);
      for (std::size_t b = 0; b < batch; ++b) {
        paged_kv_last_page_len_[b] = paged_kv_indptr_[b + 1] > paged_kv_indptr_[b] ? 1 : 0;
      }
    }
    const PageTable table{.indptr = paged_kv_indptr_.data(), .last_page_len = paged_kv_last_page_len_.data(),
                          .page_size = config_.cache.page_size};
    kv_lens_.resize(batch);
    for (std::size_t b = 0; b < batch; ++b) kv_lens_[b] = table.length(static_cast<std::int32_t>(b));
  }
  qo_indptr_.resize(batch + 1);
  for (std::size_t b = 0; b <= batch; ++b) {
    qo_indptr_[b] = kind_.decode ? static_cast<std::int32_t>(b) : lengths.qo_indptr[b];
  }
  qo_lens_.resize(kind_.decode ? 0 : batch);
  for (std::size_t b = 0; b < qo_lens_.size(); ++b) qo_lens_[b] = qo_indptr_[b + 1] - qo_indptr_[b];
  mask_bytes_ = 0;
  for (std::size_t b = 0; b < batch; ++b) mask_bytes_ += std::int64_t{qo_indptr_[b + 1] - qo_indptr_[b]} * kv_lens_[b];
}

Sizes AttentionSession::make_plan(const BatchLengths& lengths) {
  planned_ = false;  // until all is well
  validate_lengths(lengths, config_, kind_);
  keep(lengths);
  const planner::PlanInputs in = inputs();
  planner::make_plan(in, plan_);
  return captured_ ? *captured_ : planner::usage(plan_, in);
}

WorkspaceBytes AttentionSession::bytes_for(const BatchLengths& lengths) {
  const Sizes sizes = make_plan(lengths);
  return backend_->bytes(sizes, machine());
}

WorkspaceBytes AttentionSession::bytes_for(const AttentionLimits& limits) const {
  validate_limits(limits, kind_.decode);
  if (captured_) return backend_->bytes(most_work(inputs(), limits), machine());
  // A plan's tiles are made for one query a request, for few or for many, as its batch has them: enough for any.
  WorkspaceBytes most;
  const std::int64_t batch = limits.max_batch;
  for (const auto& [nnz_qo, most_qo_len] : {std::pair{batch, 1}, {batch, 2}, {batch << 31, 2}}) {
    const AttentionMachine machine = backend_->machine(nnz_qo, batch, most_qo_len);
    const planner::PlanInputs in = plan_inputs(config_, machine, kind_.decode, {}, {});
    AttentionLimits of = limits;
    if (machine.one_query && !kind_.decode) of.max_qo_len = 1;
    const WorkspaceBytes bytes = backend_->bytes(most_work(in, of), machine);
    most = {std::max(most.device, bytes.device), std::max(most.staging, bytes.staging)};
  }
  return most;
}

void AttentionSession::attach(const Workspace& workspace) {
  if (captured_) require_room(workspace, backend_->bytes(*captured_, machine()));
  backend_->attach(workspace);
  workspace_ = workspace;
}

PlannedBatch AttentionSession::planned() const {
  PlannedBatch batch{plan_, {.qo_indptr = qo_indptr_}};
  if (max_pages_) {
    batch.lengths.block_table = BlockTableLengths{kv_lens_, *max_pages_};
  } else {
    batch.lengths.paged_kv_indptr = paged_kv_indptr_;
    batch.lengths.paged_kv_last_page_len = paged_kv_last_page_len_;
  }
  return batch;
}

void AttentionSession::plan(const BatchLengths& lengths, std::span<const std::int32_t> page_ids, Device ids_on,
                            Stream stream) {
  backend_->require_plannable(stream);
  const Sizes sizes = make_plan(lengths);
  if (kind_.graph) page_ids = checked_page_ids(page_ids, lengths);
  const AttentionMachine made_for = machine();
  require_room(workspace_, backend_->bytes(sizes, made_for));
  backend_->plan(planned(), sizes, made_for, page_ids, ids_on, stream);
  planned_ = true;
}

void AttentionSession::run(const AttentionArguments& arguments, Stream stream) {
  require(planned_, "run()", "", "must come after plan(); none is in force, or the last one was refused");
  const PlannedBatch batch = planned();
  check(arguments, config_, kind_, batch.lengths, mask_bytes_);
  AttentionArguments checked = arguments;
  if (!kind_.graph && !kind_.ragged) checked.page_ids = checked_page_ids(arguments.page_ids, batch.lengths);
  backend_->run(batch, checked, stream);
}

}  // namespace flashladder::api
