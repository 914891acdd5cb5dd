// What holds for every plan, on 10^4 random batches: each check recomputes from the definitions, slowly and independently
// of the planner. Costs are chosen so that every sum is exact. A failure prints the seed that makes the batch again.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "core/visibility.hpp"
#include "planner/planner.hpp"
#include "tests/plan_queues.hpp"

using namespace flashladder;
using namespace flashladder::planner;

namespace {

struct Batch {
  std::vector<std::int32_t> qo_lens, kv_lens;
  PlanInputs in;  // its spans point into the vectors
};

// Small, so that every (row, key) pair can be counted; policy target needs keys beyond its smallest tier now and then.
Batch random_batch(std::uint64_t seed) {
  std::mt19937_64 bits(seed);
  const auto draw = [&](std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  };
  Batch b;
  PlanInputs& in = b.in;
  in.policy = all_policies[bits() % all_policies.size()];
  const bool decode = draw(0, 1) == 0, long_keys = in.policy == SplitPolicy::target && draw(0, 3) == 0;
  for (std::int32_t r = draw(0, 8); r > 0; --r) {
    b.qo_lens.push_back(draw(0, 4) == 0 ? 0 : draw(1, long_keys ? 2 : 20));
    b.kv_lens.push_back(draw(0, 5) == 0 ? 0 : draw(1, long_keys ? 3000 : draw(0, 2) == 0 ? 200 : 20));
  }
  in.num_kv_heads = draw(1, 3);
  in.num_qo_heads = in.num_kv_heads * draw(1, 8);
  in.head_dim_vo = draw(1, 64);
  in.mask = static_cast<MaskMode>(draw(0, 2));
  in.window_left = draw(0, 2) == 0 ? draw(0, 20) : -1;
  in.query_tile = draw(0, 2) == 0 ? 0 : draw(1, 24);
  in.chunk_align = long_keys ? 1 << draw(6, 9) : 1 << draw(0, 4);
  if (in.policy != SplitPolicy::target && draw(0, 3) == 0) in.chunk_align = draw(1, 20);
  in.chunk_size = in.chunk_align * draw(1, 4);
  in.min_chunk = draw(1, 20);
  in.target_units = draw(1, 60);
  in.machine = {draw(1, 40), draw(1, 2)};
  in.cost = {.per_item = static_cast<double>(draw(0, 40)), .memory_bound_rows = static_cast<double>(1 << draw(0, 5))};
  in.kv_lens = b.kv_lens;
  if (!decode) in.qo_lens = b.qo_lens;
  return b;
}

bool same(const Plan& a, const Plan& b) {
  const auto fields = [](const Plan& p) {
    return std::tie(p.batch, p.group_size, p.num_kv_heads, p.head_dim_vo, p.query_tile, p.chunk_size, p.items,
                    p.queue_indptr, p.queue, p.merges, p.partial_rows, p.cta_cost, p.total_cost, p.makespan);
  };
  return fields(a) == fields(b);
}

bool same_tile(const WorkItem& a, const WorkItem& b) {
  return a.request == b.request && a.kv_head == b.kv_head && a.rows == b.rows;
}

// Each check returns "" or what is wrong.

// Every visible key of every packed row is read exactly once, every row is finished once, and no item leaves its tile's
// hull. A custom mask may show any key that the window leaves.
std::string coverage(const PlanInputs& in, const Plan& plan) {
  const AttentionParams rule{.mask = in.mask == MaskMode::causal ? in.mask : MaskMode::none, .window_left = in.window_left};
  std::vector<std::vector<const WorkItem*>> items_of(static_cast<std::size_t>(in.batch()) * in.num_kv_heads);
  for (const WorkItem& item : plan.items) items_of[item.request * in.num_kv_heads + item.kv_head].push_back(&item);

  for (std::size_t pair = 0; pair < items_of.size(); ++pair) {
    const auto b = static_cast<std::int32_t>(pair) / in.num_kv_heads;
    const std::int32_t qo = in.qo_len(b), kv = in.kv_lens[b], rows = qo * in.group_size();
    const auto sees = [&](std::int32_t r, std::int32_t j) { return visible(rule, qo, kv, r / in.group_size(), j, nullptr); };
    std::vector<int> times_read(static_cast<std::size_t>(rows) * kv, 0), times_finished(rows, 0);
    for (const WorkItem* item : items_of[pair]) {
      const Range r = item->rows, k = item->keys;
      if (r.empty() || r.begin < 0 || r.end > rows || r.size() > plan.query_tile) return "rows outside of request or tile";
      if (k.begin < 0 || k.end < k.begin || k.end > kv) return "keys outside of the request";
      bool first_seen = k.empty(), last_seen = k.empty();
      for (std::int32_t row = r.begin; row < r.end; ++row) {
        times_finished[row] += (item->flags & WorkItem::last) != 0;
        for (std::int32_t j = k.begin; j < k.end; ++j) ++times_read[static_cast<std::size_t>(row) * kv + j];
        first_seen = first_seen || sees(row, k.begin);
        last_seen = last_seen || sees(row, k.end - 1);
      }
      if (!first_seen || !last_seen) return "an item leaves the hull of its tile";
    }
    for (std::int32_t row = 0; row < rows; ++row) {
      if (times_finished[row] != 1) return "a row is not finished exactly once";
      for (std::int32_t j = 0; j < kv; ++j) {
        const int times = times_read[static_cast<std::size_t>(row) * kv + j];
        if (times > 1) return "a key is read twice";
        if (times == 0 && sees(row, j)) return "a visible key is missing";
      }
    }
  }
  return "";
}

std::string order_and_cuts(const PlanInputs& in, const Plan& plan) {
  const auto place = [](const WorkItem& i) { return std::tuple(i.request, i.rows.begin, i.kv_head, i.keys.begin); };
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const WorkItem& item = plan.items[i];
    const bool first = i == 0 || !same_tile(plan.items[i - 1], item);
    const bool last = i + 1 == plan.items.size() || !same_tile(item, plan.items[i + 1]);
    if (item.flags != (first ? WorkItem::first : 0) + (last ? WorkItem::last : 0)) return "wrong flags";
    if (item.rows.begin % plan.query_tile != 0) return "rows don't start at a tile";
    if (i > 0 && !(place(plan.items[i - 1]) < place(item))) return "items out of order";
    const bool continues = first || item.keys.begin == plan.items[i - 1].keys.end;
    if (!continues || !(first || item.keys.begin % in.chunk_align == 0)) return "a bad cut";
    if (in.policy == SplitPolicy::none && !(first && last)) return "policy none cut a tile";
    if (in.policy == SplitPolicy::fixed && item.keys.size() > in.chunk_size) return "an item exceeds the fixed chunk";
    int tier = 0;
    while (in.policy == SplitPolicy::target && item.keys.size() > tiers[tier]) ++tier;
    if (item.tier != tier) return "wrong tier";
  }
  return "";
}

std::string merges_and_workspace(const Plan& plan) {
  std::vector<Merge> expected;
  std::vector<int> used(static_cast<std::size_t>(plan.partial_rows), 0);
  for (std::size_t i = 0, end; i < plan.items.size(); i = end) {
    const WorkItem& head = plan.items[i];
    for (end = i + 1; end < plan.items.size() && same_tile(head, plan.items[end]);) ++end;
    const auto pieces = static_cast<std::int32_t>(end - i);
    if (pieces == 1 && head.partial_slot != -1) return "an uncut tile has a partial";
    if (pieces == 1) continue;
    expected.push_back({head.request, head.kv_head, head.rows, head.partial_slot, pieces});
    for (std::int32_t p = 0; p < pieces; ++p) {
      const std::int64_t slot = plan.items[i + p].partial_slot;
      if (slot != head.partial_slot + std::int64_t{p} * head.rows.size()) return "partials out of key order";
      for (std::int64_t row = slot; row < slot + head.rows.size(); ++row) {
        if (row < 0 || row >= plan.partial_rows || used[row]++ != 0) return "a partial row is used twice or is not there";
      }
    }
  }
  if (std::count(used.begin(), used.end(), 1) != plan.partial_rows) return "workspace rows that nobody uses";
  if (expected != plan.merges) return "merge list does not match the cut tiles";
  return plan.workspace_bytes() == used.size() * (plan.head_dim_vo + 1) * 4 ? "" : "workspace bytes";
}

// count and target, by trying every chunk in turn on the tiles of an uncut plan.
std::string chunk_choice(PlanInputs in, const Plan& plan) {
  const SplitPolicy policy = in.policy;
  in.policy = SplitPolicy::none;
  const Plan uncut = make_plan(in);
  const auto items_with = [&](std::int64_t chunk) {
    std::int64_t n = 0;
    for (const WorkItem& tile : uncut.items) {
      const std::int64_t begin = tile.keys.begin / in.chunk_align * in.chunk_align;
      n += tile.keys.empty() ? 1 : (tile.keys.end - begin + chunk - 1) / chunk;
    }
    return n;
  };
  const auto tiles = static_cast<std::int64_t>(uncut.items.size());
  std::int64_t chunk = 0;
  if (policy == SplitPolicy::target) {
    chunk = 512;
    for (std::int32_t tier : tiers) chunk = items_with(tier) >= in.target_units ? tier : chunk;
  } else if (policy == SplitPolicy::count && tiles < plan.num_ctas()) {
    chunk = (in.min_chunk + in.chunk_align - 1) / in.chunk_align * in.chunk_align;
    while (items_with(chunk) > plan.num_ctas()) chunk += in.chunk_align;
    if (static_cast<std::int64_t>(plan.items.size()) > plan.num_ctas()) return "count exceeds the grid";
    if (items_with(chunk) == tiles) chunk = 0;
  }
  if (chunk != plan.chunk_size) return "chunk " + std::to_string(plan.chunk_size) + ", should be " + std::to_string(chunk);
  const std::int64_t expected = chunk == 0 ? tiles : items_with(chunk);
  return expected == static_cast<std::int64_t>(plan.items.size()) ? "" : "the items do not follow the chunk";
}

std::string balance(const PlanInputs& in, const Plan& plan) {
  double dearest_key = 1;
  for (std::int32_t c = 0; c < plan.num_ctas(); ++c) {
    int parts = 0;
    for (std::int32_t q = plan.queue_indptr[c]; q < plan.queue_indptr[c + 1]; ++q) {
      const WorkItem& item = plan.items[plan.queue[q]];
      dearest_key = std::max(dearest_key, in.cost.per_key(item.rows.size()));
      if (item.whole()) continue;
      ++parts;
      const bool from_cut = (item.flags & WorkItem::first) == 0, to_cut = (item.flags & WorkItem::last) == 0;
      if (item.keys.size() < in.chunk_align && (from_cut || to_cut)) return "a sliver";
    }
    if (parts > 2) return "a CTA with more than two partial items";
  }
  const std::int64_t lanes = plan.num_ctas() / in.num_kv_heads * in.num_kv_heads;  // CTAs, if each head has its own lanes
  const bool by_head = 20 * lanes >= 19 * std::int64_t{plan.num_ctas()};
  const double mean = plan.total_cost / static_cast<double>(by_head ? lanes : plan.num_ctas());
  const double bound = mean + 2 * in.cost.per_item + 3 * in.chunk_align * dearest_key;
  return plan.makespan <= bound ? "" : "makespan " + std::to_string(plan.makespan) + " > " + std::to_string(bound);
}

// The items of request b, seen from the request: without its place in the batch and in the workspace.
std::vector<WorkItem> own_items(const Plan& plan, std::int32_t b) {
  std::vector<WorkItem> own;
  for (WorkItem item : plan.items) {
    if (item.request != b) continue;
    item.request = 0;
    item.partial_slot = item.whole() ? -1 : 0;
    own.push_back(item);
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
  std::size_t cut_plans = 0, balanced_ctas = 0;
  for (std::uint64_t seed = 0; seed < 10000; ++seed) {
    const Batch batch = random_batch(seed);
    const PlanInputs& in = batch.in;
    CAPTURE(seed);
    CAPTURE(name_of(in.policy));
    const Plan plan = make_plan(in);
    REQUIRE(coverage(in, plan) == "");
    REQUIRE(order_and_cuts(in, plan) == "");
    REQUIRE(merges_and_workspace(plan) == "");
    REQUIRE(test::queues_and_costs(in, plan) == "");
    if (in.policy == SplitPolicy::balanced) {
      REQUIRE(balance(in, plan) == "");
      balanced_ctas += summarize(plan).idle_ctas == 0;
    } else {
      if (in.policy != SplitPolicy::fixed) REQUIRE(chunk_choice(in, plan) == "");
      if (in.policy == SplitPolicy::fixed || in.policy == SplitPolicy::none) REQUIRE(independence(in, plan) == "");
    }
    make_plan(in, reused);
    REQUIRE(same(plan, reused));
    REQUIRE(same(plan, make_plan(in)));
    cut_plans += !plan.merges.empty();
  }
  // The batches are worth testing: many are cut, and balanced often keeps every CTA busy.
  CHECK(cut_plans > 2500);
  CHECK(balanced_ctas > 300);
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
