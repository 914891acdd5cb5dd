// Appending to a paged cache: against a cache that is walked token by token, with every other byte watched; and element_io.
#include <bit>

#include "core/kv_cache.hpp"
#include "reference/append.hpp"
#include "reference/element_io.hpp"
#include "tests/ops_data.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace ops_test;
using reference::append_paged_kv_cache;
using Ints = std::vector<std::int32_t>;

namespace {

struct Batch {  // three requests over a pool of 8 pages of 3 tokens: 7 tokens, none, 4 tokens
  Ints indptr{0, 3, 3, 5}, indices{6, 1, 4, 0, 7}, last{1, 0, 1};
};

// Pages and entries of a request, found by walking over its tokens one by one.
struct Walked {
  int page, entry;
};
std::vector<Walked> walk(const Batch& batch, int request) {
  std::vector<Walked> slots;
  for (int p = batch.indptr[request]; p < batch.indptr[request + 1]; ++p) {
    const int tokens = p + 1 == batch.indptr[request + 1] ? batch.last[request] : 3;
    for (int entry = 0; entry < tokens; ++entry) slots.push_back({batch.indices[p], entry});
  }
  return slots;
}

constexpr int pages = 8, page_size = 3, heads = 2, dim_k = 5, dim_v = 4;

// K and V pools of their own, of one layout, with padding.
struct Pools {
  Padded k, v;
  KvLayout layout;

  static std::vector<std::int64_t> shape(KvLayout layout, int dim) {
    return layout == KvLayout::NHD ? std::vector<std::int64_t>{pages, page_size, heads, dim}
                                   : std::vector<std::int64_t>{pages, heads, page_size, dim};
  }
  Pools(DType dtype, KvLayout l) : k(dtype, shape(l, dim_k), 3), v(dtype, shape(l, dim_v), 5), layout(l) {}
  PagedKvCache cache() const { return paged_kv_cache(k.t(), v.t(), layout); }

  std::int64_t index(Walked slot, int head, int dim) const {
    return layout == KvLayout::NHD ? ((slot.page * page_size + slot.entry) * heads + head) * dim
                                   : ((slot.page * heads + head) * page_size + slot.entry) * dim;
  }
};

struct Rows {  // new keys and values, of which the one named by `unread` stays NaN
  Padded key, value;
  Rows(DType dtype, int nnz, int unread = -1) : key(dtype, {nnz, heads, dim_k}), value(dtype, {nnz, heads, dim_v}) {
    std::mt19937 random(2);
    std::uniform_real_distribution<double> any(-2, 2);
    for (int i = 0; i < key.size(); ++i) {
      if (i / (heads * dim_k) != unread) key.set(i, any(random));
    }
    for (int i = 0; i < value.size(); ++i) {
      if (i / (heads * dim_v) != unread) value.set(i, any(random));
    }
  }
};

}  // namespace

TEST_CASE("element_io: rows of every 16-bit pattern and of hard floats convert as core's types do") {
  std::vector<Half> halves(65536 + 5);  // 5: a tail that is no whole vector
  std::vector<BFloat16> bfloats(halves.size());
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i].bits = bfloats[i].bits = static_cast<std::uint16_t>(i);
  std::vector<float> from_half(halves.size()), from_bfloat(halves.size());
  reference::load_row(halves.data(), halves.size(), from_half.data());
  reference::load_row(bfloats.data(), bfloats.size(), from_bfloat.data());
  const auto same = [](float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); };
  int wrong = 0;
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const auto h = static_cast<float>(halves[i]), b = static_cast<float>(bfloats[i]);
    wrong += std::isnan(h) ? !std::isnan(from_half[i]) : !same(h, from_half[i]);
    wrong += !same(b, from_bfloat[i]);
  }
  CHECK(wrong == 0);

  std::mt19937 random(1);
  std::vector<float> floats(4099);
  for (float& f : floats) {  // 2^-30 .. 2^20: half's zero, subnormals, normals, infinity
    const auto sign_and_fraction = static_cast<std::uint32_t>(random()) & 0x807fffffu;
    f = std::bit_cast<float>(sign_and_fraction | static_cast<std::uint32_t>(97 + random() % 51) << 23);
  }
  for (int i = 0; i < 2000; ++i) floats[i] = static_cast<float>(random() % 4096) * 0x1p-25f;  // ties among subnormals
  reference::store_row(floats.data(), floats.size(), halves.data());
  reference::store_row(floats.data(), floats.size(), bfloats.data());
  for (std::size_t i = 0; i < floats.size(); ++i) {
    wrong += !std::isnan(floats[i]) && halves[i].bits != Half(floats[i]).bits;
    wrong += bfloats[i].bits != BFloat16(floats[i]).bits;
  }
  CHECK(wrong == 0);
  CHECK_THROWS_AS(reference::visit_dtype(DType::u8, [](auto) {}), InputError);
}

TEST_CASE("append: each row lands in its slot and no other byte of the pools changes") {
  const Batch batch;
  const Ints requests{0, 0, -1, 2, 0, 2}, positions{5, 6, 99, 3, 0, 1};  // row 2 is padding
  for (DType dtype : all_dtypes) {
    for (KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
      CAPTURE(name_of(dtype));
      CAPTURE(name_of(layout));
      const Rows rows(dtype, 6, 2);
      Pools pools(dtype, layout), expected(dtype, layout);
      append_paged_kv_cache(rows.key.t(), rows.value.t(), requests, positions, pools.cache(), batch.indptr, batch.indices,
                            batch.last);
      for (int i = 0; i < 6; ++i) {
        if (requests[i] < 0) continue;
        const Walked slot = walk(batch, requests[i])[positions[i]];
        for (int h = 0; h < heads; ++h) {
          const std::int64_t k = expected.index(slot, h, dim_k), v = expected.index(slot, h, dim_v);
          for (int x = 0; x < dim_k; ++x) expected.k.set(k + x, rows.key.get((i * heads + h) * dim_k + x));
          for (int x = 0; x < dim_v; ++x) expected.v.set(v + x, rows.value.get((i * heads + h) * dim_v + x));
        }
      }
      CHECK(pools.k.bytes() == expected.k.bytes());  // 0xff wherever nothing was appended
      CHECK(pools.v.bytes() == expected.v.bytes());
    }
  }
}

TEST_CASE("append: one 5-D tensor holds both and page size 1 is a ragged cache") {
  Padded kv(DType::f16, {4, 2, 1, heads, 3});  // NHD
  Padded key(DType::f16, {3, heads, 3}), value(DType::f16, {3, heads, 3});
  std::mt19937 random(4);
  key.fill(random, -1, 1);
  value.fill(random, -1, 1);
  append_paged_kv_cache(key.t(), value.t(), Ints{1, 0, 1}, Ints{1, 0, 0}, paged_kv_cache(kv.t(), KvLayout::NHD),
                        Ints{0, 1, 3}, Ints{2, 0, 3}, Ints{1, 1});
  const int page_of_row[] = {3, 2, 0};
  for (int i = 0; i < 3; ++i) {
    for (int x = 0; x < heads * 3; ++x) {
      CHECK(kv.get((page_of_row[i] * 2 + 0) * heads * 3 + x) == key.get(i * heads * 3 + x));
      CHECK(kv.get((page_of_row[i] * 2 + 1) * heads * 3 + x) == value.get(i * heads * 3 + x));
    }
  }
  for (int x = 0; x < 2 * heads * 3; ++x) CHECK(std::isnan(kv.get(1 * 2 * heads * 3 + x)));  // page 1 is nobody's
  CHECK(kv.padding_untouched());
}

TEST_CASE("get_batch_indices_positions: appended rows are the last tokens of their request") {
  const Ints indptr{0, 2, 2, 5, 6}, lens{7, 4, 3, 1};
  const auto rows = reference::get_batch_indices_positions(indptr, lens, 8);
  CHECK(rows.batch_indices == Ints{0, 0, 2, 2, 2, 3, -1, -1});
  CHECK(rows.positions == Ints{5, 6, 0, 1, 2, 0, 0, 0});
  Ints batch_indices(8, 99), positions(8, 99);  // what memory of the caller's held before
  reference::get_batch_indices_positions(indptr, lens, batch_indices, positions);
  CHECK(batch_indices == rows.batch_indices);
  CHECK(positions == rows.positions);
  const auto none = reference::get_batch_indices_positions(Ints{0}, {}, 2);
  CHECK(none.batch_indices == Ints{-1, -1});

  check_refused("batch_indices size", {}, [&] { reference::get_batch_indices_positions(indptr, lens, 5); });
  check_refused("nnz", {}, [&] { reference::get_batch_indices_positions(indptr, lens, -1); });
  check_refused("seq_lens", {}, [&] { reference::get_batch_indices_positions(indptr, Ints{7, 4, 2, 1}, 8); }, 2);
  check_refused("append_indptr", {}, [&] { reference::get_batch_indices_positions(indptr, Ints{7, 4, 3}, 8); });
  check_refused("append_indptr", {}, [&] { reference::get_batch_indices_positions(Ints{1, 2}, Ints{7}, 8); });
  check_refused("append_indptr[2]", {}, [&] { reference::get_batch_indices_positions(Ints{0, 2, 1}, Ints{7, 7}, 8); }, 1);
}

TEST_CASE("get_seq_lens: full pages and the last one and nothing for a request without pages") {
  CHECK(reference::get_seq_lens(Ints{0, 3, 3, 5, 6}, Ints{1, 2, 16, 7}, 16) == Ints{33, 0, 32, 7});
  CHECK(reference::get_seq_lens(Ints{0, 4}, Ints{1}, 1) == Ints{4});
  CHECK(reference::get_seq_lens(Ints{0}, {}, 16).empty());

  check_refused("page_size", {}, [] { reference::get_seq_lens(Ints{0, 1}, Ints{1}, 0); });
  check_refused("kv_last_page_len", {}, [] { reference::get_seq_lens(Ints{0, 1, 2}, Ints{1, 0}, 4); }, 1);
  check_refused("kv_last_page_len", {}, [] { reference::get_seq_lens(Ints{0, 1}, Ints{5}, 4); }, 0);
  check_refused("kv_indptr", {}, [] { reference::get_seq_lens(Ints{0, 1}, Ints{1, 1}, 4); });
  check_refused("kv_indptr[1]", {}, [] { reference::get_seq_lens(Ints{0, -1}, Ints{1}, 4); }, 0);
  check_refused("kv_indptr", {}, [] { reference::get_seq_lens(Ints{0, 3}, Ints{1}, 1 << 30); }, 0);
}

TEST_CASE("get_seq_lens and get_batch_indices_positions feed append: a batch grows by ragged rows") {
  const Batch batch;
  const Ints lens = reference::get_seq_lens(batch.indptr, batch.last, page_size);
  const auto rows = reference::get_batch_indices_positions(Ints{0, 3, 3, 4}, lens, 5);
  const Rows data(DType::bf16, 5, 4);
  Pools pools(DType::bf16, KvLayout::HND);
  append_paged_kv_cache(data.key.t(), data.value.t(), rows.batch_indices, rows.positions, pools.cache(), batch.indptr,
                        batch.indices, batch.last);
  const int request[] = {0, 0, 0, 2}, token[] = {4, 5, 6, 3};
  for (int i = 0; i < 4; ++i) {
    const Walked slot = walk(batch, request[i])[token[i]];
    CHECK(pools.k.get(pools.index(slot, 1, dim_k)) == data.key.get((i * heads + 1) * dim_k));
    CHECK(pools.v.get(pools.index(slot, 1, dim_v)) == data.value.get((i * heads + 1) * dim_v));
  }
}

TEST_CASE("append: bad arguments are refused by name and request and nothing is written") {
  const Rows rows(DType::f16, 3), floats(DType::f32, 3), two(DType::f16, 2);
  Pools pools(DType::f16, KvLayout::NHD);
  struct Call {
    Batch batch;
    Ints requests{0, 2, 2}, positions{6, 1, 3};
    PagedKvCache cache;
    Tensor key, value;
  };
  const auto refused = [&](const std::string& argument, auto change, int request = -1) {
    Call c{.batch = {}, .cache = pools.cache(), .key = rows.key.t(), .value = rows.value.t()};
    change(c);
    check_refused(argument, {&pools.k, &pools.v}, [&] {
      append_paged_kv_cache(c.key, c.value, c.requests, c.positions, c.cache, c.batch.indptr, c.batch.indices, c.batch.last);
    }, request);
  };
  refused("append_key", [&](Call& c) { c.key = floats.key.t(); });
  refused("append_value", [&](Call& c) { c.value = floats.value.t(); });
  refused("append_value", [&](Call& c) { c.key = two.key.t(); });  // of another number of rows
  refused("batch_indices", [&](Call& c) { c.requests.pop_back(); });
  refused("append_value", [&](Call& c) { c.value = rows.key.t(); });  // head_dim
  refused("positions", [&](Call& c) { c.positions.pop_back(); });
  refused("batch_indices[1]", [&](Call& c) { c.requests[1] = 3; });
  refused("batch_indices[1]", [&](Call& c) { c.requests[1] = -2; });
  refused("positions[0]", [&](Call& c) { c.positions[0] = 7; }, 0);  // the table ends at 7 tokens
  refused("positions[0]", [&](Call& c) { c.positions[0] = -1; }, 0);
  refused("positions[2]", [&](Call& c) { c.requests[2] = 1; }, 1);       // a request without pages
  refused("positions[2]", [&](Call& c) { c.positions[2] = 1; }, 2);      // twice the same slot
  refused("positions[0]", [&](Call& c) { c.batch.indices[3] = 4; c.positions[1] = 0; }, 0);  // twice, by two requests
  refused("positions[0]", [&](Call& c) { c.batch.indices[3] = 4; }, 0);  // one page, two writing requests
  refused("paged_kv_indices[1]", [&](Call& c) { c.batch.indices[1] = pages; }, 0);
  refused("paged_kv_indices[4]", [&](Call& c) { c.batch.indices[4] = -1; }, 2);
  refused("paged_kv_indptr[2]", [&](Call& c) { c.batch.indptr[2] = 2; }, 1);
  refused("paged_kv_last_page_len[2]", [&](Call& c) { c.batch.last[2] = 4; }, 2);
  refused("paged_kv_cache.page_size", [&](Call& c) { c.cache.page_size = 0; });
  refused("paged_kv_cache.num_kv_heads", [&](Call& c) { c.cache.num_kv_heads = 0; });
  refused("paged_kv_cache.k", [&](Call& c) { c.cache.k = nullptr; });
  refused("paged_kv_cache.v", [&](Call& c) { c.cache.v_strides.head = 0; });
}

TEST_CASE("append: a page that a second request holds too is read only and the message names both") {
  const Rows rows(DType::f16, 2);
  Pools pools(DType::f16, KvLayout::NHD);
  Batch shared;
  const auto message = [&](const Ints& requests, const Ints& positions) {
    return test::refusal([&] {
      append_paged_kv_cache(rows.key.t(), rows.value.t(), requests, positions, pools.cache(), shared.indptr, shared.indices,
                            shared.last);
    });
  };
  shared.indices[3] = 6;  // request 2 begins with the first page of request 0
  CHECK(message({2, 0}, {3, 1}) ==
        "positions[1] = 1 (request 0): must not write to page 6, which request 2 holds too: a shared page is read only");
  CHECK(message({2, -1}, {0, 0}) ==
        "positions[0] = 0 (request 2): must not write to page 6, which request 0 holds too: a shared page is read only");
  const std::vector<unsigned char> untouched(pools.k.bytes().size(), 0xff);
  CHECK(pools.k.bytes() == untouched);
  CHECK(message({2, 0}, {3, 6}) == "accepted");  // the pages behind the shared one are their own
  CHECK(pools.k.get(pools.index({4, 0}, 0, dim_k)) == rows.key.get(heads * dim_k));
  shared.indices = {6, 1, 6, 0, 7};  // one request, one page in two places
  CHECK(message({0, -1}, {6, 0}) ==
        "positions[0] = 6 (request 0): must not write to page 6, which request 0 holds in another place too: "
        "a shared page is read only");
}

TEST_CASE("append: the bits of every NaN are kept") {
  for (const DType dtype : all_dtypes) {
    const std::size_t row_bytes = heads * dim_k * size_of(dtype);
    Pools pools(dtype, KvLayout::NHD);
    std::vector<unsigned char> key(2 * row_bytes), value(2 * heads * dim_v * size_of(dtype));
    std::mt19937 random(5);
    for (auto* bytes : {&key, &value}) {
      for (std::size_t i = 0; i < bytes->size(); ++i) {  // NaNs, quiet and signalling, of any payload and sign
        const bool top = (i + 1) % size_of(dtype) == 0;
        (*bytes)[i] = static_cast<unsigned char>(top ? random() % 2 << 7 | 0x7f : random() % 0x7f + 0x81);
      }
    }
    append_paged_kv_cache(contiguous(key.data(), dtype, {2, heads, dim_k}),
                          contiguous(value.data(), dtype, {2, heads, dim_v}), Ints{0, 2}, Ints{4, 0}, pools.cache(),
                          Batch{}.indptr, Batch{}.indices, Batch{}.last);
    for (const auto& [row, slot] : {std::pair(0, Walked{1, 1}), std::pair(1, Walked{0, 0})}) {
      for (int h = 0; h < heads; ++h) {
        const KvStrides s = pools.cache().k_strides;
        const auto* stored = static_cast<const unsigned char*>(pools.cache().k) +
                             s.offset({slot.page, slot.entry}, h) * static_cast<std::int64_t>(size_of(dtype));
        CHECK(std::memcmp(stored, key.data() + row * row_bytes + h * row_bytes / heads, row_bytes / heads) == 0);
      }
    }
  }
}
