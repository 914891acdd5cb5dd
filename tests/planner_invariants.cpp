// What holds for every plan, on 10^4 random batches: each check recomputes from the definitions, slowly and independently
// of the planner. Costs are chosen so that every sum is exact. A failure prints the seed that makes the batch again.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "core/visibility.hpp"
#include "planner/planner.hpp"
#include "tests/flat_plan.hpp"
#include "tests/plan_balance.hpp"
#include "tests/plan_queues.hpp"
#include "tests/random_batch.hpp"

using namespace flashladder;
using namespace flashladder::planner;
using test::Batch;
using test::FlatPlan;
using test::random_batch;

namespace {

// Each check returns "" or what is wrong.

// Every visible key of every row is read exactly once, every row is finished once, and no item leaves its tile's hull. A
// custom mask may show any key that the window leaves. Rows are counted as query and query head, whoever packed them.
std::string coverage(const PlanInputs& in, const FlatPlan& plan) {
  const AttentionParams rule{.mask = in.mask == MaskMode::causal ? in.mask : MaskMode::none, .window_left = in.window_left};
  for (std::int32_t b = 0; b < in.batch(); ++b) {
    const std::int32_t qo = in.qo_len(b), kv = in.kv_lens[b], rows = qo * in.num_qo_heads;
    const auto sees = [&](std::int32_t query, std::int32_t j) { return visible(rule, qo, kv, query, j, nullptr); };
    std::vector<int> times_read(static_cast<std::size_t>(rows) * kv, 0), times_finished(rows, 0);
    for (const FlatPlan::Work& w : plan.work) {
      const Range r = w.item.rows, k = w.item.keys;
      if (w.item.request != b) continue;
      if (r.empty() || r.begin < 0 || r.end > qo * w.pack || r.size() > w.query_tile) return "rows outside of the tile";
      if (k.begin < 0 || k.end < k.begin || k.end > kv) return "keys outside of the request";
      bool first_seen = k.empty(), last_seen = k.empty();
      for (std::int32_t row = r.begin; row < r.end; ++row) {
        const std::int32_t query = row / w.pack, head = w.item.head * w.pack + row % w.pack;
        if (head < 0 || head >= in.num_qo_heads) return "no such head";
        const std::int32_t at = query * in.num_qo_heads + head;
        times_finished[at] += (w.item.flags & WorkItem::last) != 0;
        for (std::int32_t j = k.begin; j < k.end; ++j) ++times_read[static_cast<std::size_t>(at) * kv + j];
        first_seen = first_seen || sees(query, k.begin);
        last_seen = last_seen || sees(query, k.end - 1);
      }
      if (!first_seen || !last_seen) return "an item leaves the hull of its tile";
    }
    for (std::int32_t row = 0; row < rows; ++row) {
      if (times_finished[row] != 1) return "a row is not finished exactly once";
      for (std::int32_t j = 0; j < kv; ++j) {
        const int times = times_read[static_cast<std::size_t>(row) * kv + j];
        if (times > 1) return "a key is read twice";
        if (times == 0 && sees(row / in.num_qo_heads, j)) return "a visible key is missing";
      }
    }
  }
  return "";
}

// Which requests are whose, in tiles of how many rows of how many heads.
std::string parts(const PlanInputs& in, const Plan& plan) {
  const std::int32_t group = in.num_qo_heads / in.num_kv_heads, pack = in.pack == 1 ? 1 : group;
  const std::int32_t tile = in.query_tile > 0 ? in.query_tile : in.qo_lens.empty() ? pack : 128;
  if (plan.parts.size() != (in.decode_tile > 0 ? 2u : 1u)) return "number of parts";
  if (plan.parts.back().pack != pack || plan.parts.back().query_tile != tile) return "the part of the others";
  if (in.decode_tile == 0) return "";
  if (plan.parts[0].pack != group || plan.parts[0].query_tile != in.decode_tile) return "the part of one query";
  for (const FlatPlan::Work& w : FlatPlan(plan).work) {
    if ((in.qo_len(w.item.request) == 1) != (w.part == 0)) return "a request in the wrong part";
  }
  return "";
}

// The work by part, request, tile, head and keys: what a plan whose work is not to be claimed lists by itself.
std::vector<FlatPlan::Work> by_tile(const FlatPlan& plan) {
  const auto place = [](const FlatPlan::Work& w) {
    return std::tuple(w.part, w.item.request, w.item.rows.begin, w.item.head, w.item.keys.begin);
  };
  std::vector<FlatPlan::Work> sorted = plan.work;
  std::ranges::sort(sorted, {}, place);
  return sorted;
}

bool same_tile(const FlatPlan::Work& a, const FlatPlan::Work& b) {
  return a.part == b.part && a.item.request == b.item.request && a.item.head == b.item.head && a.item.rows == b.item.rows;
}

// Claimed: the costliest first, and what costs the same by tile, keys and head.
std::string order(const PlanInputs& in, const FlatPlan& plan) {
  std::vector<FlatPlan::Work> expected = by_tile(plan);
  const auto cost = [&](const FlatPlan::Work& w) {
    return static_cast<float>(in.cost.item(w.item.rows.size(), w.item.keys.size()));
  };
  std::map<std::int32_t, std::pair<float, float>> costs;  // of each part, least and most
  for (const FlatPlan::Work& w : expected) {
    auto& [least, most] = costs.try_emplace(w.part, cost(w), cost(w)).first->second;
    least = std::min(least, cost(w)), most = std::max(most, cost(w));
  }
  const auto alike = [&](const FlatPlan::Work& w) { return costs.at(w.part).first >= 0.9f * costs.at(w.part).second; };
  if (in.claimed) {
    std::ranges::stable_sort(expected, {}, [](const FlatPlan::Work& w) {
      return std::tuple(w.part, w.item.request, w.item.rows.begin, w.item.keys.begin, w.item.head);
    });
    // Costliest first, but for parts whose items cost the same to within a tenth.
    std::ranges::stable_sort(expected, {}, [&](const FlatPlan::Work& w) {
      return std::pair(w.part, alike(w) ? 0 : -cost(w));
    });
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Of a line of all heads that is claimed the heads come one after the other, not side by side.
    const bool line_of_all = in.claimed && cuts_a_line(in.policy);
    if (!line_of_all && expected[i].item != plan.work[i].item) return "work out of order";
    if (!alike(expected[i]) && cost(expected[i]) != cost(plan.work[i])) return "costs out of order";
  }
  return "";
}

std::string cuts(const PlanInputs& in, const FlatPlan& plan) {
  const std::vector<FlatPlan::Work> work = by_tile(plan);
  for (std::size_t i = 0; i < work.size(); ++i) {
    const WorkItem& item = work[i].item;
    const bool first = i == 0 || !same_tile(work[i - 1], work[i]);
    const bool last = i + 1 == work.size() || !same_tile(work[i], work[i + 1]);
    if (item.flags != (first ? WorkItem::first : 0) + (last ? WorkItem::last : 0)) return "wrong flags";
    if (item.rows.begin % work[i].query_tile != 0) return "rows don't start at a tile";
    const bool continues = first || item.keys.begin == work[i - 1].item.keys.end;
    if (!continues || !(first || item.keys.begin % in.chunk_align == 0)) return "a bad cut";
    if (in.policy == SplitPolicy::none && !(first && last)) return "policy none cut a tile";
    if (in.policy == SplitPolicy::fixed && item.keys.size() > in.chunk_size) return "an item exceeds the fixed chunk";
    int tier = 0;
    while (in.policy == SplitPolicy::target && item.keys.size() > tiers[tier]) ++tier;
    if (item.tier != tier) return "wrong tier";
  }
  return "";
}

std::string merges_and_workspace(const Plan& plan, const FlatPlan& flat) {
  const std::vector<FlatPlan::Work> work = by_tile(flat);
  std::size_t merges = 0;
  std::vector<int> used(static_cast<std::size_t>(plan.partial_rows), 0);
  for (std::size_t i = 0, end; i < work.size(); i = end) {
    const WorkItem& head = work[i].item;
    for (end = i + 1; end < work.size() && same_tile(work[i], work[end]);) ++end;
    const auto pieces = static_cast<std::int32_t>(end - i);
    if (pieces == 1 && (head.partial_slot != -1 || head.merge != -1)) return "an uncut tile has a partial";
    if (pieces == 1) continue;
    ++merges;
    const Merge expected{head.request, head.head, head.rows, head.partial_slot, pieces};
    for (std::int32_t p = 0; p < pieces; ++p) {
      const WorkItem& item = work[i + p].item;
      if (item.merge < 0 || flat.merges.at(item.merge) != expected) return "the merge does not match the cut tile";
      if (item.partial_slot != head.partial_slot + std::int64_t{p} * head.rows.size()) return "partials out of key order";
      for (std::int64_t row = item.partial_slot; row < item.partial_slot + head.rows.size(); ++row) {
        if (row < 0 || row >= plan.partial_rows || used[row]++ != 0) return "a partial row is used twice or is not there";
      }
    }
  }
  if (std::count(used.begin(), used.end(), 1) != plan.partial_rows) return "workspace rows that nobody uses";
  if (merges != flat.merges.size()) return "merges of tiles that are not cut";
  return plan.workspace_bytes() == used.size() * (plan.head_dim_vo + 1) * 4 ? "" : "workspace bytes";
}

// count and target, by trying every chunk in turn on the tiles of an uncut plan.
std::string chunk_choice(PlanInputs in, const Plan& plan) {
  const SplitPolicy policy = in.policy;
  in.policy = SplitPolicy::none;
  const std::vector<WorkItem> uncut = FlatPlan(make_plan(in)).items();
  const auto items_with = [&](std::int64_t chunk) {
    std::int64_t n = 0;
    for (const WorkItem& tile : uncut) {
      const std::int64_t begin = tile.keys.begin / in.chunk_align * in.chunk_align;
      n += tile.keys.empty() ? 1 : (tile.keys.end - begin + chunk - 1) / chunk;
    }
    return n;
  };
  const auto tiles = std::ssize(uncut);
  std::int64_t chunk = 0;
  if (policy == SplitPolicy::target) {
    chunk = 512;
    for (std::int32_t tier : tiers) chunk = items_with(tier) >= in.target_units ? tier : chunk;
  } else if (policy == SplitPolicy::count && tiles < plan.num_ctas()) {
    chunk = (in.min_chunk + in.chunk_align - 1) / in.chunk_align * in.chunk_align;
    while (items_with(chunk) > plan.num_ctas()) chunk += in.chunk_align;
    if (plan.num_work() > plan.num_ctas()) return "count exceeds the grid";
    if (items_with(chunk) == tiles) chunk = 0;
  }
  if (chunk != plan.chunk_size) return "chunk " + std::to_string(plan.chunk_size) + ", should be " + std::to_string(chunk);
  const std::int64_t expected = chunk == 0 ? tiles : items_with(chunk);
  return expected == plan.num_work() ? "" : "the items do not follow the chunk";
}

// The items of request b, seen from the request: without its place in the batch and in the workspace.
std::vector<WorkItem> own_items(const Plan& plan, std::int32_t b) {
  std::vector<WorkItem> own;
  for (const FlatPlan::Work& w : by_tile(FlatPlan(plan))) {
    if (w.item.request != b) continue;
    own.push_back(w.item);
    own.back().request = 0;
    own.back().partial_slot = own.back().merge = w.item.whole() ? -1 : 0;
  }
  return own;
}

std::string independence(const PlanInputs& in, const Plan& plan) {
  for (std::int32_t b = 0; b < in.batch(); ++b) {
    PlanInputs alone = in;
    alone.kv_lens = in.kv_lens.subspan(b, 1);
    if (!in.qo_lens.empty()) alone.qo_lens = in.qo_lens.subspan(b, 1);
    if (own_items(make_plan(alone), 0) != own_items(plan, b)) return "a request's items depend on its neighbours";
  }
  return "";
}

}  // namespace

TEST_CASE("invariants of 10000 random batches") {
  Plan reused;
  std::size_t cut_plans = 0, balanced_ctas = 0, even_ctas = 0, two_parts = 0;
  for (std::uint64_t seed = 0; seed < 10000; ++seed) {
    const Batch batch = random_batch(seed);
    const PlanInputs& in = batch.in;
    CAPTURE(seed);
    CAPTURE(name_of(in.policy));
    const Plan plan = make_plan(in);
    const FlatPlan flat(plan);
    REQUIRE(coverage(in, flat) == "");
    REQUIRE(parts(in, plan) == "");
    REQUIRE(order(in, flat) == "");
    REQUIRE(cuts(in, flat) == "");
    REQUIRE(merges_and_workspace(plan, flat) == "");
    REQUIRE(test::queues_and_costs(in, plan) == "");
    if (cuts_a_line(in.policy)) {
      const bool even = in.policy == SplitPolicy::even;
      if (!in.claimed) REQUIRE(test::stretches_of_a_line(in, flat) == "");
      if (!in.claimed) REQUIRE((even ? test::evenness(in, flat, plan) : test::balance(in, plan)) == "");
      (even ? even_ctas : balanced_ctas) += summarize(plan).idle_ctas == 0;
    } else {
      if (in.policy != SplitPolicy::fixed) REQUIRE(chunk_choice(in, plan) == "");
      if (in.policy == SplitPolicy::fixed || in.policy == SplitPolicy::none) REQUIRE(independence(in, plan) == "");
    }
    make_plan(in, reused);
    REQUIRE((plan == reused));
    REQUIRE((plan == make_plan(in)));
    cut_plans += !flat.merges.empty();
    two_parts += in.decode_tile > 0 && !plan.parts[0].items.empty() && !plan.parts[1].items.empty();
  }
  // The batches are worth testing: many are cut, and balanced and even often keep every CTA busy.
  CHECK(cut_plans > 2500);
  CHECK(balanced_ctas > 300);
  CHECK(even_ctas > 200);
  CHECK(two_parts > 500);
}

TEST_CASE("the default query tile knows only operation and heads") {
  static_assert(default_query_tile(Phase::decode, 7) == 7);
  static_assert(default_query_tile(Phase::prefill, 7) == default_query_tile(Phase::prefill, 1));
  const std::vector<std::int32_t> few{1, 1}, many{1, 4000}, kv{5000, 5000};
  PlanInputs in{.qo_lens = few, .kv_lens = kv, .num_qo_heads = 8, .num_kv_heads = 2, .policy = SplitPolicy::none};
  const Plan beside_few = make_plan(in);
  in.qo_lens = many;
  CHECK(own_items(beside_few, 0) == own_items(make_plan(in), 0));
}
