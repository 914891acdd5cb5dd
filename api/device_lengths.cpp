// plan() for lengths that lie on the device. On the GPU they stay there: the plan is made by a kernel, in memory for the most
// that such lengths can take (most_work.hpp). On the CPU they are the host's, and are read at once.
#include <limits>
#include <numeric>
#include <string>

#include "api/attention_checks.hpp"
#include "api/attention_session.hpp"
#include "api/most_work.hpp"
#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/page_table.hpp"
#include "core/refuse.hpp"

namespace flashladder::api {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

// What the host can see of them.
void validate_device_lengths(const BatchLengths& lengths, const AttentionConfig& config, const AttentionSession::Kind& kind) {
  require(kind.decode && !kind.graph, "lengths", "on the device", "are taken by the plain decode class alone");
  const SplitPolicy policy = config.execution.policy;
  const bool planned_there = policy == SplitPolicy::balanced || cut_alone(policy);
  require(planned_there, "policy", name_of(policy), "must be balanced, fixed or none, since the lengths lie on the device");
  require(config.logits.mask != MaskMode::custom, "mask", "custom",
          "needs lengths on the host, which say where each request's bytes begin");
  const std::int32_t most = *lengths.max_seq_len;
  require(most >= 0, "max_seq_len", most, "must not be negative");
  const auto batch = static_cast<std::int64_t>(lengths.batch());
  require(batch * kind.queries < int32_max, "batch", batch, "times q_len_per_req must be less than 2^31 - 1");
  if (const auto& table = lengths.block_table) {
    require(table->max_pages >= 0, "max_pages", table->max_pages, "must not be negative");
    require(lengths.page_entries() <= int32_max, "block_tables size", lengths.page_entries(), "must be at most 2^31 - 1");
    const std::int64_t room = std::int64_t{table->max_pages} * config.cache.page_size;
    if (most > room) {
      refuse("max_seq_len", most, "must be at most max_pages * page_size (" + std::to_string(room) + ")");
    }
    require_data(table->seq_lens.data(), batch > 0, "seq_lens");
    return;
  }
  require_equal(static_cast<std::int64_t>(lengths.paged_kv_indptr.size()), batch + 1, "paged_kv_indptr size", "batch + 1");
  require_data(lengths.paged_kv_indptr.data(), true, "paged_kv_indptr");
  require_data(lengths.paged_kv_last_page_len.data(), batch > 0, "paged_kv_last_page_len");
}

// The CPU's, which are in host memory.
void require_short(const BatchLengths& lengths, std::int32_t page_size) {
  const PageTable table = lengths.table(page_size);
  for (std::int32_t b = 0; b < table.num_requests; ++b) {
    if (table.length(b) > *lengths.max_seq_len) {
      refuse("kv_len", table.length(b), "must be at most max_seq_len (" + std::to_string(*lengths.max_seq_len) + ")", b);
    }
  }
}

}  // namespace

AttentionSession::DeviceWork AttentionSession::work_of(const BatchLengths& lengths) const {
  const auto batch = static_cast<std::int32_t>(lengths.batch());
  const std::int32_t most = *lengths.max_seq_len;
  BatchSize size{.batch = batch, .most_kv_len = most};
  const std::int64_t pages = std::int64_t{batch} * pages_for(most, config_.cache.page_size);
  AttentionLimits limits{.max_batch = batch, .max_pages = pages};
  if (kind_.queries > 1) {
    size.nnz_qo = std::int64_t{batch} * kind_.queries, size.most_qo_len = kind_.queries;
    limits.max_nnz_qo = size.nnz_qo, limits.max_qo_len = kind_.queries;
  }
  DeviceWork work{.machine = backend_->machine(size, std::nullopt), .inputs = {}, .sizes = {}, .bytes = {}};
  work.inputs = plan_inputs(config_, work.machine, true, {}, {});
  work.sizes = most_work(work.inputs, limits);
  require(work.sizes.partial_rows <= int32_max, "partial rows", work.sizes.partial_rows,
          "of a batch of max_seq_len keys a request must be at most 2^31 - 1");
  work.bytes.device = backend_->bytes(work.sizes, work.machine).device;
  if (const std::size_t planner = backend_->planner_bytes(lengths, work.sizes, work.machine, work.inputs); planner > 0) {
    work.bytes.device = planner_at(work.bytes.device) + planner;
  }
  work.bytes.least_device = work.bytes.device;
  return work;
}

WorkspaceBytes AttentionSession::bytes_for_device_lengths(const BatchLengths& lengths) {
  validate_device_lengths(lengths, config_, kind_);
  return work_of(lengths).bytes;
}

void AttentionSession::plan_device_lengths(const BatchLengths& lengths, Stream stream) {
  planned_ = false;  // until all is well
  validate_device_lengths(lengths, config_, kind_);
  if (config_.execution.device == Device::cpu) {
    BatchLengths here = lengths;
    here.max_seq_len.reset();
    validate_lengths(here, config_, kind_);
    require_short(lengths, config_.cache.page_size);
    return plan(here, {}, Device::cpu, stream);
  }
  const DeviceWork work = work_of(lengths);
  require_room(workspace_, work.bytes);
  backend_->plan_on_device(lengths, work.sizes, work.machine, work.inputs, stream);
  qo_indptr_.resize(lengths.batch() + 1);
  std::iota(qo_indptr_.begin(), qo_indptr_.end(), 0);
  for (std::int32_t& begin : qo_indptr_) begin *= kind_.queries;
  on_device_ = lengths;
  on_device_->qo_indptr = qo_indptr_;
  plan_ = {};
  plan_.batch = static_cast<std::int32_t>(lengths.batch());
  mask_bytes_ = {};
  planned_ = true;
}

const Plan& AttentionSession::current_plan() const {
  require(!on_device_, "current_plan()", "", "lies on the device, as the lengths do that it was made of");
  return plan_;
}

}  // namespace flashladder::api
