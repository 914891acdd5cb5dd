// The CPU behind an attention object: C4, or for latent attention L3, executes the same plan, one worker for each hardware
// thread in the place of CTAs.
#include <optional>
#include <vector>

#include "api/attention_backend.hpp"
#include "core/error.hpp"
#include "reference/c4_lanes.hpp"
#include "reference/element_io.hpp"
#include "reference/mla/l3_planned.hpp"

namespace flashladder::api {
namespace {

namespace ref = reference;

// Rows: eight panels of 32 lanes read a gathered tile of keys from the cache before the next one is gathered.
constexpr std::int32_t prefill_rows = 256;

class CpuAttention final : public AttentionBackend {
 public:
  CpuAttention(const AttentionConfig& config, bool latent)
      : config_(config), params_(config.params()), latent_(latent),
        threads_(config.execution.threads > 0 ? config.execution.threads : ref::ThreadPool::hardware_threads()),
        machine_{.shape = {.num_sms = threads_, .ctas_per_sm = 1}, .most_decode_rows = params_.group_size(),
                 .prefill_rows = prefill_rows} {}

  AttentionMachine machine(const BatchSize&, std::optional<std::int64_t>) const override {
    return machine_;
  }
  std::string explain(PageUse, const AttentionMachine&) const override {
    return std::string(latent_ ? "L3" : "C4") + " on the CPU, with up to " + std::to_string(threads_) + " threads";
  }

  // The partials, then o in f32 where the caller wants another dtype.
  WorkspaceBytes bytes(const Sizes& sizes, const AttentionMachine&) const override {
    return {.device = partial_bytes(sizes) + f32_bytes(sizes.nnz_qo)};
  }

  void attach(const Workspace& workspace) override {
    require(reinterpret_cast<std::uintptr_t>(workspace.device.data()) % 16 == 0, "workspace.device", "",
            "must be aligned to 16 bytes");
    workspace_ = workspace.device;
    constexpr auto at_most = ref::PlanExecutor::Workers::at_most;
    if (latent_ && !latent_executor_) latent_executor_.emplace(threads_, at_most);
    if (!latent_ && !executor_) executor_.emplace(ref::c4::attend_item, threads_, at_most);
  }

  void require_plannable(Stream) const override {}

  void plan(const PlannedBatch&, const Sizes& sizes, const AttentionMachine&, std::span<const std::int32_t> page_ids,
            Device ids_on, Stream) override {
    require(ids_on == Device::cpu, "indices_on", name_of(ids_on), "must be cpu, as the object's device is");
    page_ids_.assign(page_ids.begin(), page_ids.end());
    f32_ = workspace_.subspan(partial_bytes(sizes), f32_bytes(sizes.nnz_qo));
  }

  void run(const PlannedBatch& batch, const AttentionArguments& a, Stream) override {
    if (batch.lengths.batch() == 0) return;
    if (!a.packed_custom_mask.empty()) unpack_mask(batch.plan, a.packed_custom_mask);
    const std::int64_t rows = batch.lengths.qo_indptr.back(), heads = params_.num_qo_heads, dim = params_.head_dim_vo;
    const Tensor o = first_rows(a.output.o, rows);
    AttentionOutput output = a.output;
    output.o = o;
    for (std::span<float>* lse : {&output.lse_log2, &output.lse_natural}) {
      if (!lse->empty()) *lse = lse->first(static_cast<std::size_t>(rows * heads));
    }
    if (o.dtype != DType::f32) output.o = contiguous(f32_.data(), DType::f32, {rows, heads, dim});
    if (latent_) {
      latent_executor_->run(latent_problem_of(batch.lengths, a), batch.plan, workspace_, ref::Schedule::stealing, output);
    } else {
      executor_->run(problem_of(batch.lengths, a), batch.plan, workspace_, ref::Schedule::stealing, output);
    }
    if (o.dtype != DType::f32) round_to(o, output.o.data_as<const float>());
  }

 private:
  AttentionProblem problem_of(const BatchLengths& lengths, const AttentionArguments& a) const {
    const std::span<const std::int32_t> page_ids = a.page_ids.empty() ? page_ids_ : a.page_ids;
    AttentionProblem problem;
    problem.params = params_;
    problem.q = without_const(first_rows(a.q, lengths.qo_indptr.back()));
    problem.kv = a.kv;
    problem.qo_indptr = lengths.qo_indptr;
    problem.custom_mask = a.packed_custom_mask.empty() ? a.custom_mask : mask_;
    problem.sinks = a.sinks;
    problem.scales = a.scales;
    problem.identity_pages = a.identity_pages;
    if (lengths.block_table) {
      problem.block_tables = page_ids;
      problem.seq_lens = lengths.block_table->seq_lens;
    } else {
      problem.paged_kv_indptr = lengths.paged_kv_indptr;
      problem.paged_kv_last_page_len = lengths.paged_kv_last_page_len;
      problem.paged_kv_indices = page_ids;
    }
    return problem;
  }

  // The executor reads bytes.
  void unpack_mask(const Plan& plan, std::span<const std::uint8_t> packed) {
    mask_.clear();
    for (std::int32_t b = 0; b < plan.batch; ++b) {
      const std::int64_t pairs = std::int64_t{plan.qo_lens[b]} * plan.kv_lens[b];
      for (std::int64_t at = 0; at < pairs; ++at) mask_.push_back(packed[at / 8] >> (at % 8) & 1);
      packed = packed.subspan(static_cast<std::size_t>((pairs + 7) / 8));
    }
  }

  MlaProblem latent_problem_of(const BatchLengths& lengths, const AttentionArguments& a) const {
    const AttentionProblem frame = problem_of(lengths, a);
    MlaProblem problem;
    problem.params = {params_.num_qo_heads, params_.head_dim_vo, params_.head_dim_qk - params_.head_dim_vo, params_.sm_scale,
                      params_.mask};
    problem.q_nope = frame.q;
    problem.q_pe = without_const(first_rows(a.latent->q_pe, lengths.qo_indptr.back()));
    problem.cache = a.latent->cache;
    problem.scales = a.latent->scales;
    problem.qo_indptr = frame.qo_indptr;
    problem.paged_kv_indptr = frame.paged_kv_indptr;
    problem.paged_kv_indices = frame.paged_kv_indices;
    problem.paged_kv_last_page_len = frame.paged_kv_last_page_len;
    problem.block_tables = frame.block_tables;
    problem.seq_lens = frame.seq_lens;
    return problem;
  }

  // o [rows, heads, dim] of 16 bits from dense floats, each rounded once.
  void round_to(const Tensor& o, const float* from) const {
    for (std::int64_t row = 0; row < o.shape[0]; ++row) {
      for (std::int64_t head = 0; head < o.shape[1]; ++head, from += o.shape[2]) {
        ref::store_row(from, o.shape[2], o, row * o.strides[0] + head * o.strides[1]);
      }
    }
  }

  std::size_t partial_bytes(const Sizes& sizes) const {
    const auto row = static_cast<std::size_t>(params_.head_dim_vo) + 1;
    return static_cast<std::size_t>(sizes.partial_rows) * row * sizeof(float);
  }
  std::size_t f32_bytes(std::int64_t rows) const {
    if (config_.dtype_of_o() == DType::f32) return 0;
    return static_cast<std::size_t>(rows * params_.num_qo_heads * params_.head_dim_vo) * sizeof(float);
  }
  // A graph's tensors have the rows of the largest batch, of which this one's are the first.
  template <class AnyTensor>
  static AnyTensor first_rows(AnyTensor t, std::int64_t rows) {
    t.shape[0] = rows;
    return t;
  }

  AttentionConfig config_;
  AttentionParams params_;
  bool latent_;
  std::int32_t threads_;
  AttentionMachine machine_;
  std::optional<ref::PlanExecutor> executor_;  // of these two one
  std::optional<ref::l3::Executor> latent_executor_;
  std::span<std::byte> workspace_, f32_;  // f32_: behind the partials
  std::vector<std::int32_t> page_ids_;    // a graph's
  std::vector<std::uint8_t> mask_;        // of a packed custom mask
};

}  // namespace

std::unique_ptr<AttentionBackend> make_cpu_attention(const AttentionConfig& config, bool latent) {
  return std::make_unique<CpuAttention>(config, latent);
}

}  // namespace flashladder::api
