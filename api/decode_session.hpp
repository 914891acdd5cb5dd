// What both decode classes are made of: the config, the checks of plan() and run(), the plan in force, and a backend.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "api/decode_backend.hpp"
#include "api/decode_config.hpp"
#include "core/plan.hpp"
#include "planner/planner.hpp"

namespace flashladder::api {

// What the planner gets to know. kv_lens is borrowed.
planner::PlanInputs plan_inputs(const DecodeConfig& config, const DecodeMachine& machine,
                                std::span<const std::int32_t> kv_lens);

class DecodeSession {
 public:
  // limits: those of a graph, whose page ids the workspace keeps; none: every plan takes what it needs.
  DecodeSession(const DecodeConfig& config, const std::optional<DecodeLimits>& limits);

  WorkspaceBytes bytes_for(std::span<const std::int32_t> paged_kv_indptr,
                           std::span<const std::int32_t> paged_kv_last_page_len);
  WorkspaceBytes bytes_for(const DecodeLimits& limits) const;

  void attach(const Workspace& workspace);
  void plan(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_last_page_len,
            std::span<const std::int32_t> indices, Device indices_on, Stream stream);
  void run(const DecodeArguments& arguments, Stream stream);

  bool for_graphs() const { return limits_.has_value(); }
  const Plan& current_plan() const { return plan_; }

 private:
  planner::PlanInputs inputs() const { return plan_inputs(config_, backend_->machine(), kv_lens_); }
  Sizes make_plan(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_last_page_len);

  DecodeConfig config_;
  std::optional<DecodeLimits> limits_;
  std::unique_ptr<DecodeBackend> backend_;
  std::optional<Sizes> captured_;  // what a graph is captured for: the most within limits_
  Workspace workspace_;
  bool planned_ = false;
  Plan plan_;
  std::vector<std::int32_t> kv_lens_, paged_kv_indptr_, paged_kv_last_page_len_;  // of plan_
};

}  // namespace flashladder::api
