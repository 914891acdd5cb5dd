#include "api/attention_session.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "api/attention_checks.hpp"
#include "api/batch_size.hpp"
#include "api/most_work.hpp"
#include "core/error.hpp"
#include "core/validate.hpp"

namespace flashladder::api {
namespace {

std::unique_ptr<AttentionBackend> make_backend(const AttentionConfig& config, const BackendKind& kind) {
  require_device(config.execution.device);
#ifdef FLASHLADDER_CUDA
  if (config.execution.device == Device::gpu) return make_gpu_attention(config, kind);
#endif
  const Backend backend = config.execution.backend;
  require(backend == Backend::automatic, "backend", name_of(backend), "is a kernel of the GPU, and the device is cpu");
  return make_cpu_attention(config, kind.latent);
}

void require_bytes(std::size_t has, std::size_t wants, const char* argument, PageUse use) {
  if (has >= wants) return;  // the sentence is made only if it is needed
  const char* copy = is_copied(use) ? ", with the copy of K and V that it computes on" : "";
  require(false, argument, has,
          ("must be at least " + std::to_string(wants) + " for this" + copy + ": ask workspace_bytes()").c_str());
}

bool has_room(const Workspace& workspace, const WorkspaceBytes& bytes) {
  return workspace.device.size() >= bytes.device && workspace.staging.size() >= bytes.staging;
}

// For whichever of two ways is taken.
WorkspaceBytes either(const WorkspaceBytes& a, const WorkspaceBytes& b) {
  return {std::max(a.device, b.device), std::max(a.staging, b.staging)};
}

void assign(std::vector<std::int32_t>& to, std::span<const std::int32_t> from) { to.assign(from.begin(), from.end()); }

}  // namespace

void require_room(const Workspace& workspace, const WorkspaceBytes& bytes, PageUse use) {
  require_bytes(workspace.device.size(), bytes.device, "workspace.device bytes", use);
  require_bytes(workspace.staging.size(), bytes.staging, "workspace.staging bytes", PageUse::in_place);
}

std::int64_t AttentionSession::copied_rows() const {
  if (kind_.graph) return most_tokens(*kind_.graph, config_.cache.page_size);
  return std::accumulate(kv_lens_.begin(), kv_lens_.end(), std::int64_t{0});
}

// Cuts that know only their own request: so must the kernel. (A graph's is the same for all batches.)
bool AttentionSession::keeps_bits() const { return !kind_.graph && cut_alone(config_.execution.policy); }

bool AttentionSession::may_copy(const AttentionLimits& limits) const {
  const PageCopies copies = backend_->page_copies();
  if (kind_.graph || copies != PageCopies::where_it_pays) return is_copied(use_);
  const BatchSize size = size_of_limits(limits);
  const bool decodes = backend_->machine(size, std::nullopt).decodes();
  return !decodes && !keeps_bits() && may_be_worth_copying(config_.params(), size.most_qo_len);
}

PageUse AttentionSession::best_use() const {
  const PageCopies copies = backend_->page_copies();
  if (copies == PageCopies::never) return PageUse::in_place;
  const bool asked = copies == PageCopies::always, too_many = copied_rows() > most_copied_rows;
  require(!asked || !too_many, "tokens", copied_rows(),
          "of all requests must be at most 2^31 - 1, to be copied: for backend fa3 on such pages, an fp8 cache, or RoPE "
          "inside attention");
  if (asked) return PageUse::copied;
  if (machine(std::nullopt).decodes()) return PageUse::in_place;
  if (too_many) return PageUse::too_many_tokens;
  if (keeps_bits()) return PageUse::invariant_bits;
  const AttentionParams params = config_.params();
  const SeenKeys seen = kind_.graph ? seen_keys(params, *kind_.graph, config_.cache.page_size)
                                    : seen_keys(params, qo_lens_, kv_lens_);
  return worth_copying(params, seen) ? PageUse::copied : PageUse::too_few_queries;
}

AttentionMachine AttentionSession::machine() const {
  return machine(is_copied(use_) ? std::optional(copied_rows()) : std::nullopt);
}

AttentionMachine AttentionSession::machine(std::optional<std::int64_t> copied_rows) const {
  BatchSize size = size_of_batch(config_, kind_.decode, qo_lens_, kv_lens_);
  if (kind_.graph) {
    const BatchSize planned = std::exchange(size, size_of_limits(*kind_.graph));
    size.decode_keys = planned.decode_keys, size.prefill_pairs = planned.prefill_pairs;
  }
  return backend_->machine(size, copied_rows);
}

// Decode has as many queries as requests, and does not say so.
BatchSize AttentionSession::size_of_limits(const AttentionLimits& limits) const {
  return {.nnz_qo = limits.max_nnz_qo.value_or(0), .batch = limits.max_batch, .most_qo_len = most_qo_len(limits),
          .most_kv_len = most_tokens(limits, config_.cache.page_size), .of_limits = true};
}

planner::PlanInputs AttentionSession::inputs() const {
  const AttentionConfig config = as_on_device_ ? planned_on_device(config_) : config_;
  return plan_inputs(config, machine(), kind_.decode, qo_lens_, kv_lens_);
}

AttentionSession::AttentionSession(const AttentionConfig& config, const Kind& kind)
    : AttentionSession(config, kind, nullptr) {}

AttentionSession::AttentionSession(const AttentionConfig& config, const Kind& kind,
                                   std::unique_ptr<AttentionBackend> backend)
    : config_(config), kind_(kind) {
  validate_config(config_, kind_);
  const BackendKind asked{.decode = kind_.decode, .for_graphs = kind_.graph.has_value(), .ragged = kind_.ragged,
                          .mixed = kind_.mixed, .latent = kind_.latent, .queries = kind_.queries};
  backend_ = backend ? std::move(backend) : make_backend(config_, asked);
  if (kind_.graph) use_ = best_use();
  else if (backend_->page_copies() == PageCopies::where_it_pays) use_ = PageUse::by_batch;
  else if (backend_->page_copies() == PageCopies::always) use_ = PageUse::copied;
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
  most_queries_ = lengths.most_queries;
  qo_indptr_.resize(batch + 1);
  for (std::size_t b = 0; b <= batch; ++b) {
    qo_indptr_[b] = kind_.decode ? static_cast<std::int32_t>(b) * kind_.queries : lengths.qo_indptr[b];
  }
  qo_lens_.resize(kind_.decode && kind_.queries == 1 ? 0 : batch);
  for (std::size_t b = 0; b < qo_lens_.size(); ++b) qo_lens_[b] = qo_indptr_[b + 1] - qo_indptr_[b];
  mask_bytes_ = {};
  for (std::size_t b = 0; b < batch; ++b) mask_bytes_.add(qo_indptr_[b + 1] - qo_indptr_[b], kv_lens_[b]);
}

Sizes AttentionSession::make_plan() {
  const planner::PlanInputs in = inputs();
  planner::make_plan(in, plan_);
  return captured_ ? *captured_ : planner::usage(plan_, in);
}

void AttentionSession::read_pages_in_place() {
  use_ = PageUse::too_little_memory;
  if (captured_) captured_ = most_work(inputs(), *kind_.graph);
}

WorkspaceBytes AttentionSession::bytes_for(const BatchLengths& lengths) {
  planned_ = false;
  if (lengths.max_seq_len) return bytes_for_device_lengths(lengths);
  as_on_device_ = false;
  validate_lengths(lengths, config_, kind_);
  keep(lengths);
  use_ = best_use();
  measured_ = make_plan();
  WorkspaceBytes bytes = backend_->bytes(measured_, machine()), least = bytes;
  if (is_copied(use_) && backend_->page_copies() == PageCopies::where_it_pays) {
    read_pages_in_place();
    measured_ = make_plan();
    least = backend_->bytes(measured_, machine());
    bytes = either(bytes, least);
  }
  bytes.least_device = least.device;
  return bytes;
}

WorkspaceBytes AttentionSession::bytes_within(const AttentionLimits& limits, bool copied) const {
  const std::int64_t most_rows = std::min(most_tokens(limits, config_.cache.page_size), most_copied_rows);
  const auto rows = copied ? std::optional(most_rows) : std::nullopt;
  const auto bytes = [&](const AttentionMachine& machine) {
    AttentionLimits of = limits;
    if (machine.decodes() && !kind_.decode) of.max_qo_len = machine.decode_queries;
    return backend_->bytes(most_work(plan_inputs(config_, machine, kind_.decode, {}, {}), of), machine);
  };
  if (kind_.graph) return bytes(machine(rows));
  // A plan's tiles are made for one query a request, for few or for many, as its batch has them: enough for any. Where
  // decode takes clusters of CTAs its plans are smaller than those for single ones: fewer queues, cuts and partial rows, and
  // the counters of a cut tile's rows take less than its cluster's queues would.
  const std::int64_t batch = limits.max_batch;
  const auto of = [&](std::int64_t nnz_qo, std::int64_t qo_len) {
    return bytes(backend_->machine({.nnz_qo = nnz_qo, .batch = batch, .most_qo_len = qo_len}, rows));
  };
  const auto of_mixed = [&](std::int64_t queries) {
    return bytes(backend_->machine(size_of_mixed(config_, batch, queries), rows));
  };
  if (kind_.decode) return of(batch, 1);
  constexpr std::int64_t many = BatchSize::many_queries;
  WorkspaceBytes most = either(of(batch, 1), either(of(batch, many), of(batch << 31, many)));
  for (std::int64_t len = 2;; ++len) {
    const AttentionMachine few = backend_->machine({.nnz_qo = batch * len, .batch = batch, .most_qo_len = len}, rows);
    if (!few.decodes()) break;
    most = either(most, bytes(few));
  }
  return either(most, either(of_mixed(2), of_mixed(batch << 31)));
}

WorkspaceBytes AttentionSession::bytes_for(const AttentionLimits& limits) const {
  validate_limits(limits, kind_.decode);
  const bool copied = may_copy(limits);
  WorkspaceBytes bytes = bytes_within(limits, copied), least = bytes;
  if (copied && backend_->page_copies() == PageCopies::where_it_pays) {
    least = bytes_within(limits, false);
    bytes = either(bytes, least);
  }
  bytes.least_device = least.device;
  return bytes;
}

void AttentionSession::attach(const Workspace& workspace) {
  if (captured_) {
    const bool may_change = backend_->page_copies() == PageCopies::where_it_pays && is_copied(use_);
    if (may_change && !has_room(workspace, backend_->bytes(*captured_, machine()))) read_pages_in_place();
    require_room(workspace, backend_->bytes(*captured_, machine()), use_);
  }
  backend_->attach(workspace);
  workspace_ = workspace;
}

PlannedBatch AttentionSession::planned() const {
  if (on_device_) return {plan_, *on_device_};
  PlannedBatch batch{plan_, {.qo_indptr = qo_indptr_, .most_queries = most_queries_}};
  if (max_pages_) {
    batch.lengths.block_table = BlockTableLengths{kv_lens_, *max_pages_};
  } else {
    batch.lengths.paged_kv_indptr = paged_kv_indptr_;
    batch.lengths.paged_kv_last_page_len = paged_kv_last_page_len_;
  }
  return batch;
}

Sizes AttentionSession::plan_as_room_allows() {
  if (!kind_.graph) use_ = best_use();
  Sizes sizes = make_plan();
  const bool may_change = backend_->page_copies() == PageCopies::where_it_pays && is_copied(use_) && !kind_.graph;
  if (may_change && !has_room(workspace_, backend_->bytes(sizes, machine()))) {
    read_pages_in_place();
    sizes = make_plan();
  }
  require_room(workspace_, backend_->bytes(sizes, machine()), use_);
  return sizes;
}

void AttentionSession::plan(const BatchLengths& lengths, std::span<const std::int32_t> page_ids, Device ids_on,
                            Stream stream) {
  if (lengths.max_seq_len) return plan_device_lengths(lengths, stream);
  as_on_device_ = false;
  plan_lengths(lengths, page_ids, ids_on, stream);
}

void AttentionSession::plan_lengths(const BatchLengths& lengths, std::span<const std::int32_t> page_ids, Device ids_on,
                                    Stream stream) {
  on_device_.reset();
  backend_->require_plannable(stream);
  planned_ = false;  // until all is well
  validate_lengths(lengths, config_, kind_);
  keep(lengths);
  const Sizes sizes = plan_as_room_allows();
  if (kind_.graph && !kind_.ragged) page_ids = checked_page_ids(page_ids, lengths);
  backend_->plan(planned(), sizes, machine(), page_ids, ids_on, stream);
  planned_ = true;
}

void AttentionSession::plan_measured(Stream stream) {
  const bool two_ways = use_ == PageUse::too_little_memory;  // measured both: now the room decides
  if (two_ways) measured_ = plan_as_room_allows();
  else require_room(workspace_, backend_->bytes(measured_, machine()), use_);
  backend_->plan(planned(), measured_, machine(), {}, Device::cpu, stream);
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
