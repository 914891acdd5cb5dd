// Batch decode over a paged KV cache by plan and run: plan() once a batch, run() for every layer of the model.
//
//   const AttentionConfig config{.heads = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128},
//                                .cache = {.page_size = 16}, .execution = {.device = Device::gpu}};
//   const AttentionLimits limits{.max_batch = 64, .max_pages = 20000};
//   const WorkspaceBytes bytes = BatchDecodeWithPagedKVCache::workspace_bytes(config, limits);
//   BatchDecodeWithPagedKVCache decode(config, workspace);              // the caller's memory, so many bytes or more
//   decode.plan(paged_kv_indptr, paged_kv_last_page_len, stream);       // host arrays
//   for (each layer) decode.run(q, kv_cache, paged_kv_indices, {o, lse}, stream);
//
// What is computed, empty requests and sinks included: docs/conventions.md; request b's query is the newest of its kv_len(b)
// tokens. The same class runs on the CPU (Device::cpu): the same arguments in host memory, the same errors.
//
// An object belongs to one thread and one stream at a time, and to the GPU that is current when it is made; whoever moves it
// to another stream waits for the old one first. Different objects may be used by different threads at once.
// Every argument is checked before anything is enqueued; InputError names the argument, its value, the request, the rule.
// Not checked, because they lie on the device: page ids (validate_page_ids in core/validate.hpp takes a host copy), sinks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"

namespace flashladder {
struct Plan;
}

namespace flashladder::api {

class AttentionSession;

class BatchDecodeWithPagedKVCache {
 public:
  // Exactly what a plan of this batch takes. Throws as the constructor and plan() do.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const std::int32_t> paged_kv_indptr,
                                        std::span<const std::int32_t> paged_kv_last_page_len);
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const BlockTableLengths& lengths);
  // Enough for every batch within the limits.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);
  // Enough for any lengths up to max_seq_len: the lengths themselves are not looked at. No staging memory.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const DeviceBlockTableLengths& lengths);
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const DevicePageListLengths& lengths);

  // InputError if the config can't be computed on its device, or there is no such device: why_no_gpu() says why.
  BatchDecodeWithPagedKVCache(const AttentionConfig& config, const Workspace& workspace);
  ~BatchDecodeWithPagedKVCache();  // waits until the staging memory is not read any more
  BatchDecodeWithPagedKVCache(BatchDecodeWithPagedKVCache&&) noexcept;
  BatchDecodeWithPagedKVCache& operator=(BatchDecodeWithPagedKVCache&&) noexcept;

  //   paged_kv_indptr [batch + 1], paged_kv_last_page_len [batch]      host; read before plan() returns
  // On the GPU: host work and one copy enqueued on the stream, behind the runs before it. Waits only if the copies of the
  // last four plans are all still to come, for the first of them. Planning again for no more work allocates nothing.
  // Refuses a capturing stream, a workspace that is too small, and to plan again what run() was captured with. If it throws,
  // nothing is planned: run() refuses until the next plan().
  void plan(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_last_page_len,
            Stream stream = nullptr);
  // The same for a dense block table: decode.plan(BlockTableLengths{seq_lens, max_pages}, stream).
  void plan(const BlockTableLengths& lengths, Stream stream = nullptr);
  // For lengths on the device, with policy balanced, even, fixed or none and no custom mask: on the GPU one kernel enqueued on
  // the stream, no copy, no wait. It makes the plan that plan() above makes of the same lengths and for as many CTAs, but that
  // balanced means even here: both are planned as policy even plans lengths on the host, on the CPU too. Also on a capturing
  // stream: what run() captures behind it then belongs to this graph, which plans anew in every replay, so that the
  // lengths may change in place; for a run outside of the graph plan() again. The CPU reads the lengths at once.
  void plan(const DeviceBlockTableLengths& lengths, Stream stream = nullptr);
  void plan(const DevicePageListLengths& lengths, Stream stream = nullptr);

  //   q          [batch, num_qo_heads, head_dim_qk]  dense along head_dim; strides of tokens and heads are free
  //   kv         one layer's cache: paged_kv_cache(tensor, KvLayout::NHD), once; core/kv_cache.hpp has the layouts
  //   page_ids   paged_kv_indices [>= paged_kv_indptr[batch]], or block_tables [batch, max_pages], as planned; on the device
  //   o          [batch, num_qo_heads, head_dim_vo]  of o_dtype, strided as q may be. It may be q itself (the same memory,
  //              shape, strides and dtype), but not overlap it otherwise
  //   lse_log2   [batch, num_qo_heads] f32, base 2, or empty; or, as {.o = o, .lse_natural = lse}, a natural logarithm
  //   sinks      [num_qo_heads] on the device with logits.sinks, else empty
  //   custom_mask [sum of kv_len] bytes on the device with logits.mask = custom, else empty
  //   scales     what a stored k and v stand for (core/kv_scales.hpp): numbers, or [num_kv_heads] on the device
  // On plan()'s stream. On the GPU: no allocation, no synchronisation, one kernel launch. q, o and the tokens of K and V
  // begin at multiples of 16 bytes there. It may be captured into a graph, which then replays this very plan. On the CPU a
  // thread allocates only when it first works on so much.
  void run(const ConstTensor& q, const PagedKvCache& kv, std::span<const std::int32_t> page_ids,
           const AttentionOutput& output, Stream stream = nullptr, std::span<const float> sinks = {},
           std::span<const std::uint8_t> custom_mask = {}, const KvScales& scales = {});

  // What plan() has made (core/plan.hpp): for pictures and predictions. InputError where it was made on the device.
  const Plan& current_plan() const;

 private:
  std::unique_ptr<AttentionSession> session_;
};

// The same for CUDA graphs: captured once, planned again for every batch, replayed.
//
//   CUDAGraphBatchDecodeWithPagedKVCache decode(config, limits, workspace);
//   decode.plan(...); capture { decode.run(q, kv_cache, {o, lse}, stream); ... } once, on any stream
//   for (each step) { decode.plan(...); launch the graph on the same stream; }
//
// Grid, pointers and capacities are fixed by the limits; a batch may be any within them, smaller or larger than the one at
// capture, with empty requests, or no request at all. Page ids are copied into the workspace, because the graph keeps its
// pointers; that is why they are an argument of plan() here, and of run() in the class above. q and o have max_batch rows: a
// replay reads and writes the first `batch` of them and leaves the others of o and lse_log2 as they are. On the CPU, where
// there are no graphs, run() after each plan() does the same, so that a program for both devices needs no second path.
class CUDAGraphBatchDecodeWithPagedKVCache {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);

  CUDAGraphBatchDecodeWithPagedKVCache(const AttentionConfig& config, const AttentionLimits& limits,
                                       const Workspace& workspace);
  ~CUDAGraphBatchDecodeWithPagedKVCache();
  CUDAGraphBatchDecodeWithPagedKVCache(CUDAGraphBatchDecodeWithPagedKVCache&&) noexcept;
  CUDAGraphBatchDecodeWithPagedKVCache& operator=(CUDAGraphBatchDecodeWithPagedKVCache&&) noexcept;

  // As above. paged_kv_indices [>= paged_kv_indptr[batch]]: in host memory, read before plan() returns, or on the device,
  // copied by the stream. A batch beyond the limits is refused with what exceeded: the graph then replays the plan before.
  void plan(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
            std::span<const std::int32_t> paged_kv_last_page_len, Stream stream = nullptr,
            Device indices_on = Device::cpu);
  // block_tables [batch, max_pages], likewise; batch * max_pages entries count against the limits' max_pages.
  void plan(const BlockTableLengths& lengths, std::span<const std::int32_t> block_tables, Stream stream = nullptr,
            Device indices_on = Device::cpu);

  // As above with q and o [max_batch, num_qo_heads, head_dim], lse_log2 [max_batch, num_qo_heads]. For the capturing stream;
  // on any other it must be plan()'s.
  void run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output, Stream stream = nullptr,
           std::span<const float> sinks = {}, const KvScales& scales = {});

  const Plan& current_plan() const;

 private:
  std::unique_ptr<AttentionSession> session_;
};

}  // namespace flashladder::api
