// Family plan: the host's time for plan(), planning, staging and the enqueued copy included, as a serving loop pays it once
// for all layers of a step.
#include <algorithm>
#include <chrono>
#include <string>

#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/families.hpp"
#include "core/plan.hpp"

namespace flashladder::bench {
namespace {

// "" if the plan's queues hold every item once, and its items as many keys as there are.
std::string check(const Plan& plan, const ladder::CaseSpec& spec) {
  const PlanPart& part = plan.parts.at(0);
  std::vector<int> queued(static_cast<std::size_t>(part.num_work()));
  for (const std::int32_t item : part.queue) ++queued[static_cast<std::size_t>(item)];
  if (std::any_of(queued.begin(), queued.end(), [](int n) { return n != 1; })) return "an item is not in one queue";
  const auto heads = static_cast<std::size_t>(spec.params.num_kv_heads);
  const std::int32_t rows = spec.params.group_size();
  std::vector<std::int64_t> row_keys(spec.kv_lens.size() * heads);  // (packed row, key) pairs of each
  for (std::int64_t w = 0; w < part.num_work(); ++w) {
    const WorkItem item = part.work(w);
    const std::size_t at = static_cast<std::size_t>(item.request) * heads + static_cast<std::size_t>(item.head);
    row_keys[at] += std::int64_t{1} * item.keys.size() * item.rows.size();
  }
  for (std::size_t at = 0; at < row_keys.size(); ++at) {
    if (row_keys[at] != std::int64_t{1} * spec.kv_lens[at / heads] * rows) {
      return "request " + std::to_string(at / heads) + " has not all of its keys";
    }
  }
  return "";
}

// As the peers time theirs: 200 calls, the GPU idle before each.
double median_us(ApiDecode& decode, const GpuTimer& timer) {
  std::vector<double> times;
  for (int i = 0; i < 200; ++i) {
    timer.synchronise();
    const auto begin = std::chrono::steady_clock::now();
    decode.plan(timer.stream());
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  timer.synchronise();
  const auto middle = times.begin() + std::ssize(times) / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace

std::vector<TimedWork> plan_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const ladder::CaseSpec& spec : options.specs.empty() ? plan_cases() : options.specs) {
    say("planning " + spec.name);
    for (const ladder::Settings& settings : options.settings) {
      const auto decode = std::make_shared<ApiDecode>(
          spec, ApiDecode::Options{.policy = settings.policy, .chunk_size = settings.chunk_size});
      decode->plan(timer->stream());
      works.push_back({.line = {.family = name_of(Family::plan), .work = spec.name,
                                .backend = "flashladder" + policy_suffix(settings)},
                       .checked = "every item is in one queue, no key is missing",
                       .failure = check(decode->current_plan(), spec),
                       .time_us = [=] { return median_us(*decode, *timer); }});
    }
  }
  return works;
}

}  // namespace flashladder::bench
