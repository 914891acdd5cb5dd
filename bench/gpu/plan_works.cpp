// Family plan: the host's time for plan(), planning, staging and the enqueued copy included, as a serving loop pays it once
// for all layers of a step.
#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "api/batch_prefill.hpp"
#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/families.hpp"
#include "core/page_table.hpp"
#include "core/plan.hpp"
#include "core/visibility.hpp"

namespace flashladder::bench {
namespace {

struct Covered {
  std::int64_t keys = 0, wanted = 0;
};

// By request, head and first row. Two parts of a plan have no request in common.
using Tiles = std::map<std::array<std::int32_t, 3>, Covered>;

// Whether the queues of a part hold every item once.
bool queued_once(const PlanPart& part) {
  std::vector<int> queued(static_cast<std::size_t>(part.num_work()));
  for (const std::int32_t item : part.queue) ++queued[static_cast<std::size_t>(item)];
  return std::all_of(queued.begin(), queued.end(), [](int n) { return n == 1; });
}

// Adds a part's items to the tiles; returns the rows of those that are new.
std::int64_t cover(const PlanPart& part, const ladder::CaseSpec& spec, Tiles& tiles) {
  std::int64_t rows = 0;
  for (std::int64_t w = 0; w < part.num_work(); ++w) {
    const WorkItem item = part.work(w);
    const Range queries{item.rows.begin / part.pack, (item.rows.end - 1) / part.pack + 1};
    Covered& tile = tiles[{item.request, item.head, item.rows.begin}];
    if (tile.wanted == 0) rows += item.rows.size();
    const auto b = static_cast<std::size_t>(item.request);
    tile.wanted = visible_keys(spec.params, spec.qo_lens[b], spec.kv_lens[b], queries).size();
    tile.keys += item.keys.size();
  }
  return rows;
}

// "" if the items of every tile have all the keys that its rows may see, and the tiles all rows; and, of parts with queues,
// if these hold every item once.
std::string check(const Plan& plan, const ladder::CaseSpec& spec) {
  Tiles tiles;
  std::int64_t rows = 0, wanted_rows = 0;
  for (const PlanPart& part : plan.parts) {
    if (!part.claimed && !queued_once(part)) return "an item is not in one queue";
    rows += cover(part, spec, tiles);
  }
  for (const auto& [place, tile] : tiles) {
    if (tile.keys != tile.wanted) return "request " + std::to_string(place[0]) + " has not all of its keys";
  }
  for (const std::int32_t qo_len : spec.qo_lens) wanted_rows += std::int64_t{qo_len} * spec.params.num_qo_heads;
  return rows == wanted_rows ? "" : "rows are missing";
}

// The public prefill class on a case: its workspace, and the same plan again and again.
class ApiPrefill {
 public:
  ApiPrefill(const ladder::CaseSpec& spec, const ladder::Settings& settings) {
    for (std::size_t b = 0; b < spec.kv_lens.size(); ++b) {
      qo_indptr_.push_back(qo_indptr_.back() + spec.qo_lens[b]);
      kv_indptr_.push_back(kv_indptr_.back() + pages_for(spec.kv_lens[b], spec.page_size));
      last_page_len_.push_back(last_page_len_for(spec.kv_lens[b], spec.page_size));
    }
    const api::AttentionConfig config =
        api::config_for(spec.params, {.page_size = spec.page_size, .dtype = spec.dtype},
                        {.device = Device::gpu, .policy = settings.policy, .chunk_size = settings.chunk_size});
    using Prefill = api::BatchPrefillWithPagedKVCache;
    const api::WorkspaceBytes bytes = Prefill::workspace_bytes(config, qo_indptr_, kv_indptr_, last_page_len_);
    device_ = gpu::DeviceBuffer(bytes.device);
    staging_ = std::make_unique<Pinned>(bytes.staging);
    prefill_.emplace(config, api::Workspace{{device_.data(), device_.size()}, staging_->bytes});
  }
  void plan(void* stream) { prefill_->plan(qo_indptr_, kv_indptr_, last_page_len_, stream); }
  const Plan& current_plan() const { return prefill_->current_plan(); }

 private:
  std::vector<std::int32_t> qo_indptr_{0}, kv_indptr_{0}, last_page_len_;
  gpu::DeviceBuffer device_;
  std::unique_ptr<Pinned> staging_;
  std::optional<api::BatchPrefillWithPagedKVCache> prefill_;  // goes before the memory that it borrows
};

// As the peers time theirs: 200 calls, the GPU idle before each.
template <class Planner>
double median_us(Planner& planner, const GpuTimer& timer) {
  std::vector<double> times;
  for (int i = 0; i < 200; ++i) {
    timer.synchronise();
    const auto begin = std::chrono::steady_clock::now();
    planner.plan(timer.stream());
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  timer.synchronise();
  const auto middle = times.begin() + std::ssize(times) / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

template <class Planner>
TimedWork timed_plans(const std::shared_ptr<Planner>& planner, const ladder::CaseSpec& spec,
                      const ladder::Settings& settings, const Timer& timer) {
  planner->plan(timer->stream());
  return {.line = {.family = name_of(Family::plan), .work = spec.name, .backend = "flashladder" + policy_suffix(settings)},
          .checked = "every item is there once, no key and no row is missing",
          .failure = check(planner->current_plan(), spec), .time_us = [=] { return median_us(*planner, *timer); }};
}

}  // namespace

std::vector<TimedWork> plan_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const ladder::CaseSpec& spec : options.specs.empty() ? plan_cases() : options.specs) {
    say("planning " + spec.name);
    const bool decode = std::all_of(spec.qo_lens.begin(), spec.qo_lens.end(), [](std::int32_t len) { return len == 1; });
    for (const ladder::Settings& settings : options.settings) {
      if (decode) {
        const ApiDecode::Options by{.policy = settings.policy, .chunk_size = settings.chunk_size};
        works.push_back(timed_plans(std::make_shared<ApiDecode>(spec, by), spec, settings, timer));
      } else {
        works.push_back(timed_plans(std::make_shared<ApiPrefill>(spec, settings), spec, settings, timer));
      }
    }
  }
  return works;
}

}  // namespace flashladder::bench
