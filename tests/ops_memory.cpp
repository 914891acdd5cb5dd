// Which memory an operation may be given: what overlaps is refused, what only lies in turn is not; and none is allocated.
#include <algorithm>
#include <set>

#include "core/checks.hpp"
#include "reference/append.hpp"
#include "reference/layernorm.hpp"
#include "reference/merge_states.hpp"
#include "reference/norm.hpp"
#include "reference/rope_append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/count_allocations.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;
using Ints = std::vector<std::int32_t>;

namespace {

// Every byte that a tensor's elements take, one by one.
std::set<std::uintptr_t> bytes_of(const ConstTensor& t) {
  std::set<std::uintptr_t> bytes;
  for (std::int64_t i = 0; i < t.size(); ++i) {
    std::int64_t rest = i, offset = 0;
    for (int d = t.rank - 1; d >= 0; --d) {
      offset += rest % t.shape[d] * t.strides[d];
      rest /= t.shape[d];
    }
    for (std::size_t b = 0; b < size_of(t.dtype); ++b) {
      bytes.insert(reinterpret_cast<std::uintptr_t>(t.data) + offset * static_cast<std::int64_t>(size_of(t.dtype)) + b);
    }
  }
  return bytes;
}
bool meet(const ConstTensor& a, const ConstTensor& b) {
  const auto in_a = bytes_of(a), in_b = bytes_of(b);
  return std::any_of(in_a.begin(), in_a.end(), [&](std::uintptr_t byte) { return in_b.contains(byte); });
}

Tensor from(std::vector<float>& memory, std::int64_t at, std::initializer_list<std::int64_t> shape,
            std::initializer_list<std::int64_t> strides) {
  return strided(memory.data() + at, DType::f32, shape, strides);
}

// A batch of two requests, of which row 0 is the third token of the first and row 2 the second of the other.
struct AppendCall {
  Ints requests{0, -1, 1}, positions{2, 0, 1}, indptr{0, 2, 3}, indices{2, 0, 1}, last{1, 2};
  PagedKvTable table() const { return {indptr, indices, last}; }
};

}  // namespace

TEST_CASE("share_memory: never misses a byte that any two strided tensors share") {
  std::mt19937 random(1);
  const auto any = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
  std::vector<float> memory(4000);
  int shared = 0, apart = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto draw = [&] {
      Tensor t{.data = reinterpret_cast<std::byte*>(memory.data() + 2000) + any(-40, 40),
               .dtype = any(0, 1) == 0 ? DType::f32 : DType::f16, .rank = any(1, 3)};
      for (int d = 0; d < t.rank; ++d) t.shape[d] = any(0, 20) == 0 ? 0 : any(1, 4), t.strides[d] = any(-12, 12);
      return t;
    };
    const Tensor a = draw(), b = draw();
    const bool expected = meet(a, b);
    (expected ? shared : apart) += 1;
    if (expected) CHECK(share_memory(a, b));
    CHECK(share_memory(a, b) == share_memory(b, a));
  }
  CHECK((shared > 300 && apart > 300));
}

TEST_CASE("share_memory: slices of one tensor share memory exactly where they share an element") {
  std::mt19937 random(2);
  const auto any = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
  std::vector<float> memory(6 * 5 * 4 * 7);
  int apart = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto slice = [&] {
      Tensor t = contiguous(memory.data(), DType::f32, {6, 5, 4, 7});
      for (int d = 0; d < 4; ++d) {
        const int begin = any(0, static_cast<int>(t.shape[d]) - 1);
        t.shape[d] = any(1, static_cast<int>(t.shape[d]) - begin);
        t.data = t.data_as<float>() + begin * t.strides[d];
      }
      const int from = any(0, 3), to = any(0, 3);  // and transposed
      std::swap(t.shape[from], t.shape[to]), std::swap(t.strides[from], t.strides[to]);
      return t;
    };
    const Tensor a = slice(), b = slice();
    const bool expected = meet(a, b);
    apart += !expected;
    CHECK(share_memory(a, b) == expected);
  }
  CHECK(apart > 300);
}

TEST_CASE("what an operation writes must lie apart from what it reads, or be the input itself") {
  std::vector<float> m(600, 1.0f);
  const auto refused = [&](const std::string& argument, auto call) { check_refused(argument, {}, call); };
  const Tensor w = from(m, 500, {4}, {1});
  // The example of the fault: row 1 of the input is row 0 of the output.
  const Tensor x = from(m, 0, {2, 4}, {4, 1});
  refused("out", [&] { reference::rmsnorm(x, w, from(m, 4, {2, 4}, {4, 1})); });
  refused("out", [&] { reference::rmsnorm(x, w, from(m, 0, {2, 4}, {8, 1})); });  // the pointer alone is not enough
  refused("out", [&] { reference::rmsnorm(x, from(m, 20, {4}, {1}), from(m, 16, {2, 4}, {4, 1})); });
  refused("input", [&] { reference::fused_add_rmsnorm(x, from(m, 40, {2, 4}, {4, 1}), from(m, 4, {4}, {1})); });
  refused("residual", [&] { reference::fused_add_rmsnorm(x, from(m, 2, {2, 4}, {4, 1}), w); });
  reference::rmsnorm(x, w, x);
  reference::rmsnorm(x, w, from(m, 12, {2, 4}, {-4, 1}));  // rows in falling order
  reference::rmsnorm(from(m, 0, {8, 4}, {12, 1}), w, from(m, 4, {8, 4}, {12, 1}));             // columns of one matrix

  // q, k and v of a fused QKV tensor [3, 4 + 2 + 2, 4]: apart; k beginning in q's last head: not.
  const Tensor q = from(m, 0, {3, 4, 4}, {32, 4, 1}), k = from(m, 16, {3, 2, 4}, {32, 4, 1}),
               v = from(m, 24, {3, 2, 4}, {32, 4, 1}), late = from(m, 12, {3, 2, 4}, {32, 4, 1});
  const Ints positions{1, 2, 3};
  reference::apply_rope_pos_ids_inplace(q, k, positions);
  refused("k", [&] { reference::apply_rope_pos_ids_inplace(q, late, positions); });
  refused("k", [&] { reference::apply_rope_pos_ids_inplace(q, q, positions); });
  const Tensor cos_sin = from(m, 14, {4, 4}, {4, 1});
  refused("q", [&] { reference::apply_rope_with_cos_sin_cache_inplace(positions, q, k, cos_sin); });
  const auto* inside = reinterpret_cast<const std::int32_t*>(m.data() + 18);
  m[18] = m[19] = m[20] = 0;
  refused("k", [&] { reference::apply_rope_pos_ids_inplace(q, k, std::span(inside, 3)); });

  AppendCall a;
  const auto pool = [&](std::int64_t at) { return from(m, at, {3, 2, 2, 4}, {16, 8, 4, 1}); };
  const auto append = [&](const Tensor& key, const Tensor& value, const PagedKvCache& cache) {
    reference::append_paged_kv_cache(key, value, a.requests, a.positions, cache, a.indptr, a.indices, a.last);
  };
  const PagedKvCache cache = paged_kv_cache(pool(200), pool(300), KvLayout::NHD);
  append(k, v, cache);
  refused("paged_kv_cache.v", [&] { append(k, v, paged_kv_cache(pool(200), pool(200), KvLayout::NHD)); });
  refused("paged_kv_cache.v", [&] { append(k, v, paged_kv_cache(pool(200), pool(247), KvLayout::NHD)); });
  refused("paged_kv_cache.k", [&] { append(from(m, 190, {3, 2, 4}, {8, 4, 1}), v, cache); });
  refused("paged_kv_cache.v", [&] { append(k, from(m, 340, {3, 2, 4}, {8, 4, 1}), cache); });
  append(k, v, paged_kv_cache(from(m, 200, {3, 2, 2, 2, 4}, {32, 16, 8, 4, 1}), KvLayout::NHD));  // K and V in turn
  const auto fused = [&](const Tensor& q_, const Tensor& key, const PagedKvCache& to) {
    reference::rope_pos_ids_append_paged_kv_cache(q_, key, v, 4, false, 1, 1e4f, a.requests, a.positions, to, a.table());
  };
  fused(q, k, cache);
  refused("q", [&] { fused(q, late, cache); });
  refused("q", [&] { fused(from(m, 240, {3, 4, 4}, {16, 4, 1}), k, cache); });
  CHECK_THROWS_WITH_AS(fused(q, late, cache),
                       "q = memory of append_key: is written, so it must not share memory with append_key", InputError);
  std::vector<std::int32_t> numbers{0, 2, 3, 0};
  refused("batch_indices", [&] {
    reference::get_batch_indices_positions(std::span(numbers).first(2), Ints{2}, std::span(numbers).subspan(1, 2),
                                           std::span(a.last));
  });
  const std::span<std::int32_t> all(numbers);
  refused("seq_lens", [&] { reference::get_seq_lens(all.first(2), Ints{1}, 4, all.subspan(1, 1)); });
}

// Index arrays lie in no tensor, but a caller's arena may hold both: what is written must not be what is still to be read.
TEST_CASE("index arrays and masks must lie apart from what is written") {
  std::vector<float> m(600);
  const auto in = [&](std::int64_t at, std::size_t n) {
    return std::span(reinterpret_cast<const std::int32_t*>(m.data() + at), n);
  };
  const auto refused = [&](const std::string& argument, auto call) { check_refused(argument, {}, call); };
  const Tensor q = from(m, 400, {3, 1, 4}, {4, 4, 1}), key = from(m, 420, {3, 2, 4}, {8, 4, 1});
  refused("q", [&] { reference::apply_rope_pos_ids_inplace(q, from(m, 450, {3, 1, 4}, {4, 4, 1}), in(402, 3)); });

  AppendCall a;
  const auto pool = [&](std::int64_t at) { return from(m, at, {3, 2, 2, 4}, {16, 8, 4, 1}); };
  const PagedKvCache cache = paged_kv_cache(pool(0), pool(100), KvLayout::NHD);
  using Span = std::span<const std::int32_t>;
  const auto append = [&](Span requests, Span positions, Span indptr, Span indices, Span last) {
    reference::append_paged_kv_cache(key, key, requests, positions, cache, indptr, indices, last);
  };
  refused("paged_kv_cache.k", [&] { append(in(2, 3), a.positions, a.indptr, a.indices, a.last); });
  refused("paged_kv_cache.k", [&] { append(a.requests, in(47, 3), a.indptr, a.indices, a.last); });
  refused("paged_kv_cache.v", [&] { append(a.requests, a.positions, in(98, 3), a.indices, a.last); });
  refused("paged_kv_cache.v", [&] { append(a.requests, a.positions, a.indptr, in(110, 3), a.last); });
  refused("paged_kv_cache.v", [&] { append(a.requests, a.positions, a.indptr, a.indices, in(147, 2)); });
  refused("q", [&] {
    reference::rope_pos_ids_append_paged_kv_cache(from(m, 90, {3, 1, 4}, {8, 4, 1}), key, key, 4, false, 1, 1e4f, a.requests,
                                                  a.positions, cache, a.table());
  });

  const auto v = [&](std::int64_t at) { return from(m, at, {2, 3, 4}, {12, 4, 1}); };
  const auto s = [&](std::int64_t at) { return from(m, at, {2, 3}, {3, 1}); };
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(m.data());
  refused("s", [&] { reference::merge_state_in_place(v(0), s(50), v(100), s(150), std::span(bytes + 4 * 51, 2)); });
  const Tensor many = from(m, 0, {2, 2, 3, 4}, {24, 12, 4, 1}), many_s = from(m, 60, {2, 2, 3}, {6, 3, 1});
  refused("v_out", [&] { reference::merge_states(many, many_s, v(50), s(130)); });  // over s
  refused("s_out", [&] { reference::merge_states(many, many_s, v(100), s(20)); });  // in v
  const Tensor rows = from(m, 200, {4, 3, 4}, {12, 4, 1}), rows_s = from(m, 260, {4, 3}, {3, 1});
  const auto variable = [&](Span indptr) {
    reference::variable_length_merge_states(rows, rows_s, indptr, v(0), s(30));
  };
  refused("v_out", [&] { variable(in(5, 3)); });
  refused("s_out", [&] { variable(in(33, 3)); });
  refused("residual", [&] {
    reference::fused_add_rmsnorm(from(m, 0, {2, 4}, {4, 1}), from(m, 20, {2, 4}, {4, 1}), from(m, 26, {4}, {1}));
  });
}

TEST_CASE("merges: results may be a state's own tensors and no other part of what is read") {
  std::vector<float> m(400, 1.0f);
  const auto v = [&](std::int64_t at) { return from(m, at, {2, 3, 4}, {12, 4, 1}); };
  const auto s = [&](std::int64_t at) { return from(m, at, {2, 3}, {3, 1}); };
  const auto refused = [&](const std::string& argument, auto call) { check_refused(argument, {}, call); };
  reference::merge_state(v(0), s(30), v(40), s(70), v(0), s(30));
  reference::merge_state(v(0), s(30), v(40), s(70), v(40), s(30));
  reference::merge_state_in_place(v(0), s(30), v(0), s(30));
  refused("v_out", [&] { reference::merge_state(v(0), s(30), v(40), s(70), v(4), s(80)); });
  refused("v_out", [&] { reference::merge_state(v(0), s(30), v(100), s(70), v(90), s(80)); });
  refused("s_out", [&] { reference::merge_state(v(0), s(30), v(40), s(70), v(100), s(33)); });
  refused("s_out", [&] { reference::merge_state(v(0), s(30), v(40), s(70), v(100), s(20)); });   // in v_a
  refused("v_out", [&] { reference::merge_state(v(0), s(130), v(40), s(70), v(110), s(90)); });  // over s_a
  refused("s_out", [&] { reference::merge_state(v(0), s(30), v(40), s(70), v(100), s(110)); });
  refused("v", [&] { reference::merge_state_in_place(v(0), s(30), v(8), s(70)); });
  std::vector<std::uint8_t> bytes(24 * 4);
  const Tensor half = contiguous(bytes.data(), DType::f16, {2, 3, 4});
  refused("v", [&] { reference::merge_state_in_place(half, s(30), v(40), s(70), std::span(bytes).subspan(2, 2)); });
  const Tensor many = from(m, 0, {2, 2, 3, 4}, {24, 12, 4, 1}), many_s = from(m, 60, {2, 2, 3}, {6, 3, 1});
  reference::merge_states(many, many_s, v(100), s(130));
  refused("v_out", [&] { reference::merge_states(many, many_s, v(0), s(130)); });
  refused("s_out", [&] { reference::merge_states(many, many_s, v(100), s(66)); });
  const Tensor rows = from(m, 0, {4, 3, 4}, {12, 4, 1}), rows_s = from(m, 60, {4, 3}, {3, 1});
  refused("v_out", [&] { reference::variable_length_merge_states(rows, rows_s, Ints{0, 2, 4}, v(0), s(130)); });
}

TEST_CASE("operations on the CPU allocate nothing after a thread's first call") {
  for (const DType dtype : all_dtypes) {
    Padded q(dtype, {3, 4, 64}), k(dtype, {3, 2, 64}), value(dtype, {3, 2, 64}), x(dtype, {5, 300}), y(dtype, {5, 300});
    Padded w(dtype, {300}), k_pages(dtype, {3, 2, 2, 64}), v_pages(dtype, {3, 2, 2, 64});
    Padded v_a(dtype, {5, 2, 64}), v_b(dtype, {5, 2, 64}), many(dtype, {5, 3, 2, 64});
    Padded s_a(DType::f32, {5, 2}), s_b(DType::f32, {5, 2}), s_many(DType::f32, {5, 3, 2});
    std::vector<float> table = reference::make_cos_sin_cache(8, 32);
    const Tensor cos_sin = contiguous(table.data(), DType::f32, {8, 32});
    AppendCall a;
    const PagedKvCache cache = paged_kv_cache(k_pages.t(), v_pages.t(), KvLayout::NHD);
    Ints seq_lens(2), requests(4), positions(4);
    const Ints append_indptr{0, 1, 3}, indptr{0, 2, 2, 2, 4, 5};
    const std::vector<std::int64_t> slots{5, -1, 0};
    const auto all = [&] {
      reference::rmsnorm(x.t(), w.t(), y.t());
      reference::fused_add_rmsnorm(x.t(), y.t(), w.t());
      reference::layernorm(x.t(), w.t(), w.t(), y.t());
      reference::apply_rope_pos_ids_inplace(q.t(), k.t(), a.positions);
      reference::apply_rope_with_cos_sin_cache_inplace(a.positions, q.t(), k.t(), cos_sin);
      reference::get_seq_lens(a.indptr, a.last, 2, seq_lens);
      reference::get_batch_indices_positions(append_indptr, seq_lens, requests, positions);
      reference::append_paged_kv_cache(k.t(), value.t(), a.requests, a.positions, cache, a.indptr, a.indices, a.last);
      reference::append_paged_kv_cache(k.t(), value.t(), slots, cache);
      reference::rope_pos_ids_append_paged_kv_cache(q.t(), k.t(), value.t(), 32, false, 1, 1e4f, a.positions, slots, cache);
      reference::rope_pos_ids_append_paged_kv_cache(q.t(), k.t(), value.t(), 32, false, 1, 1e4f, a.requests, a.positions,
                                                    cache, a.table());
      reference::rope_with_cos_sin_cache_append_paged_kv_cache(q.t(), k.t(), value.t(), cos_sin, true, a.requests,
                                                               a.positions, cache, a.table());
      reference::merge_state(v_a.t(), s_a.t(), v_b.t(), s_b.t(), v_a.t(), s_a.t());
      reference::merge_state_in_place(v_a.t(), s_a.t(), v_b.t(), s_b.t());
      reference::merge_states(many.t(), s_many.t(), v_a.t(), s_a.t());
      reference::variable_length_merge_states(v_b.t(), s_b.t(), indptr, v_a.t(), s_a.t());
    };
    all();
    const std::size_t before = allocations;
    all();
    CHECK(allocations == before);
  }
}
