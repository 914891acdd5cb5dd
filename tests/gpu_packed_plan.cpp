// A packed plan says the same as the plan: needs no GPU, since packing is the host's work.
#include <doctest/doctest.h>

#include <vector>

#include "core/error.hpp"
#include "core/page_table.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/prefill/boxes.hpp"
#include "planner/planner.hpp"

using namespace flashladder;

namespace {

struct Packed {
  gpu::PackedShape shape;
  std::vector<std::byte> bytes;
  gpu::PackedView view;

  Packed(const Plan& plan, const gpu::PageRows& pages, const gpu::PackedShape& capacity, std::size_t part = 0)
      : shape(capacity), bytes(gpu::packed_bytes(capacity), std::byte{0xff}), view(gpu::view_of(capacity, bytes.data())) {
    gpu::pack(plan, pages, capacity, bytes, part);
  }
};

// Of every request: where its queries, pages and rows of a custom mask begin.
struct Begins {
  std::vector<std::int64_t> query{0}, page{0}, mask{0};  // mask: in words of 32 keys

  Begins(const Plan& plan, const gpu::PageRows& pages) {
    std::int64_t pairs = 0;
    for (std::size_t b = 0; b < plan.kv_lens.size(); ++b) {
      query.push_back(query.back() + plan.qo_lens[b]);
      page.push_back(pages.row > 0 ? static_cast<std::int64_t>(b + 1) * pages.row
                                   : page.back() + pages_for(plan.kv_lens[b], pages.page_size));
      pairs += std::int64_t{plan.qo_lens[b]} * plan.kv_lens[b];
      mask.push_back((pairs + 31 * query.back()) / 32);
    }
  }
};

void check_request(const Plan& plan, std::int32_t request, const Begins& begins, const gpu::RequestShape& packed) {
  CHECK(packed.kv_len == plan.kv_lens[request]);
  CHECK(packed.qo_len() == plan.qo_lens[request]);
  CHECK(packed.diagonal == plan.kv_lens[request] - plan.qo_lens[request]);
  CHECK(packed.mask == begins.mask[request]);
}

// merge_at(m): merge m of all copies, as the device finds it.
template <class MergeAt>
void check_item(const Plan& plan, const PlanPart& part, const WorkItem& item, const gpu::PackedItem& packed,
                const Begins& begins, const MergeAt& merge_at) {
  CHECK(packed.query == begins.query[item.request]);
  CHECK(packed.head == item.head);
  CHECK(packed.rows == item.rows);
  CHECK(packed.keys == item.keys);
  CHECK(packed.kv_head == item.head * part.pack / plan.group_size());
  CHECK(packed.first_page == begins.page[item.request]);
  check_request(plan, item.request, begins, packed.request);
  CHECK((packed.merge < 0) == item.whole());
  if (item.whole()) return;
  const gpu::PackedMerge merge = merge_at(packed.merge);
  CHECK(packed.slot == item.partial_slot);
  CHECK(merge.query == packed.query);
  CHECK(merge.head == packed.head);
  CHECK(merge.rows == packed.rows);
  CHECK(packed.slot >= merge.first_slot);
  CHECK(packed.slot < merge.first_slot + merge.num_partials * merge.rows.size());
  check_request(plan, item.request, begins, merge.request);
}

void check_counters(const gpu::PackedHeader& header, const Packed& packed, const std::vector<gpu::PackedMerge>& merges) {
  CHECK(header.claimed == 0);
  const std::size_t of_merges = merges.size() * static_cast<std::size_t>(packed.shape.counters);  // then those of groups
  for (std::size_t n = 0; n < of_merges; ++n) REQUIRE(packed.view.arrivals[n] == 0);
  const auto* const end = reinterpret_cast<const std::uint32_t*>(packed.bytes.data() + packed.bytes.size());
  REQUIRE(packed.view.arrivals + of_merges <= end);
  for (std::size_t m = 0; m < merges.size(); ++m) {
    for (std::int32_t group = 0; group < merges[m].num_groups(); ++group) {
      REQUIRE(packed.view.arrivals + merges[m].first_group + group < end);
      CHECK(packed.view.arrivals[merges[m].first_group + group] == 0);
      CHECK(merges[m].first_group >= static_cast<std::int32_t>(of_merges));  // not a merge's own counter
    }
  }
}

void check_queues(const Plan& plan, const PlanPart& part, const Packed& packed, const Begins& begins) {
  const auto merge_at = [&](std::int32_t m) { return packed.view.merges[m]; };
  for (std::int32_t cta = 0; cta < packed.shape.num_ctas; ++cta) {
    const gpu::PackedQueue& queue = packed.view.queues[cta];
    const bool used = cta < plan.num_ctas() && part.queue_indptr[cta] < part.queue_indptr[cta + 1];
    CHECK(queue.first.rows.empty() == !used);
    if (!used) continue;
    REQUIRE(queue.end - queue.begin + 1 == part.queue_indptr[cta + 1] - part.queue_indptr[cta]);
    for (std::int32_t at = queue.begin - 1; at < queue.end; ++at) {
      const gpu::PackedItem& item = at < queue.begin ? queue.first : packed.view.items[at];
      check_item(plan, part, part.work(part.queue[at]), item, begins, merge_at);
    }
  }
}

void check_claims(const Plan& plan, const PlanPart& part, const Packed& packed, const Begins& begins) {
  const gpu::PackedHeader& header = *packed.view.header;
  const auto merge_at = [&](std::int32_t m) {
    return header.of_copy(packed.view.merges[m % header.merges], m / header.merges);
  };
  REQUIRE(header.num_work == part.num_work());
  for (std::int32_t w = 0; w < header.num_work; ++w) {
    const gpu::PackedItem item =
        header.of_copy(packed.view.items[w / header.copies], w % header.copies, part.pack, plan.group_size());
    check_item(plan, part, part.work(w), item, begins, merge_at);
  }
}

void check_packed(const Plan& plan, const gpu::PageRows& pages, const Packed& packed, std::size_t index = 0) {
  const PlanPart& part = plan.parts[index];
  const Begins begins(plan, pages);
  if (part.claimed) {
    check_claims(plan, part, packed, begins);
  } else {
    check_queues(plan, part, packed, begins);
  }
  const gpu::PackedHeader& header = *packed.view.header;
  std::vector<gpu::PackedMerge> merges;
  for (std::int64_t m = 0; m < part.num_merges(); ++m) {
    const auto stored = static_cast<std::int32_t>(m) % header.merges, copy = static_cast<std::int32_t>(m) / header.merges;
    merges.push_back(header.of_copy(packed.view.merges[stored], copy));
    CHECK(merges.back().num_partials == part.merge(m).num_partials);
    CHECK(merges.back().first_slot == part.merge(m).first_slot);
  }
  check_counters(header, packed, merges);
}

planner::PlanInputs inputs(const std::vector<std::int32_t>& kv_lens, planner::SplitPolicy policy) {
  return {.kv_lens = kv_lens, .num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .page_size = 5,
          .policy = policy, .chunk_size = 64, .machine = {.num_sms = 13, .ctas_per_sm = 2}};
}

const std::vector<std::vector<std::int32_t>> batches{{1, 0, 4000, 77, 5, 0}, {20000}, {0}, {64, 64, 64, 64}, {}};

}  // namespace

TEST_CASE("a packed plan says what the plan says") {
  for (const auto policy : planner::all_policies) {
    for (const std::vector<std::int32_t>& kv_lens : batches) {
      for (const bool claimed : {false, true}) {
        planner::PlanInputs in = inputs(kv_lens, policy);
        in.claimed = claimed;
        const Plan plan = planner::make_plan(in);
        check_packed(plan, {5}, Packed(plan, {5}, gpu::shape_of(plan)));
      }
    }
  }
}

TEST_CASE("many queries: ragged and packed by group or not") {
  const std::vector<std::int32_t> kv_lens{300, 0, 4000, 5}, qo_lens{40, 3, 1000, 0};
  for (const auto policy : planner::all_policies) {
    for (const std::int32_t pack : {0, 1}) {
      planner::PlanInputs in = inputs(kv_lens, policy);
      in.qo_lens = qo_lens;
      in.mask = MaskMode::causal;
      in.pack = pack;
      in.query_tile = 64;
      in.claimed = true;
      const Plan plan = planner::make_plan(in);
      check_packed(plan, {5}, Packed(plan, {5}, gpu::shape_of(plan)));
    }
  }
}

TEST_CASE("each part of a plan has a block of its own") {
  const std::vector<std::int32_t> kv_lens{300, 900, 4000, 5}, qo_lens{40, 1, 1000, 1};
  planner::PlanInputs in = inputs(kv_lens, planner::SplitPolicy::fixed);
  in.qo_lens = qo_lens;
  in.query_tile = 64;
  in.decode_tile = 4;
  const Plan plan = planner::make_plan(in);
  REQUIRE(plan.parts.size() == 2);
  for (std::size_t part = 0; part < 2; ++part) {
    check_packed(plan, {5}, Packed(plan, {5}, gpu::shape_of(plan, part), part), part);
    CHECK(gpu::shape_of(plan, part).partial_rows == plan.partial_rows);  // slots count through all parts
  }
}

TEST_CASE("a custom mask may have more than 2^31 bytes") {
  const std::vector<std::int32_t> kv_lens{70000, 5}, qo_lens{40000, 1};
  planner::PlanInputs in = inputs(kv_lens, planner::SplitPolicy::none);
  in.qo_lens = qo_lens;
  in.query_tile = 8000;
  const Plan plan = planner::make_plan(in);
  check_packed(plan, {5}, Packed(plan, {5}, gpu::shape_of(plan)));
}

TEST_CASE("partials and groups lie side by side and fill their bytes") {
  const gpu::PackedShape shape{.num_ctas = 2, .query_tile = 4, .pack = 4, .items = 3, .merges = 1, .partial_rows = 12};
  std::vector<float> partials(gpu::partial_bytes(shape, 64) / sizeof(float));
  const gpu::PackedParams p = gpu::packed_params(shape, nullptr, partials.data(), 64);
  CHECK(p.partial_o == partials.data());
  CHECK(p.partial_lse_log2 == p.partial_o + 12 * 64);
  CHECK(p.group_lse_log2 == p.partial_lse_log2 + 12);
  CHECK(p.group_lse_log2 + 12 == partials.data() + partials.size());
}

TEST_CASE("the pages of a block table begin at its rows") {
  for (const bool claimed : {false, true}) {
    planner::PlanInputs in = inputs(batches[0], planner::SplitPolicy::balanced);
    in.claimed = claimed;
    const Plan plan = planner::make_plan(in);
    const gpu::PageRows pages{5, 1000};
    check_packed(plan, pages, Packed(plan, pages, gpu::shape_of(plan)));
  }
}

TEST_CASE("a larger block: queues beyond the plan's are empty and nothing else moves") {
  const std::vector<std::int32_t> kv_lens{3000, 10, 0};
  for (const bool claimed : {false, true}) {
    planner::PlanInputs in = inputs(kv_lens, planner::SplitPolicy::balanced);
    in.claimed = claimed;
    const Plan plan = planner::make_plan(in);
    gpu::PackedShape capacity = gpu::shape_of(plan);
    capacity.num_ctas += 7, capacity.items += 100, capacity.merges += 3, capacity.partial_rows += 50;
    check_packed(plan, {5}, Packed(plan, {5}, capacity));
  }
}

TEST_CASE("more than 32 partials of a tile are counted in groups") {
  const std::vector<std::int32_t> kv_lens{20000};
  const Plan plan = planner::make_plan(inputs(kv_lens, planner::SplitPolicy::fixed));
  const Packed packed(plan, {5}, gpu::shape_of(plan));
  const gpu::PackedMerge& m = packed.view.merges[0];
  CHECK(m.num_partials == 313);
  CHECK(m.num_groups() == 20);
  CHECK(packed.view.merges[1].first_group == m.first_group + 20);
}

TEST_CASE("a merge has a counter for each row of a tile where rows are merged one by one") {
  const std::vector<std::int32_t> kv_lens{20000, 20000};
  for (const std::int32_t chunk : {10048, 1024, 64}) {  // fewer items than counters; more; with groups
    planner::PlanInputs in = inputs(kv_lens, planner::SplitPolicy::fixed);
    in.chunk_size = chunk;
    const Plan plan = planner::make_plan(in);
    gpu::PackedShape shape = gpu::shape_of(plan);
    shape.counters = shape.query_tile;
    REQUIRE(shape.counters > 1);
    const Packed packed(plan, {5}, shape);
    check_packed(plan, {5}, packed);
    CHECK(gpu::packed_params(shape, nullptr, nullptr, 64).counters == shape.counters);
  }
}

TEST_CASE("a plan that does not fit its block is refused") {
  const std::vector<std::int32_t> kv_lens{3000, 10};
  const Plan plan = planner::make_plan(inputs(kv_lens, planner::SplitPolicy::balanced));
  const auto refused = [&](auto shrink, const char* what) {
    gpu::PackedShape capacity = gpu::shape_of(plan);
    shrink(capacity);
    std::vector<std::byte> out(gpu::packed_bytes(gpu::shape_of(plan)));
    CHECK_THROWS_WITH_AS(gpu::pack(plan, {5}, capacity, out), doctest::Contains(what), InputError);
  };
  refused([](gpu::PackedShape& s) { --s.num_ctas; }, "plan.num_ctas");
  refused([](gpu::PackedShape& s) { --s.items; }, "plan.items");
  refused([](gpu::PackedShape& s) { --s.merges; }, "plan.merges");
  refused([](gpu::PackedShape& s) { --s.partial_rows; }, "plan.partial_rows");
  refused([](gpu::PackedShape& s) { --s.query_tile; }, "plan.query_tile");
  refused([](gpu::PackedShape& s) { ++s.pack; }, "plan.pack");
  refused([](gpu::PackedShape& s) { s.claimed = true; }, "plan.claimed");
  planner::PlanInputs in = inputs(kv_lens, planner::SplitPolicy::fixed);
  in.claimed = true;
  const Plan claimed = planner::make_plan(in);
  gpu::PackedShape room = gpu::shape_of(claimed);
  REQUIRE(room.copies == 2);
  room = {true, room.num_ctas, room.query_tile, room.pack, 1, 1, 2 * room.items, 2 * room.merges - 1, room.partial_rows};
  std::vector<std::byte> out(gpu::packed_bytes(room));
  CHECK_THROWS_WITH_AS(gpu::pack(claimed, {5}, room, out), doctest::Contains("plan.merges of all heads"), InputError);
}

TEST_CASE("boxes of pages refuse strides that they can't describe, and pages that are no multiple of 8") {
  gpu::AttentionCall call;
  call.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128};
  call.kv.k_strides = call.kv.v_strides = {16 * 256, 256, 128};
  call.kv.pages = {nullptr, 16, 3};
  const auto refused = [&](auto change, const char* why) {
    gpu::AttentionCall bad = call;
    change(bad);
    CHECK_THROWS_WITH_AS(gpu::kv_boxes(bad, 128), doctest::Contains(why), InputError);
  };
  refused([](gpu::AttentionCall& c) { c.kv.k_strides.head = 96; }, "multiple of 64 elements");
  refused([](gpu::AttentionCall& c) { c.kv.v_strides.head = -128; }, "multiple of 64 elements");
  refused([](gpu::AttentionCall& c) { c.kv.k_strides.entry = -256; }, "must be positive");
  refused([](gpu::AttentionCall& c) { c.kv.k_strides.page = 0; }, "must be positive");
  refused([](gpu::AttentionCall& c) { c.kv.pages.page_size = 20; }, "multiple of 8");
  CHECK(gpu::why_no_boxes(1, true).empty());
  CHECK_FALSE(gpu::why_no_boxes(1, false).empty());
  CHECK(gpu::why_no_boxes(24, false).empty());
}
