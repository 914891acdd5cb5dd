// The tiers of policy target: what a plan has of each, and what a kernel of its own for each could win.
#pragma once

#include <array>
#include <deque>
#include <numeric>

#include "decode.hpp"

constexpr std::array tier_keys{512, 1024, 2048, 4096};  // the sizes that policy target chooses from

// Work items, and keys of all heads, of each tier.
struct TierCounts {
  std::array<long long, 4> items{}, keys{};

  explicit TierCounts(const fl::Plan& plan) {
    for (const fl::PlanPart& part : plan.parts) {
      for (const fl::WorkItem& item : part.items) {
        items[item.tier] += part.copies;
        keys[item.tier] += static_cast<long long>(part.copies) * item.keys.size();
      }
    }
  }
};

// Would a kernel of its own for each tier pay? Inside of a chunk the kernel repeats one step for each tile of keys, and the
// step does not know how many follow: a better one would be better in all tiers. So what a kernel made for one tier could
// win is what a chunk of that size loses at its two ends, and that shows when the same keys are cut into chunks of one tier
// only. On the GPU there are so many that all queues are filled alike, or the shares of the last wave would be measured too;
// where the cache has fewer keys than that takes, pages are read again.
inline void measure_tiers(Batch& b, const fl::Plan& plan) {
  const int queues = on_gpu ? plan.num_ctas() : 1, largest = tier_keys.back();
  const int requests = std::max(2, queues / std::gcd(queues, num_qo_heads));  // of the largest tier
  std::vector<std::int32_t> pages(static_cast<std::size_t>(requests) * static_cast<std::size_t>(largest / page_size));
  for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = b.table.indices[i % b.table.indices.size()];
  Array<std::int32_t> page_ids(std::move(pages));
  const auto most_rows = static_cast<std::size_t>(requests * (largest / tier_keys.front()));
  const std::size_t row = static_cast<std::size_t>(num_qo_heads) * static_cast<std::size_t>(b.head_dim);
  Array<fl::Half> q(drawn(most_rows * row, 3)), o(drawn(most_rows * row, 4));
  api::AttentionConfig config = with_policy(b, fl::SplitPolicy::none);
  config.execution.threads = 1;

  std::deque<Decode> decodes;
  for (const int keys : tier_keys) {
    const int n = requests * (largest / keys);
    Requests chunks;
    chunks.page_ids = {page_ids.data(), page_ids.host.size()};
    for (int r = 0; r < n; ++r) chunks.add(keys / page_size, page_size);
    decodes.emplace_back(b, config, chunks, rows_from(b, q, 0, n), rows_from(b, o, 0, n));
  }
  const auto run = [&](std::size_t t, int) { decodes[t].run(); };
  const std::vector<double> ms = milliseconds_in_turn(decodes.size(), run, Clock::processor, 11);

  const double best = *std::ranges::min_element(ms);
  const TierCounts tiers(plan);
  const auto all_keys = static_cast<double>(std::accumulate(tiers.keys.begin(), tiers.keys.end(), 0LL));
  double win = 0;
  std::printf("\nChunk kernels: %d tokens of %d heads in chunks of one tier only, by one kernel%s:\n", requests * largest,
              num_qo_heads, on_gpu ? "" : " on one thread");
  for (std::size_t t = 0; t < ms.size(); ++t) {
    const double loses = 1 - best / ms[t], share = static_cast<double>(tiers.keys[t]) / all_keys;
    win += share * loses;
    std::printf("    Tier %zu, %d keys: %.4g ms, %.1f%% behind the best; %.1f%% of the plan's keys\n", t, tier_keys[t],
                ms[t], 100 * loses, 100 * share);
  }
  constexpr double worth = 0.05;  // less is no reason to keep four kernels
  std::printf("  Four kernels could win at most %.1f%% of a run: %s\n", 100 * win,
              win < worth ? "one serves the four tiers" : "here they might pay");
}
