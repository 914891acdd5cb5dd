// A packed plan says the same as the plan: needs no GPU, since packing is the host's work.
#include <doctest/doctest.h>

#include <vector>

#include "core/error.hpp"
#include "core/page_table.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "planner/planner.hpp"

using namespace flashladder;

namespace {

struct Packed {
  gpu::PackedShape shape;
  std::vector<std::byte> bytes;
  gpu::PackedView view;

  Packed(const Plan& plan, std::int32_t page_size, const gpu::PackedShape& capacity)
      : shape(capacity), bytes(gpu::packed_bytes(capacity), std::byte{0xff}), view(gpu::view_of(capacity, bytes.data())) {
    gpu::pack(plan, page_size, capacity, bytes);
  }
};

std::vector<std::int32_t> page_begins(const Plan& plan, std::int32_t page_size) {
  std::vector<std::int32_t> begins{0};
  for (const std::int32_t len : plan.kv_lens) begins.push_back(begins.back() + pages_for(len, page_size));
  return begins;
}

void check_item(const Plan& plan, const WorkItem& item, const gpu::PackedItem& packed, const gpu::PackedView& view,
                std::int32_t first_page) {
  CHECK(packed.row == (item.request * plan.num_kv_heads + item.head) * plan.group_size() + item.rows.begin);
  CHECK(packed.rows == item.rows.size());
  CHECK(packed.kv_head == item.head);
  CHECK(packed.first_page == first_page);
  CHECK(Range{packed.begin, packed.end} == item.keys);
  CHECK((packed.merge < 0) == item.whole());
  if (item.whole()) return;
  const gpu::PackedMerge& merge = view.merges[packed.merge];
  CHECK(packed.slot == item.partial_slot);
  CHECK(merge.row == packed.row);
  CHECK(merge.rows == packed.rows);
  CHECK(packed.slot >= merge.first_slot);
  CHECK(packed.slot < merge.first_slot + merge.num_partials * merge.rows);
}

void check_packed(const Plan& plan, std::int32_t page_size, const Packed& packed) {
  const std::vector<std::int32_t> begins = page_begins(plan, page_size);
  const PlanPart& part = plan.parts.front();
  for (std::int32_t cta = 0; cta < packed.shape.num_ctas; ++cta) {
    const gpu::PackedQueue& queue = packed.view.queues[cta];
    const bool used = cta < plan.num_ctas() && part.queue_indptr[cta] < part.queue_indptr[cta + 1];
    CHECK((queue.first.rows > 0) == used);
    if (!used) continue;
    REQUIRE(queue.end - queue.begin + 1 == part.queue_indptr[cta + 1] - part.queue_indptr[cta]);
    for (std::int32_t at = queue.begin - 1; at < queue.end; ++at) {
      const WorkItem item = part.work(part.queue[at]);
      check_item(plan, item, at < queue.begin ? queue.first : packed.view.items[at], packed.view, begins[item.request]);
    }
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(plan.num_merges()); ++i) {
    CHECK(packed.view.merges[i].num_partials == part.merge(static_cast<std::int64_t>(i)).num_partials);
    CHECK(packed.view.arrivals[i] == 0);
    const gpu::PackedMerge& m = packed.view.merges[i];
    for (std::int32_t group = 0; group < m.num_groups(); ++group) CHECK(packed.view.arrivals[m.first_group + group] == 0);
  }
}

planner::PlanInputs inputs(const std::vector<std::int32_t>& kv_lens, planner::SplitPolicy policy) {
  return {.kv_lens = kv_lens, .num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .page_size = 5,
          .policy = policy, .chunk_size = 64, .machine = {.num_sms = 13, .ctas_per_sm = 2}};
}

}  // namespace

TEST_CASE("a packed plan says what the plan says") {
  for (const auto policy : planner::all_policies) {
    for (const std::vector<std::int32_t>& kv_lens :
         {std::vector<std::int32_t>{1, 0, 4000, 77, 5, 0}, {20000}, {0}, {64, 64, 64, 64}, {}}) {
      const Plan plan = planner::make_plan(inputs(kv_lens, policy));
      check_packed(plan, 5, Packed(plan, 5, gpu::shape_of(plan)));
    }
  }
}

TEST_CASE("a larger block: queues beyond the plan's are empty, nothing else moves") {
  const std::vector<std::int32_t> kv_lens{3000, 10, 0};
  const Plan plan = planner::make_plan(inputs(kv_lens, planner::SplitPolicy::balanced));
  gpu::PackedShape capacity = gpu::shape_of(plan);
  capacity.num_ctas += 7, capacity.items += 100, capacity.merges += 3, capacity.partial_rows += 50;
  check_packed(plan, 5, Packed(plan, 5, capacity));
}

TEST_CASE("more than 32 partials of a tile are counted in groups") {
  const std::vector<std::int32_t> kv_lens{20000};
  planner::PlanInputs in = inputs(kv_lens, planner::SplitPolicy::fixed);
  const Plan plan = planner::make_plan(in);
  const Packed packed(plan, 5, gpu::shape_of(plan));
  const gpu::PackedMerge& m = packed.view.merges[0];
  CHECK(m.num_partials == 313);
  CHECK(m.num_groups() == 20);
  CHECK(packed.view.merges[1].first_group == m.first_group + 20);
}

TEST_CASE("a plan that does not fit its block is refused") {
  const std::vector<std::int32_t> kv_lens{3000, 10};
  const Plan plan = planner::make_plan(inputs(kv_lens, planner::SplitPolicy::balanced));
  const auto refused = [&](auto shrink, const char* what) {
    gpu::PackedShape capacity = gpu::shape_of(plan);
    shrink(capacity);
    std::vector<std::byte> out(gpu::packed_bytes(gpu::shape_of(plan)));
    CHECK_THROWS_WITH_AS(gpu::pack(plan, 5, capacity, out), doctest::Contains(what), InputError);
  };
  refused([](gpu::PackedShape& s) { --s.num_ctas; }, "plan.num_ctas");
  refused([](gpu::PackedShape& s) { --s.items; }, "plan.items");
  refused([](gpu::PackedShape& s) { --s.merges; }, "plan.merges");
  refused([](gpu::PackedShape& s) { --s.partial_rows; }, "plan.partial_rows");
  refused([](gpu::PackedShape& s) { --s.query_tile; }, "plan.query_tile");
}
