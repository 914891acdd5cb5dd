#include "api/gpu_call.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"
#include "gpu/check.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/device.hpp"
#include "gpu/prefill/mixed_cost.hpp"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/rotated_copy.hpp"

namespace flashladder::api {

int current_gpu() {
  int device = 0;
  gpu::check(cudaGetDevice(&device));
  return device;
}

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status{};
  gpu::check(cudaStreamIsCapturing(cuda_stream(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

unsigned long long capture_of(Stream stream) {
  cudaStreamCaptureStatus status{};
  unsigned long long id = 0;
  gpu::check(cudaStreamGetCaptureInfo(cuda_stream(stream), &status, &id));
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

namespace {

gpu::AttentionDTypes dtypes_of(const AttentionConfig& config) {
  return {.q = config.dtype_of_q(), .kv = config.cache.dtype};
}
// Do P5 and P11 compute on a copy of K and V in q's dtype? RoPE's copy is of 16-bit caches alone.
bool widens(const AttentionConfig& config) {
  return config.cache.dtype == DType::f8_e4m3 && config.dtype_of_q() != DType::f32 &&
         config.logits.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA;
}
gpu::AttentionDTypes dtypes_in_prefill(const AttentionConfig& config) {
  const DType q = config.dtype_of_q();
  return {.q = q, .kv = widens(config) ? q : config.cache.dtype};
}

// "" if P11 computes this here, if need be on a copy; else why not.
std::string why_not_fa3(const AttentionConfig& config, const AttentionParams& params) {
  const std::string reason = gpu::p11::why_not(params, dtypes_in_prefill(config));
  return reason.empty() ? gpu::why_no_hopper() : reason;
}

// Where the cuts of a request may depend on its neighbours, the kernel may too.
bool may_take_d7(const AttentionConfig& config) {
  return config.execution.policy == SplitPolicy::balanced && gpu::why_no_hopper().empty() &&
         gpu::d6::why_not(config.params(), dtypes_of(config)).empty();
}

}  // namespace

std::string GpuChoice::explain(PageUse use, bool decodes, bool for_graphs) const {
  const auto prefill = [this](PageUse pages) {
    const std::string reason = why_in_place(pages);
    return is_copied(pages) ? why_copied : reason.empty() ? why : why + "; " + reason;
  };
  if (d6_queries == 0) return prefill(use);
  const std::string queries = d6_queries == 1 ? "one query" : std::to_string(d6_queries) + " queries";
  if (decodes) {
    const bool by_batch = copies == PageCopies::where_it_pays && !for_graphs;
    return "D6, as for decode: no request has more than " + queries + "; else " +
           prefill(by_batch ? PageUse::by_batch : PageUse::in_place);
  }
  return prefill(use) + (for_graphs ? "; D6 if max_qo_len were at most " + std::to_string(d6_queries)
                                    : "; D6 for a plan in which no request has more than " + queries);
}

namespace {

GpuChoice choose_latent(const AttentionConfig& config) {
  const gpu::MlaFormats formats{.q = config.dtype_of_q(), .kv = config.cache.dtype};
  const std::string reason = gpu::l4::why_not(config.params(), formats);
  require(reason.empty(), "device", "gpu", ("does not compute this, cpu does: " + reason).c_str());
  const std::string not_taken = gpu::l5::why_not(config.params(), formats);
  const std::string no_l5 = not_taken.empty() ? gpu::why_no_hopper() : not_taken;
  if (no_l5.empty()) return {.kernel = GpuKernel::l5, .why = "L5, for Hopper GPUs; L4 in a run() with scales of latent rows"};
  const std::string no_l4 = gpu::l4::why_no_device();
  require(no_l4.empty(), "device", "gpu", ("has no kernel for latent attention, cpu has: " + no_l4).c_str());
  return {.kernel = GpuKernel::l4, .why = "L4, for Ampere and newer GPUs; not L5: " + no_l5};
}

GpuChoice choose(const AttentionConfig& config, const BackendKind& kind) {
  if (kind.latent) return choose_latent(config);
  const AttentionParams params = config.params();
  const Backend asked = config.execution.backend;
  if (kind.decode) {
    require(asked == Backend::automatic, "backend", name_of(asked), "is for prefill; decode has one kernel");
    const std::string reason = gpu::d6::why_not(params, dtypes_of(config));
    require(reason.empty(), "device", "gpu", ("does not compute this, cpu does: " + reason).c_str());
    const std::int32_t most = gpu::d6::most_queries(params);
    require(kind.queries <= most, "q_len_per_req", kind.queries,
            ("must be at most " + std::to_string(most) + " on the GPU: more of such heads are a prefill's").c_str());
    const std::string d7 = may_take_d7(config) ? "; D7, D6 with clusters, where few requests have few KV heads" : "";
    return {.kernel = GpuKernel::d6, .why = "D6, for one query a request" + d7};
  }
  const bool rotates = params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA;
  const AttentionParams behind = gpu::behind_rotation(params);
  const bool copied = rotates || widens(config);
  const std::string of_copy = rotates ? ", on copies of q and K that are rotated first: pos_encoding_mode ROPE_LLAMA"
                              : copied ? ", on a copy of K and V in q's dtype: an fp8 cache" : "";
  const auto choice = [&](GpuKernel kernel, const std::string& why) {
    return GpuChoice{.kernel = kernel, .why = why, .copies = copied ? PageCopies::always : PageCopies::never,
                     .why_copied = why, .rotates = rotates};
  };
  const std::string no_fa3 = why_not_fa3(config, behind);
  require(asked != Backend::fa3 || no_fa3.empty(), "backend", "fa3", ("can't be taken: " + no_fa3).c_str());
  const std::string fa3 = "fa3: P11, for Hopper GPUs", fa2 = "fa2: P5, for Ampere and newer GPUs";
  if (asked != Backend::fa2 && no_fa3.empty()) {
    const bool any_pages = kind.ragged || copied;
    const std::string no_boxes = any_pages ? "" : gpu::p11::why_not_pages(config.cache.page_size);
    if (no_boxes.empty()) return choice(GpuKernel::p11, fa3 + of_copy);
    const std::string on_copy = fa3 + ", on K and V that are copied together first: " + no_boxes;
    if (asked == Backend::fa3) {
      return {.kernel = GpuKernel::p11, .why = on_copy, .copies = PageCopies::always, .why_copied = on_copy};
    }
    return {.kernel = GpuKernel::p5, .why = fa2 + "; not fa3: " + no_boxes,  // what P11 takes, P5 does
            .copies = PageCopies::where_it_pays, .why_copied = on_copy};
  }
  const std::string no_fa2 = gpu::p5::why_not(behind, dtypes_in_prefill(config));
  require(asked != Backend::fa2 || no_fa2.empty(), "backend", "fa2", ("can't be taken: " + no_fa2).c_str());
  const std::string not_fa3 = asked == Backend::fa2 ? "fa2 was asked for" : "not fa3: " + no_fa3;
  if (no_fa2.empty()) return choice(GpuKernel::p5, fa2 + of_copy + "; " + not_fa3);
  const std::string reason = gpu::p1::why_not(params, dtypes_of(config));
  require(reason.empty(), "device", "gpu", ("does not compute this, cpu does: " + reason).c_str());
  return {.kernel = GpuKernel::p1, .why = "P1, which takes everything; " + not_fa3 + "; not fa2: " + no_fa2};
}

}  // namespace

GpuChoice choose_kernel(const AttentionConfig& config, const BackendKind& kind) {
  GpuChoice choice = choose(config, kind);
  // With policies fixed and none a request's bits must not depend on its neighbours, and so nor may its kernel.
  const bool by_plan = kind.for_graphs || !cut_alone(config.execution.policy);
  const bool any = !kind.decode && !kind.latent && config.execution.backend == Backend::automatic && by_plan;
  if (any && gpu::d6::why_not(config.params(), dtypes_of(config)).empty()) {
    choice.d6_queries = gpu::d6::most_queries(config.params());
  }
  // P12's queues always end where equal shares do, in a graph's plans too.
  const bool may_mix = any && !cut_alone(config.execution.policy) && !kind.ragged && choice.kernel == GpuKernel::p11 &&
                       choice.copies == PageCopies::never;
  choice.p12_for_mixed = may_mix && gpu::p12::why_not(config.params(), dtypes_of(config)).empty();
  return choice;
}

AttentionParams params_behind(const GpuChoice& choice, const AttentionParams& params) {
  return choice.rotates ? gpu::behind_rotation(params) : params;
}

std::int32_t sms_to_use(const ExecutionConfig& execution) {
  const std::int32_t all = gpu::multiprocessors();
  return execution.num_sms > 0 ? std::min(execution.num_sms, all) : all;
}

std::int32_t clusters_to_use(const AttentionConfig& config, std::int32_t num_sms) {
  if (!may_take_d7(config)) return 0;
  return gpu::d7::clusters(config.heads.head_dim_qk) * num_sms / gpu::multiprocessors();
}

void attend_on_gpu(GpuKernel kernel, const gpu::AttentionCall& call, const gpu::PackedShape& capacity, std::byte* packed,
                   void* partials, Stream stream) {
  if (kernel == GpuKernel::d6) return gpu::d6::attend(call, capacity, packed, partials, cuda_stream(stream));
  if (kernel == GpuKernel::d7) return gpu::d7::attend(call, capacity, packed, partials, cuda_stream(stream));
  if (kernel == GpuKernel::p1) return gpu::p1::attend(call, capacity, packed, partials, cuda_stream(stream));
  if (kernel == GpuKernel::p5) return gpu::p5::attend(call, capacity, packed, partials, cuda_stream(stream));
  gpu::p11::attend(call, capacity, packed, partials, cuda_stream(stream));
}

void require_scales(GpuKernel kernel, const AttentionConfig& config, const KvScales& scales) {
  if (scales.k_per_head.empty() || kernel == GpuKernel::p1) return;
  const gpu::AttentionDTypes dtypes{.q = config.dtype_of_q(), .kv = config.cache.dtype, .k_per_head = true};
  const bool decode = kernel == GpuKernel::d6 || kernel == GpuKernel::d7;
  const std::string reason = decode ? gpu::d6::why_not(config.params(), dtypes) : gpu::p11::why_not(config.params(), dtypes);
  require(reason.empty(), "k_scale_per_head size", scales.k_per_head.size(), ("can't be taken on the GPU: " + reason).c_str());
}

void attend_latent(GpuKernel kernel, const gpu::MlaCall& call, const gpu::PackedShape& capacity, std::byte* packed,
                   void* partials, Stream stream) {
  static_assert(gpu::l4::grid().query_tile == gpu::l5::grid().query_tile, "either runs the other's plans");
  if (kernel == GpuKernel::l4 || call.has_scales()) {
    return gpu::l4::attend(call, capacity, packed, partials, cuda_stream(stream));
  }
  gpu::l5::attend(call, capacity, packed, partials, cuda_stream(stream));
}

gpu::MlaCall gpu_mla_call(const AttentionParams& params, const AttentionArguments& a, const std::int32_t* page_ids) {
  MlaProblem problem;
  problem.params = {params.num_qo_heads, params.head_dim_vo, params.head_dim_qk - params.head_dim_vo, params.sm_scale,
                    params.mask};
  problem.q_nope = without_const(a.q);
  problem.q_pe = without_const(a.latent->q_pe);
  problem.cache = a.latent->cache;
  problem.scales = a.latent->scales;
  gpu::MlaCall call = gpu::mla_call(problem, a.output);
  call.kv.pages.indices = page_ids;  // where each request's begin is in the packed plan
  return call;
}

gpu::AttentionCall gpu_attention_call(const AttentionParams& params, const AttentionArguments& a,
                                      const std::int32_t* page_ids) {
  AttentionProblem problem;
  problem.params = params;
  problem.q = without_const(a.q);
  problem.kv = a.kv;
  problem.sinks = a.sinks;
  problem.scales = a.scales;
  problem.custom_mask = a.custom_mask;
  gpu::AttentionCall call = gpu::attention_call(problem, a.output);
  call.kv.pages.indices = page_ids;  // where each request's begin is in the packed plan
  call.packed_custom_mask = a.packed_custom_mask.empty() ? nullptr : a.packed_custom_mask.data();
  return call;
}

}  // namespace flashladder::api
