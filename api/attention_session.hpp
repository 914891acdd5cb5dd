// What every class of plan and run is made of: the config, the checks of plan() and run(), the plan in force, and a backend.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "api/attention_backend.hpp"
#include "api/attention_config.hpp"
#include "core/plan.hpp"
#include "planner/planner.hpp"

namespace flashladder::api {

// What the planner gets to know. The lengths are borrowed; qo_lens is empty for decode.
planner::PlanInputs plan_inputs(const AttentionConfig& config, const AttentionMachine& machine, bool decode,
                                std::span<const std::int32_t> qo_lens, std::span<const std::int32_t> kv_lens);
// For lengths on the device: policy balanced, the default, means even, whose cuts the GPU's planner finds all at once.
AttentionConfig planned_on_device(AttentionConfig config);

// InputError if the workspace has less.
void require_room(const Workspace& workspace, const WorkspaceBytes& bytes, PageUse use = PageUse::in_place);

// Bytes that a batch's custom mask has in either form.
struct MaskBytes {
  std::int64_t bytes = 0, packed = 0;  // the sum of qo_len * kv_len; the sum of the bytes that each request's bits fill

  void add(std::int64_t qo_len, std::int64_t kv_len) { bytes += qo_len * kv_len, packed += (qo_len * kv_len + 7) / 8; }
};

class AttentionSession {
 public:
  struct Kind {
    bool decode = true;                      // `queries` of every request: plan() is given no qo_indptr
    std::int32_t queries = 1;                // of a decode that is no graph
    bool ragged = false;                     // token n is page n: plan() is given kv_indptr, run() no page ids
    bool mixed = false;                      // made for requests of one query beside others
    bool latent = false;                     // latent attention; the config is MlaConfig::attention()'s
    std::optional<AttentionLimits> graph{};  // a graph's, which keeps page ids; none: every plan takes what it needs
  };
  AttentionSession(const AttentionConfig& config, const Kind& kind);
  // With a backend of the caller's, as tests have.
  AttentionSession(const AttentionConfig& config, const Kind& kind, std::unique_ptr<AttentionBackend> backend);

  WorkspaceBytes bytes_for(const BatchLengths& lengths);
  WorkspaceBytes bytes_for(const AttentionLimits& limits) const;

  void attach(const Workspace& workspace);
  // page_ids: a graph's, which are kept.
  void plan(const BatchLengths& lengths, std::span<const std::int32_t> page_ids, Device ids_on, Stream stream);
  // plan() in three steps, for who divides one workspace among several sessions: is it allowed now; bytes_for(lengths), then
  // attach() if another part of the workspace is wanted; and the plan of the lengths that bytes_for() was given. No graph.
  void require_plannable(Stream stream) const { backend_->require_plannable(stream); }
  void plan_measured(Stream stream);
  void run(const AttentionArguments& arguments, Stream stream);

  const Plan& current_plan() const;
  std::string explain() const {
    return backend_->explain(use_, planned_ || kind_.graph ? machine() : AttentionMachine{});
  }

 private:
  // For the lengths that are kept, or the graph's limits.
  PageUse best_use() const;
  std::int64_t copied_rows() const;      // where pages are copied
  AttentionMachine machine() const;      // as the pages are used
  AttentionMachine machine(std::optional<std::int64_t> copied_rows) const;
  BatchSize size_of_limits(const AttentionLimits& limits) const;
  planner::PlanInputs inputs() const;
  void keep(const BatchLengths& lengths);
  Sizes make_plan();                     // for the lengths that are kept
  Sizes plan_as_room_allows();           // the same
  void read_pages_in_place();
  bool keeps_bits() const;
  bool may_copy(const AttentionLimits& limits) const;  // of some batch within them
  WorkspaceBytes bytes_within(const AttentionLimits& limits, bool copied) const;
  PlannedBatch planned() const;
  // Lengths on the device (device_lengths.cpp).
  struct DeviceWork {
    AttentionMachine machine;
    planner::PlanInputs inputs;  // without lengths
    Sizes sizes;                 // the most that such lengths can take
    WorkspaceBytes bytes;
  };
  DeviceWork work_of(const BatchLengths& lengths) const;
  WorkspaceBytes bytes_for_device_lengths(const BatchLengths& lengths);
  void plan_device_lengths(const BatchLengths& lengths, Stream stream);
  void plan_lengths(const BatchLengths& lengths, std::span<const std::int32_t> page_ids, Device ids_on, Stream stream);

  AttentionConfig config_;
  Kind kind_;
  std::unique_ptr<AttentionBackend> backend_;
  PageUse use_ = PageUse::in_place;  // of a graph always, else of the plan in force
  std::optional<Sizes> captured_;  // what a graph is captured for: the most within its limits
  Workspace workspace_;
  bool planned_ = false;
  Plan plan_;
  bool as_on_device_ = false;      // plan_ is of lengths on the device, which the CPU has read
  Sizes measured_;                 // what plan_ takes, when bytes_for() has made it
  // Of plan_: lengths, and the arrays that they came from. max_pages_: of a block table.
  std::vector<std::int32_t> qo_lens_, kv_lens_, qo_indptr_, paged_kv_indptr_, paged_kv_last_page_len_;
  std::optional<std::int32_t> max_pages_;
  std::optional<MostQueries> most_queries_;  // of a prefill whose lengths the CPU has read where they lie
  MaskBytes mask_bytes_;
  std::optional<BatchLengths> on_device_;  // where the lengths of the plan in force lie there: it is made there too
};

}  // namespace flashladder::api
