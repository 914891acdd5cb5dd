// The GPU behind an attention object: a kernel of decode or prefill, on a plan that is packed on the host and copied in one
// piece.
//
// workspace.device   packed plan, page ids that a graph keeps, partials; where K and V are copied first also the list of what
//                    is copied, behind the plan, and at the end the copy: of K, V, and with RoPE inside attention of q. With a
//                    custom mask a list of requests in the same place, and at the very end the mask's bits.
//                    Where a kernel makes the plan, at the end what that needs for itself
// workspace.staging  slots (gpu/staging_ring.hpp) of what is copied from the host: plan, lists, and a graph's page ids
#include <cuda_runtime_api.h>

#include <cstring>
#include <optional>
#include <string>

#include "api/attention_backend.hpp"
#include "api/gpu_call.hpp"
#include "api/gpu_planner.hpp"
#include "core/error.hpp"
#include "gpu/attention/mask_bits.hpp"
#include "gpu/check.hpp"
#include "gpu/prefill/compact_pages.hpp"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/rotated_copy.hpp"
#include "gpu/staging_ring.hpp"

namespace flashladder::api {
namespace {

using gpu::PackedShape;

void require_memory(std::span<std::byte> memory, cudaMemoryType wanted, const char* argument, const char* rule) {
  if (memory.empty()) return;
  cudaPointerAttributes attributes{};
  gpu::check(cudaPointerGetAttributes(&attributes, memory.data()));
  const bool managed = wanted == cudaMemoryTypeDevice && attributes.type == cudaMemoryTypeManaged;
  require(attributes.type == wanted || managed, argument, "", rule);
  require(reinterpret_cast<std::uintptr_t>(memory.data()) % 16 == 0, argument, "", "must be aligned to 16 bytes");
}

class GpuAttention final : public AttentionBackend {
 public:
  GpuAttention(const AttentionConfig& config, const BackendKind& kind)
      : config_(config), params_(config.params()), kind_(kind), gpu_(current_gpu()) {
    choice_ = choose_kernel(config, kind);
    room_.num_sms = sms_to_use(config.execution);
    room_.clusters = clusters_to_use(config, room_.num_sms);
    room_.kv_dtype = config.cache.dtype;
  }

  AttentionMachine machine(const BatchSize& size, std::optional<std::int64_t> copied_rows) const override {
    GpuKernel kernel = choice_.kernel_for(size.most_qo_len, copied_rows.has_value());
    const bool one_wave =
        kernel == GpuKernel::d6 && choice_.in_one_wave(config_, size, room_.num_sms, kind_.for_graphs);
    if (one_wave) kernel = GpuKernel::p11;
    const bool decode = kernel == GpuKernel::d6;
    if (kernel == GpuKernel::p11 && !one_wave && !copied_rows && choice_.takes_mixed(params_, size, kind_)) {
      kernel = GpuKernel::p12;
    }
    AttentionMachine machine = gpu_machine(kernel, decode ? params_ : params_behind(choice_, params_), size, room_);
    machine.one_wave = one_wave;
    if (!machine.decodes()) machine.copied_rows = copied_rows;
    return machine;
  }
  PageCopies page_copies() const override { return choice_.copies; }
  std::string explain(PageUse use, const AttentionMachine& machine) const override {
    const bool mixed = machine.decode_queues > 0;
    const std::string why = mixed              ? gpu_kernel_for_mixed
                            : machine.one_wave ? choice_.why + gpu_kernel_in_one_wave
                                               : choice_.explain(use, machine.decodes(), kind_.for_graphs);
    return config_.execution.num_sms == 0 ? why : why + "; on " + std::to_string(room_.num_sms) + " SMs, as num_sms asks";
  }

  WorkspaceBytes bytes(const Sizes& sizes, const AttentionMachine& machine) const override {
    const Layout at = layout(sizes, machine);
    return {.device = at.end, .staging = gpu::StagingRing::slots * at.partials};
  }

  void attach(const Workspace& workspace) override {
    require_memory(workspace.device, cudaMemoryTypeDevice, "workspace.device", "must be device memory, as of cudaMalloc");
    require_memory(workspace.staging, cudaMemoryTypeHost, "workspace.staging",
                   "must be page-locked host memory, as of cudaMallocHost");
    workspace_ = workspace;
    ring_.emplace(workspace.staging);
  }

  void require_plannable(Stream stream) const override {
    require_own_gpu();
    require(!is_capturing(stream), "stream", "capturing", "can't plan, which is host work: plan() before each replay");
    require_not_captured();
  }

  void plan(const PlannedBatch& batch, const Sizes& sizes, const AttentionMachine& machine,
            std::span<const std::int32_t> page_ids, Device ids_on, Stream stream) override {
    shape_ = shape_for(sizes, machine);
    decode_shape_ = decode_shape_for(sizes, machine);
    at_ = layout(sizes, machine);
    kernel_ = kernel_of(machine);
    compacted_ = compacted_shape(sizes, machine);
    const std::span<std::byte> slot = ring_->next();
    const auto& table = batch.lengths.block_table;
    const gpu::PageRows pages{config_.cache.page_size, table ? table->max_pages : 0};
    if (decode_shape_) gpu::pack(batch.plan, pages, *decode_shape_, slot.first(at_.works), 0);
    gpu::pack(batch.plan, compacted_ ? gpu::PageRows{} : pages, shape_, slot.first(at_.list).subspan(at_.works),
              decode_shape_ ? 1 : 0);
    if (compacted_) gpu::pack_compaction(batch.plan, params_, pages, *compacted_, slot.subspan(at_.list));
    mask_ = mask_shape(sizes);
    if (mask_) gpu::pack_mask_list(batch.plan, *mask_, slot.subspan(at_.mask_list));
    std::size_t staged = at_.indices;
    if (ids_on == Device::cpu && !page_ids.empty()) {
      std::memcpy(slot.data() + staged, page_ids.data(), page_ids.size_bytes());
      staged += page_ids.size_bytes();
    }
    std::byte* device = workspace_.device.data();
    gpu::check(cudaMemcpyAsync(device, slot.data(), staged, cudaMemcpyHostToDevice, cuda_stream(stream)));
    ring_->enqueued(cuda_stream(stream));
    if (ids_on == Device::gpu && !page_ids.empty()) {
      gpu::check(cudaMemcpyAsync(device + at_.indices, page_ids.data(), page_ids.size_bytes(), cudaMemcpyDeviceToDevice,
                                 cuda_stream(stream)));
    }
    planned_on_ = stream;
    planned_in_ = 0, just_planned_ = false;
  }

  std::size_t planner_bytes(const BatchLengths& lengths, const Sizes& sizes, const AttentionMachine& machine,
                            const planner::PlanInputs& inputs) const override {
    const PackedShape shape = shape_for(sizes, machine);
    if (lengths.most_queries) return gpu::plan_scratch_bytes(prefill_plan_params(inputs, lengths, shape, nullptr));
    return gpu::plan_scratch_bytes(decode_plan_params(inputs, lengths, shape, nullptr));
  }
  void plan_on_device(const BatchLengths& lengths, const Sizes& sizes, const AttentionMachine& machine,
                      const planner::PlanInputs& inputs, Stream stream) override {
    require_own_gpu();
    require_not_captured();
    shape_ = shape_for(sizes, machine);
    at_ = layout(sizes, machine);
    kernel_ = kernel_of(machine);
    compacted_.reset(), decode_shape_.reset(), mask_.reset();
    planned_on_ = stream;
    planned_in_ = capture_of(stream), just_planned_ = true;
    if (lengths.batch() == 0) return;
    std::byte *device = workspace_.device.data(), *scratch = device + planner_at(at_.end);
    const bool programmatic = config_.execution.enable_pdl;
    if (lengths.most_queries) {
      gpu::plan_prefill(prefill_plan_params(inputs, lengths, shape_, device), scratch, cuda_stream(stream), programmatic);
    } else {
      gpu::plan_decode(decode_plan_params(inputs, lengths, shape_, device), scratch, cuda_stream(stream), programmatic);
    }
  }

  void run(const PlannedBatch& batch, const AttentionArguments& a, Stream stream) override {
    const unsigned long long capture = capture_of(stream);
    const bool capturing = capture != 0;
    require(capturing || stream == planned_on_, "stream", "",
            "must be the one that plan() was called with, or be capturing");
    require(planned_in_ == 0 || planned_in_ == capture, "run()", "",
            "must be captured together with plan(), which was captured and has not run yet; or plan() again");
    require_own_gpu();
    if (batch.plan.batch == 0 && !kind_.for_graphs) return;
    std::byte* device = workspace_.device.data();
    const auto* kept = reinterpret_cast<const std::int32_t*>(device + at_.indices);
    const auto* page_ids = a.identity_pages ? nullptr : kind_.for_graphs ? kept : a.page_ids.data();
    if (kind_.latent) run_latent(a, page_ids, just_planned_, stream);
    else run_attention(a, page_ids, just_planned_, stream);
    // What is only captured has not run, nor has what was refused: the plan is as new to whoever comes next.
    if (!capturing || planned_in_ == capture) just_planned_ = false;
    captured_ = captured_ || (capturing && planned_in_ == 0 && !kind_.for_graphs);
  }

 private:
  // plan_is_new: the kernel before makes the plan. A kernel that reads it before it waits for that one must not start early.
  bool programmatic(bool plan_is_new) const { return config_.execution.enable_pdl && !plan_is_new; }
  void run_latent(const AttentionArguments& a, const std::int32_t* page_ids, bool plan_is_new, Stream stream) {
    std::byte* device = workspace_.device.data();
    gpu::MlaCall call = gpu_mla_call(params_, a, page_ids);
    call.programmatic = programmatic(plan_is_new);
    attend_latent(kernel_, call, shape_, device, device + at_.partials, stream);
  }
  void run_attention(const AttentionArguments& a, const std::int32_t* page_ids, bool plan_is_new, Stream stream) {
    std::byte* device = workspace_.device.data();
    require_scales(kernel_, config_, a.scales);
    gpu::AttentionCall call = gpu_attention_call(params_, a, page_ids);
    call.programmatic = programmatic(plan_is_new), call.plan_is_new = plan_is_new;
    if (mask_) {
      const gpu::MaskMemory to{*mask_, device + at_.mask_list, device + at_.mask_bits, room_.num_sms};
      call = gpu::make_mask_bits(call, to, cuda_stream(stream));
    }
    if (compacted_) {
      const gpu::Compaction to{*compacted_, device + at_.list, device + at_.copy, room_.num_sms};
      call = (choice_.rotates ? gpu::rotated::copy : gpu::p11::compact_pages)(call, to, cuda_stream(stream));
    }
    if (decode_shape_) {
      gpu::p12::attend(call, {*decode_shape_, shape_}, device, device + at_.partials, cuda_stream(stream));
    } else {
      attend_on_gpu(kernel_, call, shape_, device, device + at_.partials, stream);
    }
  }
  void require_own_gpu() const {
    const int current = current_gpu();
    require(current == gpu_, "current CUDA device", current, "must be the one that the object was made on");
  }
  void require_not_captured() const {
    require(!captured_, "plan()", "",
            "would change what a graph replays: the CUDAGraph classes are made for it");
  }

  // Where the parts of workspace.device begin: of a plan with a part of one query that one, then the works that are claimed.
  // A slot of workspace.staging has those before the partials.
  struct Layout {
    // The packed plan comes first.
    std::size_t works = 0, list = 0, mask_list = 0, indices = 0, partials = 0, copy = 0, mask_bits = 0, end = 0;
  };
  Layout layout(const Sizes& sizes, const AttentionMachine& machine) const {
    const PackedShape shape = shape_for(sizes, machine);
    const auto compacted = compacted_shape(sizes, machine);
    Layout at;
    if (const auto decode = decode_shape_for(sizes, machine)) at.works = gpu::packed_bytes(*decode);
    at.list = at.works + gpu::packed_bytes(shape);
    const auto mask = mask_shape(sizes);
    at.mask_list = at.list + (compacted ? gpu::compaction_list_bytes(*compacted) : 0);
    at.indices = at.mask_list + (mask ? gpu::mask_list_bytes(*mask) : 0);
    at.partials = at.indices + kept_indices_bytes(sizes);
    at.copy = at.end = at.partials + gpu::partial_bytes(shape, params_.head_dim_vo);
    if (compacted) {
      at.copy = (at.copy + 127) / 128 * 128;  // rows are whole cache lines, if the workspace begins with one
      at.end = at.copy + gpu::compacted_bytes(*compacted, params_, config_.dtype_of_q());
    }
    at.mask_bits = at.end;
    if (!mask) return at;
    at.mask_bits = (at.end + 15) / 16 * 16;
    at.end = at.mask_bits + gpu::mask_words_bytes(*mask);
    return at;
  }
  std::optional<gpu::MaskShape> mask_shape(const Sizes& sizes) const {
    if (params_.mask != MaskMode::custom) return {};
    return gpu::MaskShape{static_cast<std::int32_t>(sizes.batch), sizes.mask_words};
  }
  GpuKernel kernel_of(const AttentionMachine& machine) const {
    if (machine.decodes()) return machine.clusters > 0 ? GpuKernel::d7 : GpuKernel::d6;
    return choice_.kernel_for(BatchSize::many_queries, machine.copied_rows.has_value());
  }
  std::optional<gpu::CompactedShape> compacted_shape(const Sizes& sizes, const AttentionMachine& machine) const {
    if (!machine.copied_rows) return {};
    gpu::CompactedShape shape{static_cast<std::int32_t>(sizes.batch), *machine.copied_rows};
    if (choice_.rotates) shape.queries = sizes.nnz_qo, shape.values = !kind_.ragged;
    return shape;
  }
  // Either part may have all the items that there are.
  std::optional<PackedShape> decode_shape_for(const Sizes& sizes, const AttentionMachine& machine) const {
    if (machine.decode_queues == 0) return {};
    return PackedShape{.num_ctas = machine.queue_room, .query_tile = machine.decode_tile, .pack = params_.group_size(),
                       .items = sizes.items, .merges = sizes.merges, .partial_rows = sizes.partial_rows};
  }
  PackedShape shape_for(const Sizes& sizes, const AttentionMachine& machine) const {
    const std::int32_t rows = machine.query_tile(kind_.decode, params_.group_size());
    return {.claimed = machine.claimed, .num_ctas = static_cast<std::int32_t>(machine.shape.num_ctas()), .query_tile = rows,
            .pack = machine.pack > 0 ? machine.pack : params_.group_size(), .counters = machine.clusters > 0 ? rows : 1,
            .items = sizes.items, .merges = sizes.merges, .partial_rows = sizes.partial_rows};
  }
  std::size_t kept_indices_bytes(const Sizes& sizes) const {
    if (!kind_.for_graphs || kind_.ragged) return 0;
    return (static_cast<std::size_t>(sizes.pages) * sizeof(std::int32_t) + 15) / 16 * 16;
  }

  AttentionConfig config_;
  AttentionParams params_;
  BackendKind kind_;
  int gpu_;
  GpuChoice choice_;
  GpuRoom room_;  // asked once: plan() is called in every step of a model
  Workspace workspace_;
  std::optional<gpu::StagingRing> ring_;
  PackedShape shape_;
  std::optional<PackedShape> decode_shape_;  // of a part of one query: P12's
  // Of the plan in force.
  GpuKernel kernel_ = GpuKernel::d6;
  Layout at_;
  std::optional<gpu::CompactedShape> compacted_;
  std::optional<gpu::MaskShape> mask_;
  Stream planned_on_ = nullptr;
  unsigned long long planned_in_ = 0;  // the capture of which plan() is a part: it is made in each replay
  bool just_planned_ = false;          // by the kernel before, on the device
  bool captured_ = false;  // into a graph that replays the plan in force, and no other
};

}  // namespace

std::unique_ptr<AttentionBackend> make_gpu_attention(const AttentionConfig& config, const BackendKind& kind) {
  return std::make_unique<GpuAttention>(config, kind);
}

}  // namespace flashladder::api
