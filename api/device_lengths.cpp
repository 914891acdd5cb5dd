// plan() for lengths that lie on the device. On the GPU they stay there: the plan is made by a kernel, in memory for the most
// that such lengths can take (most_work.hpp). On the CPU they are the host's, and are read at once.
#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "api/attention_checks.hpp"
#include "api/attention_session.hpp"
#include "api/most_work.hpp"
#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/page_table.hpp"
#include "core/refuse.hpp"
#include "core/validate.hpp"

namespace flashladder::api {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

// Of a prefill: what the host can see of its queries.
void validate_device_queries(const BatchLengths& lengths, const AttentionConfig& config) {
  const auto batch = static_cast<std::int64_t>(lengths.batch());
  const MostQueries& most = *lengths.most_queries;
  require(most.nnz_qo >= 0 && most.nnz_qo <= int32_max, "max_nnz_qo", most.nnz_qo, "must be 0 .. 2^31 - 1");
  require(most.qo_len >= 0, "max_qo_len", most.qo_len, "must not be negative");
  const std::int64_t group = config.heads.num_qo_heads / config.heads.num_kv_heads;
  require(std::min<std::int64_t>(most.qo_len, most.nnz_qo) * group <= int32_max, "max_qo_len", most.qo_len,
          "times the group size must be below 2^31");
  if (lengths.qo_lens.empty()) {
    require_equal(static_cast<std::int64_t>(lengths.qo_indptr.size()), batch + 1, "qo_indptr size", "batch + 1");
    require_data(lengths.qo_indptr.data(), true, "qo_indptr");
  } else {
    require_equal(static_cast<std::int64_t>(lengths.qo_lens.size()), batch, "qo_lens size", "the batch");
    require_data(lengths.qo_lens.data(), true, "qo_lens");
  }
}

// What the host can see of them.
void validate_device_lengths(const BatchLengths& lengths, const AttentionConfig& config, const AttentionSession::Kind& kind,
                             PageCopies copies) {
  const bool prefill = lengths.most_queries.has_value();
  const bool plain = !kind.graph && !kind.ragged && !kind.mixed && kind.decode == !prefill && !(prefill && kind.latent);
  require(plain, "lengths", "on the device", "are taken by the plain classes of decode and of prefill over pages alone");
  const SplitPolicy policy = config.execution.policy;
  const bool planned_there = planner::cuts_a_line(policy) || cut_alone(policy);
  require(planned_there || prefill, "policy", name_of(policy),
          "must be balanced, even, fixed or none, since the lengths lie on the device");
  require(!prefill || policy == SplitPolicy::none, "policy", name_of(policy),
          "must be none, since the lengths lie on the device: of a prefill its plan there cuts no tile's keys");
  require(copies != PageCopies::always, "lengths", "on the device",
          "can't be taken where K and V are copied first, which is planned on the host: for backend fa3 on such pages, an fp8 "
          "cache, or RoPE inside attention");
  require(config.logits.mask != MaskMode::custom, "mask", "custom",
          "needs lengths on the host, which say where each request's bytes begin");
  const std::int32_t most = *lengths.max_seq_len;
  require(most >= 0, "max_seq_len", most, "must not be negative");
  const auto batch = static_cast<std::int64_t>(lengths.batch());
  require(batch * kind.queries < int32_max, "batch", batch, "times q_len_per_req must be less than 2^31 - 1");
  if (prefill) validate_device_queries(lengths, config);
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

// The CPU's, which are in host memory: where each request's queries begin.
std::vector<std::int32_t> checked_queries(const BatchLengths& lengths) {
  std::vector<std::int32_t> begins(lengths.qo_indptr.begin(), lengths.qo_indptr.end());
  if (!lengths.qo_lens.empty()) begins.assign(1, 0);
  std::int64_t rows = 0;
  for (const std::int32_t len : lengths.qo_lens) {
    rows += len;
    require(len >= 0 && rows <= int32_max, "qo_lens", len, "must not be negative, and 2^31 - 1 in all");
    begins.push_back(static_cast<std::int32_t>(rows));
  }
  validate_qo_indptr(begins, static_cast<std::int64_t>(lengths.batch()));
  const MostQueries& most = *lengths.most_queries;
  for (std::size_t b = 0; b + 1 < begins.size(); ++b) {
    const std::int32_t len = begins[b + 1] - begins[b];
    if (len > most.qo_len) {
      refuse("qo_len", len, "must be at most max_qo_len (" + std::to_string(most.qo_len) + ")", static_cast<int>(b));
    }
  }
  if (begins.back() > most.nnz_qo) {
    refuse("queries", begins.back(), "of all requests must be at most max_nnz_qo (" + std::to_string(most.nnz_qo) + ")");
  }
  return begins;
}

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
  if (const auto& queries = lengths.most_queries) {
    size.nnz_qo = queries->nnz_qo, size.most_qo_len = queries->qo_len;
    limits.max_nnz_qo = size.nnz_qo, limits.max_qo_len = queries->qo_len;
  }
  if (kind_.queries > 1) {
    size.nnz_qo = std::int64_t{batch} * kind_.queries, size.most_qo_len = kind_.queries;
    limits.max_nnz_qo = size.nnz_qo, limits.max_qo_len = kind_.queries;
  }
  DeviceWork work{.machine = backend_->machine(size, std::nullopt), .inputs = {}, .sizes = {}, .bytes = {}};
  work.inputs = plan_inputs(planned_on_device(config_), work.machine, kind_.decode, {}, {});
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
  validate_device_lengths(lengths, config_, kind_, backend_->page_copies());
  return work_of(lengths).bytes;
}

void AttentionSession::plan_device_lengths(const BatchLengths& lengths, Stream stream) {
  planned_ = false;  // until all is well
  validate_device_lengths(lengths, config_, kind_, backend_->page_copies());
  if (config_.execution.device == Device::cpu) {
    BatchLengths here = lengths;
    here.max_seq_len.reset();
    std::vector<std::int32_t> begins;
    if (lengths.most_queries) here.qo_indptr = begins = checked_queries(lengths);
    validate_lengths(here, config_, kind_);
    require_short(lengths, config_.cache.page_size);
    as_on_device_ = true;
    return plan_lengths(here, {}, Device::cpu, stream);
  }
  use_ = backend_->page_copies() == PageCopies::where_it_pays ? PageUse::invariant_bits : PageUse::in_place;
  const DeviceWork work = work_of(lengths);
  require_room(workspace_, work.bytes);
  backend_->plan_on_device(lengths, work.sizes, work.machine, work.inputs, stream);
  qo_indptr_.resize(lengths.most_queries ? 0 : lengths.batch() + 1);
  std::iota(qo_indptr_.begin(), qo_indptr_.end(), 0);
  for (std::int32_t& begin : qo_indptr_) begin *= kind_.queries;
  on_device_ = lengths;
  on_device_->qo_indptr = qo_indptr_;  // for the host's eyes
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
