// Appending by slot_mapping on the CPU: against slots that are counted one by one, with every other byte watched.
#include "core/kv_cache.hpp"
#include "reference/append.hpp"
#include "reference/rope_append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/ops_data.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace ops_test;
using reference::append_paged_kv_cache;
using Slots = std::vector<std::int64_t>;

namespace {

// Pools of 4 pages of 3 tokens, 2 heads of K [5] and V [4], all NaN; and new rows, of which row 2 stays NaN.
struct SlotCall {
  static constexpr int pages = 4, entries = 3, heads = 2, nnz = 5;
  KvLayout layout;
  Padded k, v, key, value;

  static std::vector<std::int64_t> shape(KvLayout layout, int dim) {
    return layout == KvLayout::NHD ? std::vector<std::int64_t>{pages, entries, heads, dim}
                                   : std::vector<std::int64_t>{pages, heads, entries, dim};
  }
  SlotCall(DType dtype, KvLayout l)
      : layout(l), k(dtype, shape(l, 5), 3), v(dtype, shape(l, 4), 5), key(dtype, {nnz, heads, 5}),
        value(dtype, {nnz, heads, 4}) {
    std::mt19937 random(51);
    std::uniform_real_distribution<double> any(-2, 2);
    for (Padded* p : {&key, &value}) {
      const std::int64_t row = p->size() / nnz;
      for (std::int64_t i = 0; i < p->size(); ++i) {
        if (i / row != 2) p->set(i, any(random));
      }
    }
  }
  PagedKvCache cache() const { return paged_kv_cache(k.t(), v.t(), layout); }

  // Writes a row where the slot is: slots are counted page by page, entry by entry.
  void set(std::int64_t slot, int row, const SlotCall& from) {
    std::int64_t count = 0;
    for (int page = 0; page < pages; ++page) {
      for (int entry = 0; entry < entries; ++entry, ++count) {
        if (count != slot) continue;
        for (int h = 0; h < heads; ++h) {
          const std::int64_t place = layout == KvLayout::NHD ? (page * entries + entry) * heads + h
                                                             : (page * heads + h) * entries + entry;
          for (int x = 0; x < 5; ++x) k.set(place * 5 + x, from.key.get((row * heads + h) * 5 + x));
          for (int x = 0; x < 4; ++x) v.set(place * 4 + x, from.value.get((row * heads + h) * 4 + x));
        }
      }
    }
  }
};

}  // namespace

TEST_CASE("append by slots: each row lands in its slot, padding goes nowhere, and no other byte of the pools changes") {
  const Slots slots{11, 0, -1, 4, 5};
  for (const DType dtype : all_dtypes) {
    for (const KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
      INFO(name_of(dtype), " ", name_of(layout));
      SlotCall call(dtype, layout), expected(dtype, layout);
      append_paged_kv_cache(call.key.t(), call.value.t(), slots, call.cache());
      for (int row = 0; row < SlotCall::nnz; ++row) expected.set(slots[row], row, call);
      CHECK(call.k.bytes() == expected.k.bytes());  // 0xff wherever nothing was appended
      CHECK(call.v.bytes() == expected.v.bytes());
      SlotCall wrong(dtype, layout);  // entry and page in the other order would be seen
      for (int row = 0; row < SlotCall::nnz; ++row) {
        const std::int64_t page = slots[row] % SlotCall::pages, entry = slots[row] / SlotCall::pages;
        if (slots[row] >= 0) wrong.set(page * SlotCall::entries + entry, row, call);
      }
      CHECK(wrong.k.bytes() != expected.k.bytes());
    }
  }
}

TEST_CASE("append by slots: the pools are those that requests and positions give, and rows of padding alone write nothing") {
  const std::vector<std::int32_t> requests{1, 0, -1, 0, 1}, positions{0, 3, 7, 1, 4}, indptr{0, 2, 4};
  const std::vector<std::int32_t> indices{3, 0, 2, 1}, last{1, 2};
  SlotCall by_slots(DType::bf16, KvLayout::HND), by_positions(DType::bf16, KvLayout::HND);
  append_paged_kv_cache(by_positions.key.t(), by_positions.value.t(), requests, positions, by_positions.cache(), indptr,
                        indices, last);
  append_paged_kv_cache(by_slots.key.t(), by_slots.value.t(), Slots{2 * 3, 0 * 3, -1, 3 * 3 + 1, 1 * 3 + 1},
                        by_slots.cache());
  CHECK((by_slots.k.bytes() == by_positions.k.bytes() && by_slots.v.bytes() == by_positions.v.bytes()));
  const std::vector<unsigned char> before = by_slots.k.bytes();
  append_paged_kv_cache(by_slots.key.t(), by_slots.value.t(), Slots(5, -1), by_slots.cache());
  CHECK(by_slots.k.bytes() == before);
}

TEST_CASE("RoPE and append by slots: the bits of RoPE and then the append; positions are angles alone; padding's q stays") {
  const std::vector<std::int32_t> angles{100000, 7, -5, 1, 0};  // of padding it may be anything
  const Slots slots{11, 0, -1, 4, 5};
  std::vector<float> table = reference::make_cos_sin_cache(100001, 4, 2, 500);
  const Tensor cos_sin = contiguous(table.data(), DType::f32, {100001, 4});
  for (const DType dtype : all_dtypes) {
    for (const bool computed : {false, true}) {
      SlotCall fused(dtype, KvLayout::HND), steps(dtype, KvLayout::HND);
      Padded q(dtype, {5, 3, 5}), q_before(dtype, {5, 3, 5}), q_steps(dtype, {5, 3, 5});
      std::mt19937 random(6);
      q.fill(random, -2, 2), q_before.copy(q), q_steps.copy(q);
      std::vector<std::int32_t> positions = angles;
      const auto call = [&] {
        if (computed) {
          reference::rope_pos_ids_append_paged_kv_cache(q.t(), fused.key.t(), fused.value.t(), 4, true, 2, 500, positions,
                                                        slots, fused.cache());
        } else {
          reference::rope_with_cos_sin_cache_append_paged_kv_cache(q.t(), fused.key.t(), fused.value.t(), cos_sin, false,
                                                                   positions, slots, fused.cache());
        }
      };
      positions[1] = -1;
      check_refused("positions[1]", {&q, &fused.k, &fused.v}, call);
      positions = angles;
      const std::vector<unsigned char> key_before = fused.key.bytes();
      call();
      CHECK(fused.key.bytes() == key_before);
      reference::apply_rope_pos_ids_inplace(q_steps.t(), steps.key.t(), std::vector{100000, 7, 0, 1, 0}, 4, true, 2, 500);
      for (int i = 2 * 15; i < 3 * 15; ++i) q_steps.set(i, q_before.get(i));
      append_paged_kv_cache(steps.key.t(), steps.value.t(), slots, steps.cache());
      CHECK(q.bytes() == q_steps.bytes());
      CHECK((fused.k.bytes() == steps.k.bytes() && fused.v.bytes() == steps.v.bytes()));
    }
  }
}

TEST_CASE("append by slots: bad arguments are refused by name and nothing is written") {
  const SlotCall call(DType::f16, KvLayout::NHD), floats(DType::f32, KvLayout::NHD);
  const auto refused = [&](const std::string& argument, Slots slots, const Tensor& key, const PagedKvCache& cache) {
    check_refused(argument, {&call.k, &call.v}, [&] { append_paged_kv_cache(key, call.value.t(), slots, cache); });
  };
  const PagedKvCache cache = call.cache();
  refused("slot_mapping[3]", {0, 1, 2, 12, 4}, call.key.t(), cache);
  refused("slot_mapping[3]", {0, 1, 2, std::int64_t{1} << 32, 4}, call.key.t(), cache);  // slot 0, were it 32 bits
  refused("slot_mapping[1]", {0, -2, 2, 3, 4}, call.key.t(), cache);
  refused("slot_mapping[4]", {0, 1, -1, 3, 1}, call.key.t(), cache);
  refused("slot_mapping", {0, 1, 2, 3}, call.key.t(), cache);
  refused("append_key", {0, 1, 2, 3, 4}, floats.key.t(), cache);
  refused("append_key", {0, 1, 2, 3, 4}, call.value.t(), cache);
  PagedKvCache twice = cache;
  twice.v = twice.k, twice.v_strides = twice.k_strides;
  refused("paged_kv_cache.v", {0, 1, 2, 3, 4}, call.key.t(), twice);
  Padded numbers(DType::f32, {4, 3, 2, 5});
  const auto* inside = static_cast<const std::int64_t*>(numbers.t().data);
  check_refused("paged_kv_cache.k", {&numbers}, [&] {
    append_paged_kv_cache(floats.key.t(), floats.value.t(), std::span(inside, 5),
                          paged_kv_cache(numbers.t(), floats.v.t(), KvLayout::NHD));
  });
  const std::vector<std::int32_t> positions(5), four(4);
  Padded q(DType::f16, {5, 3, 5});
  const auto rope = [&](const std::string& argument, const Tensor& q_, std::span<const std::int32_t> angles, Slots slots) {
    check_refused(argument, {&call.k, &call.v, &q}, [&] {
      reference::rope_pos_ids_append_paged_kv_cache(q_, call.key.t(), call.value.t(), 4, false, 1, 1e4f, angles, slots, cache);
    });
  };
  rope("q", call.key.t(), positions, {0, 1, 2, 3, 4});  // one tensor
  rope("q", floats.key.t(), positions, {0, 1, 2, 3, 4});
  rope("positions", q.t(), four, {0, 1, 2, 3, 4});
  rope("slot_mapping[0]", q.t(), positions, {12, 1, 2, 3, 4});
  rope("q", q.t(), std::span(static_cast<const std::int32_t*>(q.t().data), 5), {0, 1, 2, 3, 4});
  CHECK(test::refusal([&] { append_paged_kv_cache(call.key.t(), call.value.t(), Slots{0, 1, -1, 3, 1}, cache); }) ==
        "slot_mapping[4] = 1: must not be the slot of row 1 too");
}
