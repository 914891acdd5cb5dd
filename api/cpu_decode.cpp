// The CPU behind a decode object: C4 executes the same plan, one worker for each hardware thread in the place of CTAs.
#include <algorithm>
#include <optional>
#include <vector>

#include "api/decode_backend.hpp"
#include "core/error.hpp"
#include "reference/c4_planned.hpp"
#include "reference/element_io.hpp"

namespace flashladder::api {
namespace {

namespace ref = reference;

class CpuDecode final : public DecodeBackend {
 public:
  explicit CpuDecode(const DecodeConfig& config)
      : config_(config), threads_(config.threads > 0 ? config.threads : ref::ThreadPool::hardware_threads()),
        machine_{.shape = {.num_sms = threads_, .ctas_per_sm = 1}, .most_rows = config.num_qo_heads / config.num_kv_heads} {}

  const DecodeMachine& machine() const override { return machine_; }

  // C4's partials, then o in f32 where the caller wants another dtype.
  WorkspaceBytes bytes(const Sizes& sizes) const override {
    return {.device = partial_bytes(sizes) + f32_bytes(sizes.batch)};
  }

  void attach(const Workspace& workspace) override {
    require(reinterpret_cast<std::uintptr_t>(workspace.device.data()) % 16 == 0, "workspace.device", "",
            "must be aligned to 16 bytes");
    workspace_ = workspace.device;
    pool_.emplace(threads_);
  }

  void require_plannable(Stream) const override {}

  void plan(const PlannedBatch& batch, const Sizes& sizes, std::span<const std::int32_t> indices, Device indices_on,
            Stream) override {
    require(indices_on == Device::cpu, "indices_on", name_of(indices_on), "must be cpu, as the object's device is");
    indices_.assign(indices.begin(), indices.end());
    f32_ = workspace_.subspan(partial_bytes(sizes), f32_bytes(sizes.batch));
    qo_indptr_.resize(batch.paged_kv_indptr.size());
    for (std::size_t b = 0; b < qo_indptr_.size(); ++b) qo_indptr_[b] = static_cast<std::int32_t>(b);
  }

  void run(const PlannedBatch& batch, const DecodeArguments& a, Stream) override {
    const std::int64_t rows = batch.plan.batch, heads = config_.num_qo_heads, dim = config_.head_dim;
    const std::span<const std::int32_t> indices = a.paged_kv_indices.empty() ? indices_ : a.paged_kv_indices;
    const AttentionProblem problem{.params = config_.params(), .q = first_rows(a.q, rows), .kv = a.kv,
                                   .qo_indptr = qo_indptr_, .paged_kv_indptr = batch.paged_kv_indptr,
                                   .paged_kv_indices = indices, .paged_kv_last_page_len = batch.paged_kv_last_page_len,
                                   .custom_mask = {}, .sinks = a.sinks};
    const Tensor o = first_rows(a.output.o, rows);
    AttentionOutput output{.o = o, .lse_log2 = a.output.lse_log2};
    if (!output.lse_log2.empty()) output.lse_log2 = output.lse_log2.first(static_cast<std::size_t>(rows * heads));
    if (o.dtype != DType::f32) output.o = contiguous(f32_.data(), DType::f32, {rows, heads, dim});
    ref::c4::attend(problem, batch.plan, workspace_, *pool_, ref::Schedule::stealing, output);
    if (o.dtype != DType::f32) ref::store_row(output.o.data_as<float>(), rows * heads * dim, o, 0);
  }

 private:
  std::size_t partial_bytes(const Sizes& sizes) const {
    return static_cast<std::size_t>(sizes.partial_rows) * (static_cast<std::size_t>(config_.head_dim) + 1) * sizeof(float);
  }
  std::size_t f32_bytes(std::int64_t rows) const {
    if (config_.output_dtype() == DType::f32) return 0;
    return static_cast<std::size_t>(rows) * config_.num_qo_heads * config_.head_dim * sizeof(float);
  }
  // A graph's tensors have max_batch rows, of which the batch is the first.
  static Tensor first_rows(Tensor t, std::int64_t rows) {
    t.shape[0] = rows;
    return t;
  }

  DecodeConfig config_;
  std::int32_t threads_;
  DecodeMachine machine_;
  std::optional<ref::ThreadPool> pool_;
  std::span<std::byte> workspace_, f32_;  // f32_: behind the partials
  std::vector<std::int32_t> indices_, qo_indptr_;
};

}  // namespace

std::unique_ptr<DecodeBackend> make_cpu_decode(const DecodeConfig& config) { return std::make_unique<CpuDecode>(config); }

}  // namespace flashladder::api
