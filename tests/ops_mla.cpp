// Appending latent rows: against a cache that is walked token by token, with every other byte watched; and each refusal.
#include "core/mla_append.hpp"
#include "reference/mla/append.hpp"
#include "tests/append_batch.hpp"

using namespace flashladder;
using namespace ops_test;
using reference::append_paged_mla_kv_cache;

namespace {

constexpr int latent_page = 3, ckv = 8, kpe = 4;

Tensor latent_features(Tensor t, std::int64_t first, std::int64_t count) {
  t.data = static_cast<std::byte*>(t.data) + first * static_cast<std::int64_t>(size_of(t.dtype));
  t.shape[static_cast<std::size_t>(t.rank) - 1] = count;
  return t;
}

// A pool of latent rows, all NaN: of one tensor, or of two.
struct LatentPool {
  Padded both, ckv_alone, kpe_alone;
  bool one_tensor;

  LatentPool(DType dtype, int pages, bool one)
      : both(dtype, {pages, latent_page, ckv + kpe}), ckv_alone(dtype, {pages, latent_page, ckv}),
        kpe_alone(dtype, {pages, latent_page, kpe}, 5), one_tensor(one) {}
  PagedMlaCache cache() const {
    return one_tensor ? paged_mla_cache(both.t(), ckv) : paged_mla_cache(ckv_alone.t(), kpe_alone.t());
  }
  void set(std::int64_t slot, int feature, double x) {
    if (one_tensor) both.set(slot * (ckv + kpe) + feature, x);
    else if (feature < ckv) ckv_alone.set(slot * ckv + feature, x);
    else kpe_alone.set(slot * kpe + feature - ckv, x);
  }
  bool equals(const LatentPool& other) const {
    return both.bytes() == other.both.bytes() && ckv_alone.bytes() == other.ckv_alone.bytes() &&
           kpe_alone.bytes() == other.kpe_alone.bytes();
  }
};

struct RefusedAppend {
  AppendBatch batch;
  Padded rows, pe;
  LatentPool pool;

  explicit RefusedAppend(std::mt19937& random)
      : batch({.page_size = latent_page}, random), rows(DType::f16, {batch.nnz(), ckv}), pe(DType::f16, {batch.nnz(), kpe}),
        pool(DType::f16, batch.pages, true) {}
  void check(const char* argument, const ConstTensor& append_ckv, const ConstTensor& append_kpe, const PagedMlaCache& cache,
             const Ints& requests, const Ints& positions, int request = -1) {
    check_refused(argument, {&pool.both}, [&] {
      append_paged_mla_kv_cache(append_ckv, append_kpe, requests, positions, cache, batch.indptr, batch.indices, batch.last);
    }, request);
  }
};

}  // namespace

TEST_CASE("append of latent rows: each lands in its slot and no other byte of the pools changes") {
  std::mt19937 random(5);
  for (const DType dtype : all_dtypes) {
    for (const bool one_tensor : {false, true}) {
      CAPTURE(name_of(dtype));
      CAPTURE(one_tensor);
      const AppendBatch batch({.page_size = latent_page, .longest = 20}, random);
      Padded rows(dtype, {batch.nnz(), ckv}), pe(dtype, {batch.nnz(), kpe}, 7);
      rows.fill(random, -2, 2);
      pe.fill(random, -2, 2);
      LatentPool pool(dtype, batch.pages, one_tensor), expected(dtype, batch.pages, one_tensor);
      append_paged_mla_kv_cache(rows.t(), pe.t(), batch.requests, batch.positions, pool.cache(), batch.indptr, batch.indices,
                                batch.last);
      const std::vector<std::int64_t> slots = batch.slots(latent_page);
      for (int i = 0; i < batch.nnz(); ++i) {
        if (slots[i] < 0) continue;
        for (int x = 0; x < ckv; ++x) expected.set(slots[i], x, rows.get(i * ckv + x));
        for (int x = 0; x < kpe; ++x) expected.set(slots[i], ckv + x, pe.get(i * kpe + x));
      }
      CHECK(pool.equals(expected));
    }
  }
}

TEST_CASE("append of wide latent rows to fp8: each number over its part's scale, rounded once") {
  std::mt19937 random(7);
  const MlaScales scales{.k = 0.013f, .kpe = 1.7f, .v = 0.013f};
  for (const DType rows_dtype : all_dtypes) {
    for (const DType cache : {DType::f8_e4m3, DType::f8_e5m2}) {
      for (const bool one_tensor : {false, true}) {
        CAPTURE(name_of(rows_dtype));
        CAPTURE(name_of(cache));
        const AppendBatch batch({.page_size = latent_page, .longest = 20}, random);
        Padded rows(rows_dtype, {batch.nnz(), ckv}), pe(rows_dtype, {batch.nnz(), kpe}, 7);
        rows.fill(random, -9, 9);  // over 0.013 some saturate
        pe.fill(random, -9, 9);
        LatentPool pool(cache, batch.pages, one_tensor), expected(cache, batch.pages, one_tensor);
        append_paged_mla_kv_cache(rows.t(), pe.t(), batch.requests, batch.positions, pool.cache(), batch.indptr,
                                  batch.indices, batch.last, scales);
        const auto quantised = [&](double x, float scale) -> double {
          const float y = static_cast<float>(x) / scale;
          return cache == DType::f8_e4m3 ? static_cast<float>(Float8E4M3(y)) : static_cast<float>(Float8E5M2(y));
        };
        const std::vector<std::int64_t> slots = batch.slots(latent_page);
        for (int i = 0; i < batch.nnz(); ++i) {
          if (slots[i] < 0) continue;
          for (int x = 0; x < ckv; ++x) expected.set(slots[i], x, quantised(rows.get(i * ckv + x), scales.k));
          for (int x = 0; x < kpe; ++x) expected.set(slots[i], ckv + x, quantised(pe.get(i * kpe + x), scales.kpe));
        }
        CHECK(pool.equals(expected));
      }
    }
  }
}

TEST_CASE("append of latent rows: scales are those of rows that are quantised, and of no others") {
  std::mt19937 random(8);
  const AppendBatch batch({.page_size = latent_page}, random);
  const Padded wide(DType::f16, {batch.nnz(), ckv}), pe(DType::f16, {batch.nnz(), kpe}), other(DType::f32, {batch.nnz(), kpe});
  LatentPool narrow(DType::f8_e4m3, batch.pages, true), same(DType::f16, batch.pages, true);
  const auto refused = [&](const char* argument, LatentPool& pool, const Padded& kpe_rows, const MlaScales& scales) {
    check_refused(argument, {&pool.both}, [&] {
      append_paged_mla_kv_cache(wide.t(), kpe_rows.t(), batch.requests, batch.positions, pool.cache(), batch.indptr,
                                batch.indices, batch.last, scales);
    });
  };
  refused("ckv_scale", narrow, pe, {.k = 0});
  refused("kpe_scale", narrow, pe, {.kpe = -1});
  refused("append_kpe", narrow, other, {});
  refused("ckv_scale", same, pe, {.k = 2});
  refused("kpe_scale", same, pe, {.kpe = 2});
}

TEST_CASE("append of latent rows: each rule is refused by its name, and nothing is written") {
  std::mt19937 random(6);
  RefusedAppend r(random);
  const PagedMlaCache cache = r.pool.cache();
  const Ints &requests = r.batch.requests, &positions = r.batch.positions;
  const auto check = [&](const char* argument, const ConstTensor& rows, const ConstTensor& pe, const PagedMlaCache& c) {
    r.check(argument, rows, pe, c, requests, positions);
  };
  check("append_ckv", latent_features(r.rows.t(), 0, ckv - 1), r.pe.t(), cache);
  check("append_kpe", r.rows.t(), latent_features(r.pe.t(), 0, 2), cache);
  Tensor fewer = r.pe.t(), bf16 = r.rows.t();
  fewer.shape[0] -= 1;
  bf16.dtype = DType::bf16;
  check("append_kpe", r.rows.t(), fewer, cache);
  check("append_ckv", bf16, r.pe.t(), cache);
  check("append_ckv", {}, r.pe.t(), cache);
  PagedMlaCache overlap = cache;
  overlap.kpe = overlap.ckv;
  check("paged_mla_cache.kpe", r.rows.t(), r.pe.t(), overlap);
  PagedMlaCache narrow = cache;
  narrow.ckv_strides.entry = ckv - 1;
  check("paged_mla_cache.ckv", r.rows.t(), r.pe.t(), narrow);
  Tensor inside = latent_features(r.pool.both.t(), 0, ckv);  // rows that lie in the pool
  inside.rank = 2;
  inside.shape = {r.batch.nnz(), ckv};
  inside.strides = {r.pool.both.t().strides[1], 1};
  check("paged_mla_cache.ckv", inside, r.pe.t(), cache);
  using Indices = std::span<const std::int32_t>;
  for (int in_pool = 0; in_pool < 5; ++in_pool) {  // an array of indices that lies where rows are written
    Indices arrays[] = {requests, positions, r.batch.indptr, r.batch.indices, r.batch.last};
    arrays[in_pool] = {static_cast<const std::int32_t*>(r.pool.both.t().data), arrays[in_pool].size()};
    const auto& [of_rows, at, indptr, indices, last] = arrays;
    check_refused("paged_mla_cache.ckv", {&r.pool.both}, [&] {
      append_paged_mla_kv_cache(r.rows.t(), r.pe.t(), of_rows, at, cache, indptr, indices, last);
    });
  }
  r.check("batch_indices", r.rows.t(), r.pe.t(), cache, Ints{0}, positions);
  r.check("positions", r.rows.t(), r.pe.t(), cache, requests, Ints{0});
  Ints wrong = requests;
  wrong[0] = 99;
  r.check("batch_indices[0]", r.rows.t(), r.pe.t(), cache, wrong, positions);
}
