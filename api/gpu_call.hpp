// From run()'s arguments to a launch: what plan and run, and the calls for a single request, have in common on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "api/attention_backend.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/mla/mla.hpp"

namespace flashladder::api {

inline cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
int current_gpu();
bool is_capturing(Stream stream);
// The capture that is under way on the stream; 0: none.
unsigned long long capture_of(Stream stream);

// The kernel behind an object: D6 for decode, else P11, or P5, or P1, which takes everything. A function of the config and
// the current device alone. What a plan adds: for a batch without a second query in any request prefill takes D6 too, if D6
// computes what the config says, and neither a backend nor bits that do not depend on the neighbours are asked for. So it does
// for few queries a request, but where P11 computes a batch in one wave of whole tiles. And in D6's place D7, on Hopper and
// for plans of policy balanced, where the batch's lengths promise that clusters pay. And in P11's place P12, for a batch of
// requests of one query and others, where each is a part of the work that counts. Latent attention has L5, or L4.
enum class GpuKernel : std::uint8_t { d6, d7, p1, p5, p11, p12, l4, l5 };
inline constexpr const char* gpu_kernel_for_mixed =
    "fa3: P12, for Hopper GPUs, which decodes the requests of one query while it prefills the others";
inline constexpr const char* gpu_kernel_in_one_wave =
    "; not D6, which takes few queries a request else: these are about a tile for each SM, and its plan would cut them all";
struct GpuChoice {
  GpuKernel kernel = GpuKernel::d6;
  std::string why{};  // a sentence
  // Pages that P11 can't read: with a copy of K and V it is the kernel, and says so in its own sentence. With RoPE inside
  // attention both P5 and P11 compute on a copy always: of q and K rotated, and of V.
  PageCopies copies = PageCopies::never;
  std::string why_copied{};
  std::int32_t d6_queries = 0;  // not 0: D6 is the kernel where no request has more queries
  bool p12_for_mixed = false;
  bool rotates = false;  // the copy is a rotated one (gpu/prefill/rotated_copy.hpp)

  bool as_decode(std::int64_t most_qo_len) const { return d6_queries > 0 && most_qo_len <= d6_queries; }
  GpuKernel kernel_for(std::int64_t most_qo_len, bool copied = false) const {
    if (as_decode(most_qo_len)) return GpuKernel::d6;
    return copied && copies == PageCopies::where_it_pays ? GpuKernel::p11 : kernel;
  }
  // P11, where D6 takes few queries a request, is the faster: one_wave.hpp. No graph's, and with policy balanced only.
  bool in_one_wave(const AttentionConfig& config, const BatchSize& size, std::int32_t num_sms, bool for_graphs) const;
  // A graph's kernel is the same for all plans: P12 where mixed batches are what it is made for.
  bool takes_mixed(const AttentionParams& params, const BatchSize& size, const BackendKind& kind) const;
  // decodes: the plan in force, or all of a graph, is one of decode's; for_graphs: no plan changes the kernel.
  std::string explain(PageUse use, bool decodes, bool for_graphs) const;
};
// InputError if the GPU does not compute this, or not with the backend that is asked for.
GpuChoice choose_kernel(const AttentionConfig& config, const BackendKind& kind);

// SMs that plans are made for: those of the current GPU, or the config's limit. Asks the driver.
std::int32_t sms_to_use(const ExecutionConfig& execution);
// D7's clusters, as many as these SMs hold, or 0: no batch of this config takes it. Asks the driver.
std::int32_t clusters_to_use(const AttentionConfig& config, std::int32_t num_sms);

// What a prefill of this choice is planned and launched for: where q and K come rotated, attention without RoPE.
AttentionParams params_behind(const GpuChoice& choice, const AttentionParams& params);

// What plans are made for: the SMs, and D7's clusters.
struct GpuRoom {
  std::int32_t num_sms = 0, clusters = 0;
  DType kv_dtype = DType::f16;  // of what decode reads
};
AttentionMachine gpu_machine(GpuKernel kernel, const AttentionParams& params, const BatchSize& size, const GpuRoom& room);
void attend_on_gpu(GpuKernel kernel, const gpu::AttentionCall& call, const gpu::PackedShape& capacity, std::byte* packed,
                   void* partials, Stream stream);

// The same of latent attention.
void attend_latent(GpuKernel kernel, const gpu::MlaCall& call, const gpu::PackedShape& capacity, std::byte* packed,
                   void* partials, Stream stream);

// InputError if the kernel, on what a copy has made of the cache, doesn't take such scales.
void require_scales(GpuKernel kernel, const AttentionConfig& config, const KvScales& scales);

// page_ids: on the device; nullptr: identity pages. The arguments have been checked.
gpu::MlaCall gpu_mla_call(const AttentionParams& params, const AttentionArguments& arguments, const std::int32_t* page_ids);
gpu::AttentionCall gpu_attention_call(const AttentionParams& params, const AttentionArguments& arguments,
                                      const std::int32_t* page_ids);

}  // namespace flashladder::api
