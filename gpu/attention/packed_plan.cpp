#include "gpu/attention/packed_plan.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/divisor.hpp"
#include "core/error.hpp"
#include "core/mask_bits.hpp"
#include "core/page_table.hpp"
#include "core/row.hpp"
#include "gpu/attention/sections.hpp"

namespace flashladder::gpu {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

struct Offsets {
  std::size_t queues, items, merges, arrivals, end;  // the header comes first
};

Offsets offsets(const PackedShape& shape) {
  const auto bytes = [](std::int64_t count, std::size_t size) { return static_cast<std::size_t>(count) * size; };
  Offsets at{};
  at.queues = sizeof(PackedHeader);
  at.items = at.queues + (shape.claimed ? 0 : bytes(shape.num_ctas, sizeof(PackedQueue)));
  at.merges = at.items + bytes(shape.items, sizeof(PackedItem));
  at.arrivals = at.merges + bytes(shape.merges, sizeof(PackedMerge));
  // A merge has fewer groups than partials, which are items.
  at.end = at.arrivals + aligned(bytes((shape.merges * shape.counters + shape.items) * shape.copies, sizeof(std::uint32_t)));
  return at;
}

void require_fits(const Plan& plan, const PackedShape& has, const PackedShape& capacity, std::size_t out_bytes) {
  const auto at_most = [](const char* what, std::int64_t count, std::int64_t limit) {
    if (count <= limit) return;  // the sentence, and the memory that it takes, only if it is needed
    require(false, what, count, ("is more than the block's " + std::to_string(limit)).c_str());
  };
  at_most("plan.num_ctas", has.num_ctas, capacity.num_ctas);
  at_most("plan.query_tile", has.query_tile, capacity.query_tile);
  at_most("plan.items", has.items, capacity.items);
  at_most("plan.items of all heads", has.num_work(), capacity.num_work());
  at_most("plan.merges", has.merges, capacity.merges);
  at_most("plan.merges of all heads", has.merges * has.copies, capacity.merges * capacity.copies);
  at_most("plan.partial_rows", has.partial_rows, capacity.partial_rows);
  require(has.claimed == capacity.claimed, "plan.claimed", has.claimed, "must be that of the block");
  require(has.pack == capacity.pack, "plan.pack", has.pack, "must be that of the block");
  require(out_bytes >= packed_bytes(capacity), "packed plan bytes", out_bytes, "are fewer than packed_bytes(capacity)");
  require(plan.partial_rows <= int32_max, "plan.partial_rows", plan.partial_rows, "is more than 2^31 - 1");
  require(has.num_work() <= int32_max, "plan.items", has.num_work(), "are more than 2^31 - 1");
}

// What an item takes from its request.
struct Request {
  std::int32_t query, first_page;
  RequestShape shape;
};

// Of every request. Kept between calls, so that packing again allocates nothing.
const std::vector<Request>& requests_of(const Plan& plan, const PageRows& pages) {
  thread_local std::vector<Request> requests;
  requests.resize(static_cast<std::size_t>(plan.batch));
  std::int64_t query = 0, page = 0, pairs = 0;
  for (std::int32_t b = 0; b < plan.batch; ++b) {
    if (pages.row > 0) page = std::int64_t{b} * pages.row;
    require(query <= int32_max, "queries", query, "are more than 2^31 - 1");
    require(page <= int32_max, "pages", page, "are more than 2^31 - 1");
    requests[b] = {static_cast<std::int32_t>(query), static_cast<std::int32_t>(page),
                   {plan.kv_lens[b], plan.kv_lens[b] - plan.qo_lens[b], mask_words(query, pairs)}};
    query += plan.qo_lens[b];
    page += pages_for(plan.kv_lens[b], pages.page_size);
    pairs += std::int64_t{plan.qo_lens[b]} * plan.kv_lens[b];
  }
  return requests;
}

class Packer {
 public:
  Packer(const Plan& plan, const PlanPart& part, const PageRows& pages)
      : group_size_(plan.group_size()), by_group_(group_size_), part_(part), requests_(requests_of(plan, pages)),
        stored_{.copies = part.copies, .merges = static_cast<std::int32_t>(part.merges.size()),
                .partial_rows = static_cast<std::int32_t>(part.partial_rows)} {}

  // Number by number to where it stays: a record that is put together elsewhere and copied in 16-byte pieces waits for every
  // piece until the numbers of which it was put together are written.
  void write(const WorkItem& i, PackedItem& to) const {
    const Request& r = requests_[i.request];
    to.query = r.query, to.head = i.head;
    to.rows = i.rows, to.keys = i.keys;
    to.kv_head = by_group_.quotient(i.head * part_.pack), to.first_page = r.first_page;
    to.merge = i.merge, to.slot = i.whole() ? 0 : static_cast<std::int32_t>(i.partial_slot);
    to.request = r.shape;
  }
  void move_to_copy(PackedItem& item, std::int32_t copy) const {
    stored_.move_to_copy(item, copy, part_.pack, group_size_);
  }
  PackedMerge merge(const Merge& m, std::int32_t first_group) const {
    const Request& r = requests_[m.request];
    return {.query = r.query, .head = m.head, .rows = m.rows, .first_slot = static_cast<std::int32_t>(m.first_slot),
            .num_partials = m.num_partials, .first_group = first_group, .request = r.shape, .padding = {}};
  }

 private:
  std::int32_t group_size_;
  Divisor by_group_;  // kv_head_of(), for as many items as there are
  const PlanPart& part_;
  const std::vector<Request>& requests_;
  PackedHeader stored_;  // of a block that stores items once
};

// The items of every head, in queue order.
void pack_queues(const PlanPart& part, const Packer& packer, std::int32_t num_ctas, const PackedView& view) {
  thread_local std::vector<std::int32_t> place;  // [num_work] kept, so that packing again allocates nothing
  place.resize(part.queue.size());
  for (std::size_t at = 0; at < part.queue.size(); ++at) place[part.queue[at]] = static_cast<std::int32_t>(at);
  auto next = place.begin();
  for (const WorkItem& stored : part.items) {
    for (std::int32_t copy = 0; copy < part.copies; ++copy) {
      PackedItem& item = view.items[*next++];
      packer.write(stored, item);
      packer.move_to_copy(item, copy);
    }
  }
  const auto planned = static_cast<std::int32_t>(part.queue_indptr.size()) - 1;
  for (std::int32_t cta = 0; cta < num_ctas; ++cta) {
    PackedQueue queue;
    if (cta < planned && part.queue_indptr[cta] < part.queue_indptr[cta + 1]) {
      queue.first = view.items[part.queue_indptr[cta]];
      queue.begin = part.queue_indptr[cta] + 1;
      queue.end = part.queue_indptr[cta + 1];
    }
    view.queues[cta] = queue;
  }
}

Sections sections_of(const Plan& plan, const PlanPart& part) {
  const auto begins_tile = [](const WorkItem& item) { return (item.flags & WorkItem::first) != 0; };
  SectionedWork work{.copies = part.copies, .pack = part.pack, .group_size = plan.group_size(), .head_dim_vo = plan.head_dim_vo,
                     .num_ctas = plan.num_ctas(), .batch = plan.batch, .tiles = std::ranges::count_if(part.items, begins_tile),
                     .items = std::ssize(part.items)};
  for (const std::int32_t len : plan.kv_lens) work.tokens += len;
  if (part.items.empty()) return work.sections();
  const auto [least, most] = std::ranges::minmax(part.items, {}, [](const WorkItem& item) { return item.keys.size(); });
  work.least_keys = least.keys.size(), work.most_keys = most.keys.size();
  return work.sections();
}

}  // namespace

PackedShape shape_of(const Plan& plan, std::size_t index) {
  const PlanPart& part = plan.parts.at(index);
  const std::int64_t stored = part.claimed ? 1 : part.copies;  // of each item
  const auto queues = static_cast<std::int32_t>(part.queue_indptr.size()) - 1;
  return {.claimed = part.claimed, .num_ctas = part.claimed ? plan.num_ctas() : queues, .query_tile = part.query_tile,
          .pack = part.pack,
          .copies = part.claimed ? part.copies : 1, .items = static_cast<std::int64_t>(part.items.size()) * stored,
          .merges = static_cast<std::int64_t>(part.merges.size()) * stored,
          .partial_rows = plan.partial_rows};  // slots count through all parts
}

std::size_t packed_bytes(const PackedShape& shape) { return offsets(shape).end; }

std::size_t partial_bytes(const PackedShape& shape, std::int32_t head_dim_vo) {
  return static_cast<std::size_t>(shape.partial_rows) * (static_cast<std::size_t>(head_dim_vo) + 2) * sizeof(float);
}

PackedView view_of(const PackedShape& capacity, std::byte* packed) {
  const Offsets at = offsets(capacity);
  return {.header = reinterpret_cast<PackedHeader*>(packed), .queues = reinterpret_cast<PackedQueue*>(packed + at.queues),
          .items = reinterpret_cast<PackedItem*>(packed + at.items),
          .merges = reinterpret_cast<PackedMerge*>(packed + at.merges),
          .arrivals = reinterpret_cast<std::uint32_t*>(packed + at.arrivals)};
}

void pack(const Plan& plan, const PageRows& pages, const PackedShape& capacity, std::span<std::byte> out,
          std::size_t index) {
  const PackedShape shape = shape_of(plan, index);
  require_fits(plan, shape, capacity, out.size());
  const PackedView view = view_of(capacity, out.data());
  const PlanPart& part = plan.parts[index];
  const Packer packer(plan, part, pages);
  if (part.claimed) {
    for (std::size_t i = 0; i < part.items.size(); ++i) packer.write(part.items[i], view.items[i]);
  } else {
    pack_queues(part, packer, capacity.num_ctas, view);
  }
  // Counters of merges come first, those of groups behind them, each for all copies.
  const std::int64_t first_group = shape.merges * shape.copies * capacity.counters;
  std::int64_t groups = 0;
  for (std::int64_t m = 0; m < shape.merges; ++m) {
    view.merges[m] = packer.merge(part.merge(m), static_cast<std::int32_t>(first_group + groups));
    groups += view.merges[m].num_groups();
  }
  const Sections sections = part.claimed ? sections_of(plan, part) : Sections{1, 0};
  *view.header = {.claimed = 0, .num_work = static_cast<std::int32_t>(shape.num_work()), .copies = shape.copies,
                  .merges = static_cast<std::int32_t>(shape.merges),
                  .partial_rows = static_cast<std::int32_t>(part.partial_rows),
                  .groups = static_cast<std::int32_t>(groups), .section = sections.width, .narrow = sections.narrow};
  std::fill_n(view.arrivals, first_group + groups * shape.copies, 0u);
}

PackedParams packed_params(const PackedShape& capacity, std::byte* packed, void* partials, std::int32_t head_dim_vo,
                           std::uint64_t* cta_times) {
  auto* partial_o = static_cast<float*>(partials);
  float* partial_lse_log2 = partial_o + capacity.partial_rows * head_dim_vo;
  return {.view = view_of(capacity, packed), .partial_o = partial_o, .partial_lse_log2 = partial_lse_log2,
          .group_lse_log2 = partial_lse_log2 + capacity.partial_rows, .cta_times = cta_times, .pack = capacity.pack,
          .counters = capacity.counters};
}

}  // namespace flashladder::gpu
