// What stands behind a decode object: the CPU's C4 or the GPU's D6, each with its machine and its use of the workspace.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "api/decode_config.hpp"
#include "core/attention_problem.hpp"
#include "core/plan.hpp"

namespace flashladder::api {

// What one plan, or a captured graph, takes: planner::usage(), or most_work().
using Sizes = planner::CaptureLimits;

// A batch that was planned. Host arrays; they live as long as the plan is in force.
struct PlannedBatch {
  const Plan& plan;
  std::span<const std::int32_t> paged_kv_indptr, paged_kv_last_page_len;  // [batch + 1], [batch]
};

// run()'s arguments, checked against config and plan.
struct DecodeArguments {
  Tensor q;
  PagedKvCache kv;
  std::span<const std::int32_t> paged_kv_indices;  // as many as the plan's pages; empty: those that plan() was given
  AttentionOutput output;
  std::span<const float> sinks;
};

struct DecodeMachine {
  planner::MachineShape shape;
  std::int32_t most_rows = 1;  // packed query rows that an item may have
  planner::CostModel cost{};

  // A group in the fewest tiles, these as even as they can be.
  std::int32_t query_tile(std::int32_t group_size) const { return div_up(group_size, div_up(group_size, most_rows)); }
};

class DecodeBackend {
 public:
  virtual ~DecodeBackend() = default;

  virtual const DecodeMachine& machine() const = 0;

  virtual WorkspaceBytes bytes(const Sizes& sizes) const = 0;
  // From here on plan() and run() may be called. InputError if the memory is not what it should be, but for its size.
  virtual void attach(const Workspace& workspace) = 0;

  // InputError if plan() can't be called on this stream now.
  virtual void require_plannable(Stream stream) const = 0;
  // The plan, packed for these sizes, to where run() finds it. indices: empty, or to be kept.
  virtual void plan(const PlannedBatch& batch, const Sizes& sizes, std::span<const std::int32_t> indices, Device indices_on,
                    Stream stream) = 0;
  virtual void run(const PlannedBatch& batch, const DecodeArguments& arguments, Stream stream) = 0;
};

// for_graphs: page ids are kept in the workspace, and one launch serves every plan of the same sizes.
std::unique_ptr<DecodeBackend> make_cpu_decode(const DecodeConfig& config);
std::unique_ptr<DecodeBackend> make_gpu_decode(const DecodeConfig& config, bool for_graphs);  // in a build with CUDA

}  // namespace flashladder::api
