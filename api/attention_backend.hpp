// What stands behind an attention object: the CPU's C4 or a GPU kernel, each with its machine and its use of the workspace.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "api/attention_config.hpp"
#include "api/page_use.hpp"
#include "core/attention_problem.hpp"
#include "core/mla_problem.hpp"
#include "core/page_table.hpp"
#include "core/plan.hpp"
#include "core/range.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::api {

// What one plan, or a captured graph, takes: planner::usage(), or most_work().
using Sizes = planner::CaptureLimits;

// What the host knows of queries whose lengths lie on the device.
struct MostQueries {
  std::int64_t nnz_qo = 0;   // of all requests: rows of q and o
  std::int32_t qo_len = 0;   // of a request
};

// The lengths of a batch as plan() is given them: page lists, a ragged cache, or a block table. Host arrays, but where
// max_seq_len is given: then they lie on the object's device. Those of a prefill are then qo_indptr or qo_lens, there too.
struct BatchLengths {
  std::span<const std::int32_t> qo_indptr{};                                   // [batch + 1]; empty: decode
  std::span<const std::int32_t> paged_kv_indptr{}, paged_kv_last_page_len{};   // [batch + 1], [batch]: page lists
  std::span<const std::int32_t> kv_indptr{};                                   // [batch + 1]: a ragged cache
  std::optional<BlockTableLengths> block_table{};
  std::optional<std::int32_t> max_seq_len{};                                   // of any request
  std::span<const std::int32_t> qo_lens{};                                     // [batch]; empty: qo_indptr says them
  std::optional<MostQueries> most_queries{};                                   // of a prefill with max_seq_len

  std::size_t batch() const {
    if (block_table) return block_table->seq_lens.size();
    return kv_indptr.empty() ? paged_kv_last_page_len.size() : kv_indptr.size() - 1;
  }
  // Lengths of page lists or of a block table, without page ids.
  PageTable table(std::int32_t page_size) const {
    const auto requests = static_cast<std::int32_t>(batch());
    if (block_table) {
      return flashladder::block_table(nullptr, block_table->seq_lens.data(), block_table->max_pages, page_size, requests);
    }
    return {.indptr = paged_kv_indptr.data(), .last_page_len = paged_kv_last_page_len.data(), .page_size = page_size,
            .num_requests = requests};
  }
  std::int64_t page_entries() const {  // that page ids must have; not known of page lists on the device
    if (block_table) return static_cast<std::int64_t>(batch()) * block_table->max_pages;
    return kv_indptr.empty() ? paged_kv_indptr.back() : kv_indptr.back();
  }
};

// A batch that was planned. Its arrays live as long as the plan is in force. qo_indptr is there for decode too, and a ragged
// cache has become page lists with pages of one token.
struct PlannedBatch {
  const Plan& plan;
  BatchLengths lengths;
};

// What latent attention has beside q_nope (core/mla_problem.hpp).
struct LatentTensors {
  ConstTensor q_pe;
  PagedMlaCache cache;
  MlaScales scales{};
};

// run()'s arguments, checked against config and plan.
struct AttentionArguments {
  ConstTensor q;
  PagedKvCache kv;
  std::span<const std::int32_t> page_ids;  // paged_kv_indices or block_tables; empty: those that plan() was given
  bool identity_pages = false;             // ragged: token n is page n, and there are no page ids
  AttentionOutput output;
  std::span<const float> sinks;
  std::span<const std::uint8_t> custom_mask{};         // bytes, or
  std::span<const std::uint8_t> packed_custom_mask{};  // bits
  KvScales scales{};
  std::optional<LatentTensors> latent{};   // of latent attention: q is q_nope then, and kv is nothing
};

// Every request is cut as if it were alone. Then its bits do not depend on its neighbours, if the kernel does not either.
constexpr bool cut_alone(SplitPolicy policy) { return policy == SplitPolicy::fixed || policy == SplitPolicy::none; }

// What the planner must know of whoever executes its plans.
struct AttentionMachine {
  planner::MachineShape shape;
  std::int32_t most_decode_rows = 1;  // packed query rows that an item of a decode may have
  std::int32_t prefill_rows = 0;      // of a full item of a prefill
  std::int32_t pack = 0;              // query heads whose rows a tile packs: the group (or 0), or 1
  planner::CostModel cost{};
  bool claimed = false;                    // its CTAs claim the work; else they run the plan's queues
  std::int32_t decode_queries = 0;         // not 0: decode's kernel; no request of a plan has more queries
  std::int32_t clusters = 0;               // not 0: its CTAs are so many clusters of them (D7)
  // So many tiles for each CTA balance themselves: then policy balanced cuts nothing, since merging has its price. 0: it
  // always cuts where equal shares end.
  std::int64_t enough_tiles = 0;
  std::optional<std::int64_t> copied_rows{};  // tokens of the copy of K and V that its kernel runs on; or on the pages
  bool one_wave = false;                   // P11 in the place of D6, without a cut: gpu/prefill/one_wave.hpp
  // Not 0: requests of one query are a part of the plan of their own, with queues (P12). A graph has room for queue_room.
  std::int32_t decode_tile = 0, decode_queues = 0, queue_room = 0;
  planner::CostModel decode_cost{};

  bool decodes() const { return decode_queries > 0; }
  std::int32_t query_tile(bool decode, std::int32_t group_size) const {
    if (decode_queries > 1) return decode_queries * group_size;  // all of a request's rows
    // Decode: a group in the fewest tiles, these as even as they can be.
    return decode || decodes() ? div_up(group_size, div_up(group_size, most_decode_rows)) : prefill_rows;
  }
};

// Of a batch, or of the largest that a graph replays: what decides which kernel computes it.
struct BatchSize {
  std::int64_t nnz_qo = 0, batch = 0;         // nnz_qo 0: decode, one query a request
  std::int64_t most_qo_len = 0;               // of a request
  std::optional<std::int64_t> most_kv_len{};  // of a request that has queries; or any
  // Of a batch: keys that requests of one query see, pairs that the others' queries see with them, of one head.
  std::int64_t decode_keys = 0, prefill_pairs = 0;
  std::int64_t prefill_queries = 0, prefill_requests = 0;  // of more than one query
  std::int64_t prefill_keys = 0;                           // of these requests
  bool of_limits = false;  // nnz_qo, batch and lengths are limits, those two lines of the batch that is planned, or 0

  static constexpr std::int64_t many_queries = std::numeric_limits<std::int32_t>::max();  // of a request that is no decode
  std::int64_t with_queries() const { return nnz_qo > 0 ? std::min(nnz_qo, batch) : batch; }  // requests, at most
};

// Where the memory begins that a planner on the device wants behind so many bytes of workspace.
constexpr std::size_t planner_at(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

// For AttentionProblem, whose q is only read.
inline Tensor without_const(const ConstTensor& t) {
  return {.data = const_cast<void*>(t.data), .dtype = t.dtype, .rank = t.rank, .shape = t.shape, .strides = t.strides};
}

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;

  // For batches of this size. A graph's is that of its limits: what a launch is made of does not change from plan to plan.
  // copied_rows: for pages that are copied together. Where decode's kernel runs, none are: it reads pages of any size.
  virtual AttentionMachine machine(const BatchSize& size, std::optional<std::int64_t> copied_rows) const = 0;
  // Who computes where pages are so used, in a sentence, and why nobody faster. machine: of the plan in force.
  virtual std::string explain(PageUse use, const AttentionMachine& machine) const = 0;
  virtual PageCopies page_copies() const { return PageCopies::never; }

  // machine: the one that the plan is made for.
  virtual WorkspaceBytes bytes(const Sizes& sizes, const AttentionMachine& machine) const = 0;
  // From here on plan() and run() may be called. InputError if the memory is not what it should be, but for its size.
  virtual void attach(const Workspace& workspace) = 0;

  // InputError if plan() can't be called on this stream now.
  virtual void require_plannable(Stream stream) const = 0;
  // The plan, packed for these sizes, to where run() finds it. page_ids: empty, or to be kept.
  virtual void plan(const PlannedBatch& batch, const Sizes& sizes, const AttentionMachine& machine,
                    std::span<const std::int32_t> page_ids, Device ids_on, Stream stream) = 0;
  // The same for lengths on the device, where the plan is made: inputs is without lengths. What that takes beside bytes():
  virtual std::size_t planner_bytes(const BatchLengths&, const Sizes&, const AttentionMachine&,
                                    const planner::PlanInputs&) const {
    return 0;
  }
  virtual void plan_on_device(const BatchLengths&, const Sizes&, const AttentionMachine&, const planner::PlanInputs&,
                              Stream) {}
  virtual void run(const PlannedBatch& batch, const AttentionArguments& arguments, Stream stream) = 0;
};

// for_graphs: page ids are kept in the workspace, and one launch serves every plan of the same sizes.
struct BackendKind {
  bool decode = true;  // `queries` of every request
  bool for_graphs = false;
  bool ragged = false;  // token n is page n
  bool mixed = false;   // requests of one query beside others are what it is for: a graph's kernel is then one for both
  bool latent = false;  // latent attention
  std::int32_t queries = 1;
};
std::unique_ptr<AttentionBackend> make_cpu_attention(const AttentionConfig& config, bool latent);
// In a build with CUDA. InputError if the GPU does not compute this.
std::unique_ptr<AttentionBackend> make_gpu_attention(const AttentionConfig& config, const BackendKind& kind);

}  // namespace flashladder::api
