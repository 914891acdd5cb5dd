#include "gpu/attention/packed_plan.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/error.hpp"
#include "core/page_table.hpp"

namespace flashladder::gpu {
namespace {

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

struct Offsets {
  std::size_t items, merges, arrivals, end;  // the queues come first
};

Offsets offsets(const PackedShape& shape) {
  Offsets at{};
  at.items = static_cast<std::size_t>(shape.num_ctas) * sizeof(PackedQueue);
  at.merges = at.items + static_cast<std::size_t>(shape.items) * sizeof(PackedItem);
  at.arrivals = at.merges + static_cast<std::size_t>(shape.merges) * sizeof(PackedMerge);
  at.end = at.arrivals + aligned(static_cast<std::size_t>(shape.merges + shape.items) * sizeof(std::uint32_t));
  return at;
}

void require_fits(const Plan& plan, const PackedShape& capacity, std::size_t out_bytes) {
  const auto at_most = [](const char* what, std::int64_t has, std::int64_t limit) {
    if (has <= limit) return;  // the sentence, and the memory that it takes, only if it is needed
    require(false, what, has, ("is more than the block's " + std::to_string(limit)).c_str());
  };
  at_most("plan.num_ctas", plan.num_ctas(), capacity.num_ctas);
  require(plan.parts.size() == 1, "plan.parts", plan.parts.size(), "must be one");
  at_most("plan.query_tile", plan.parts[0].query_tile, capacity.query_tile);
  at_most("plan.items", plan.num_work(), capacity.items);
  at_most("plan.merges", plan.num_merges(), capacity.merges);
  at_most("plan.partial_rows", plan.partial_rows, capacity.partial_rows);
  require(out_bytes >= packed_bytes(capacity), "packed plan bytes", out_bytes, "are fewer than packed_bytes(capacity)");
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(plan.partial_rows <= most, "plan.partial_rows", plan.partial_rows, "is more than 2^31 - 1");
  const std::int64_t rows = std::int64_t{plan.batch} * plan.num_qo_heads;
  require(rows <= most, "rows of q", rows, "are more than 2^31 - 1");
}

// The items in queue order. They are walked by request, so that where a request's pages begin (what paged_kv_indptr says,
// since a valid table has no more pages than its tokens fill) needs no search.
void pack_items(const Plan& plan, std::int32_t page_size, PackedItem* items) {
  thread_local std::vector<std::int32_t> place;  // [items]  kept, so that packing again allocates nothing
  const PlanPart& part = plan.parts.front();
  place.resize(part.queue.size());
  for (std::size_t at = 0; at < part.queue.size(); ++at) place[part.queue[at]] = static_cast<std::int32_t>(at);
  std::int64_t first_page = 0;
  std::int32_t request = 0;
  for_each_work(part, [&](std::int32_t w) {
    const WorkItem item = part.work(w);
    for (; request < item.request; ++request) {
      first_page += pages_for(plan.kv_lens[request], page_size);
      require(first_page <= std::numeric_limits<std::int32_t>::max(), "pages", first_page, "are more than 2^31 - 1");
    }
    items[place[w]] = {.row = item.request * plan.num_qo_heads + item.head * part.pack + item.rows.begin,
                       .rows = item.rows.size(), .kv_head = item.head,
                       .first_page = static_cast<std::int32_t>(first_page), .begin = item.keys.begin, .end = item.keys.end,
                       .merge = item.merge, .slot = item.whole() ? 0 : static_cast<std::int32_t>(item.partial_slot)};
  });
}

}  // namespace

PackedShape shape_of(const Plan& plan) {
  return {.num_ctas = plan.num_ctas(), .query_tile = plan.parts.at(0).query_tile, .items = plan.num_work(),
          .merges = plan.num_merges(), .partial_rows = plan.partial_rows};
}

std::size_t packed_bytes(const PackedShape& shape) { return offsets(shape).end; }

std::size_t partial_bytes(const PackedShape& shape, std::int32_t head_dim) {
  return static_cast<std::size_t>(shape.partial_rows) * (static_cast<std::size_t>(head_dim) + 2) * sizeof(float);
}

PackedView view_of(const PackedShape& capacity, std::byte* packed) {
  const Offsets at = offsets(capacity);
  return {.queues = reinterpret_cast<PackedQueue*>(packed), .items = reinterpret_cast<PackedItem*>(packed + at.items),
          .merges = reinterpret_cast<PackedMerge*>(packed + at.merges),
          .arrivals = reinterpret_cast<std::uint32_t*>(packed + at.arrivals)};
}

void pack(const Plan& plan, std::int32_t page_size, const PackedShape& capacity, std::span<std::byte> out) {
  require_fits(plan, capacity, out.size());
  const PackedView view = view_of(capacity, out.data());
  const PlanPart& part = plan.parts.front();
  pack_items(plan, page_size, view.items);
  for (std::int32_t cta = 0; cta < capacity.num_ctas; ++cta) {
    PackedQueue queue;
    if (cta < plan.num_ctas() && part.queue_indptr[cta] < part.queue_indptr[cta + 1]) {
      queue = {view.items[part.queue_indptr[cta]], part.queue_indptr[cta] + 1, part.queue_indptr[cta + 1]};
    }
    view.queues[cta] = queue;
  }
  std::int64_t counters = capacity.merges;
  for (std::int64_t i = 0; i < part.num_merges(); ++i) {
    const Merge m = part.merge(i);
    view.merges[i] = {.row = m.request * plan.num_qo_heads + m.head * part.pack + m.rows.begin, .rows = m.rows.size(),
                      .first_slot = static_cast<std::int32_t>(m.first_slot), .num_partials = m.num_partials,
                      .first_group = static_cast<std::int32_t>(counters)};
    counters += view.merges[i].num_groups();  // fewer than its partials, which are items
  }
  std::fill(view.arrivals, view.arrivals + counters, 0u);
}

}  // namespace flashladder::gpu
