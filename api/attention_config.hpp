// What an attention object is made for, part by part, and how much memory it wants: the words that all classes of plan and
// run share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "api/placement.hpp"
#include "core/attention_params.hpp"
#include "core/split_policy.hpp"
#include "core/tensor.hpp"

namespace flashladder::api {

using flashladder::SplitPolicy;

struct HeadShape {
  std::int32_t num_qo_heads = 0, num_kv_heads = 0;  // any group size
  std::int32_t head_dim_qk = 0;                     // features of q and K
  std::int32_t head_dim_vo = 0;                     // features of V and o; 0: head_dim_qk

  std::int32_t dim_vo() const { return head_dim_vo == 0 ? head_dim_qk : head_dim_vo; }
  friend bool operator==(const HeadShape&, const HeadShape&) = default;
};

struct CacheConfig {
  std::int32_t page_size = 0;  // tokens; of a ragged cache 1
  DType dtype = DType::f16;    // of K and V: f32, f16, bf16, f8_e4m3 or f8_e5m2
  friend bool operator==(const CacheConfig&, const CacheConfig&) = default;
};

// How a dot product becomes a logit, and who sees whom: docs/conventions.md.
struct LogitsConfig {
  std::optional<float> sm_scale{};  // 1 / sqrt(head_dim_qk) if not given
  MaskMode mask = MaskMode::none;   // custom: run() gets the bytes
  std::int32_t window_left = -1;    // keys kept to the left of the diagonal one; -1: all
  float logits_soft_cap = 0;        // c > 0: logit = c * tanh(logit / c)
  PosEncodingMode pos_encoding_mode = PosEncodingMode::NONE;
  float rope_scale = 1, rope_theta = 10000;  // ROPE_LLAMA only
  bool sinks = false;               // run() gets one extra logit for each query head
  friend bool operator==(const LogitsConfig&, const LogitsConfig&) = default;
};

// The kernel behind the prefill classes on the GPU. automatic: the fastest that computes what the config says; explain()
// says which, and why no faster one. fa2, fa3: that one, or an InputError with the reason.
//   fa2  P5: Ampere and newer
//   fa3  P11: Hopper. Reads pages of 8 tokens and multiples of 8, or a ragged cache. Of other pages run() first copies K and
//        V together, into the workspace; automatic does so where many queries see each key (api/page_use.hpp)
enum class Backend : std::uint8_t { automatic, fa2, fa3 };
constexpr const char* name_of(Backend b) { return b == Backend::automatic ? "auto" : b == Backend::fa2 ? "fa2" : "fa3"; }

struct ExecutionConfig {
  Device device = Device::cpu;  // best_device() takes the GPU where there is one
  // balanced: equal work for every CTA, the fastest. even: nearly as level, by cuts that are arithmetic; for lengths on the
  // device balanced means even. fixed, with chunk_size keys (a multiple of 64): a request's bits do not depend on its
  // neighbours in the batch. The others: docs/05_plans.md.
  SplitPolicy policy = SplitPolicy::balanced;
  std::int32_t chunk_size = 0;
  std::int32_t threads = 0;  // on the CPU, at most; 0: one for each hardware thread
  // GPU only: run()'s kernel may start before the previous kernel on the stream has ended. It waits before it reads q, K and
  // V, but not before it reads page ids: the previous kernel must not write those.
  bool enable_pdl = false;
  Backend backend = Backend::automatic;  // GPU prefill only; automatic: decode's kernel for plans of single queries
  // GPU only, at most; 0: all. Plans and grids are made for as many CTAs as so many SMs hold, and the rest of the GPU is
  // left to other streams. Which SMs those are is the hardware's choice. The short kernel that joins the cut tiles of a
  // prefill is not limited.
  std::int32_t num_sms = 0;
  friend bool operator==(const ExecutionConfig&, const ExecutionConfig&) = default;
};

// The numbers that no plan() and no run() changes. What a device can't compute is refused when the object is made; what the
// GPU computes: docs/api.md. The CPU computes everything.
struct AttentionConfig {
  HeadShape heads;
  CacheConfig cache;
  LogitsConfig logits{};
  ExecutionConfig execution{};
  std::optional<DType> q_dtype{};  // cache.dtype if not given, and no other; with an fp8 cache f32, f16 or bf16, to be given
  std::optional<DType> o_dtype{};  // that of q if not given, or f32

  DType dtype_of_q() const { return q_dtype.value_or(cache.dtype); }
  DType dtype_of_o() const { return o_dtype.value_or(dtype_of_q()); }
  AttentionParams params() const;
  friend bool operator==(const AttentionConfig&, const AttentionConfig&) = default;
};
// The config that computes what the params say: config_for(p, {.page_size = 16}).params() is p.
AttentionConfig config_for(const AttentionParams& params, const CacheConfig& cache, const ExecutionConfig& execution = {});

// The lengths of a batch whose page ids are a dense block table: block_tables [batch, max_pages], as FlashInfer's trtllm
// entry points, vLLM and FlashAttention take it. Entries beyond a request's length are never read.
struct BlockTableLengths {
  std::span<const std::int32_t> seq_lens;  // [batch], host
  std::int32_t max_pages = 0;              // entries of a row
};

// The same with lengths that lie where the kernels run, so that another kernel may have written them: plan() copies nothing to
// the host and may be captured, and what it plans are the lengths that lie there when the stream comes to it. Nobody can
// refuse a length there: on the GPU one of more than max_seq_len keys counts as max_seq_len, a negative one as 0. What plans
// take is bought for max_seq_len keys in every request, and max_seq_len also decides between decode's kernels.
struct DeviceBlockTableLengths {
  std::span<const std::int32_t> seq_lens;  // [batch], on the object's device
  std::int32_t max_pages = 0;              // entries of a row
  std::int32_t max_seq_len = 0;            // at most max_pages * page_size
};
struct DevicePageListLengths {
  std::span<const std::int32_t> paged_kv_indptr, paged_kv_last_page_len;  // [batch + 1], [batch], on the object's device
  std::int32_t max_seq_len = 0;
};

// Beside these, the queries of a prefill on the device: their lengths lie there too. The host knows but bounds. What the
// device finds beyond them it cuts down: a request of more than max_qo_len queries has its first max_qo_len ones, where
// qo_indptr falls there are none, and rows from max_nnz_qo on are nobody's. Policy none only: no tile's keys are cut.
struct DeviceQueryLengths {
  std::span<const std::int32_t> qo_indptr;  // [batch + 1], on the object's device, from 0 on
  std::int64_t max_nnz_qo = 0;              // queries of all requests: rows of q and o. Those beyond qo_indptr[batch] are left
  std::int32_t max_qo_len = 0;              // of a request
};

// The largest batch that a workspace, or a captured graph, is meant for.
struct AttentionLimits {
  std::int32_t max_batch = 0;
  std::int64_t max_pages = 0;                 // entries of paged_kv_indices, or of block_tables: up to 2^31 - 1
  std::optional<std::int64_t> max_nnz_qo{};   // queries of all requests together; not given: decode, one a request
  std::optional<std::int32_t> max_qo_len{};   // prefill: queries of one request, if that is known. 1: decode's kernel
};

// device, staging: what the fastest way takes. Prefill on pages that fa3 can't read where they lie has two ways, and the
// fastest may take a copy of K and V. With less than `device`, but least_device, plan() takes the other one, fa2; with less
// than least_device it refuses. Elsewhere the two are the same.
struct WorkspaceBytes {
  std::size_t device = 0, staging = 0, least_device = 0;
};

// The caller's memory, borrowed for the life of the object: there is no other on the device.
//   device   where the kernels run: cudaMalloc or a part of it on the GPU, any memory on the CPU; 16-byte aligned
//   staging  GPU: page-locked host memory (cudaMallocHost, cudaHostRegister), 16-byte aligned. CPU: none
// No two objects may share memory. Contents don't matter.
struct Workspace {
  std::span<std::byte> device, staging{};
};

}  // namespace flashladder::api
