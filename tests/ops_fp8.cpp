// What is quantised to fp8: rows that are appended, with RoPE and without, and norms. Each is compared with the same in f32
// followed by one division and one rounding.
#include <cmath>
#include <limits>
#include <vector>

#include "reference/append.hpp"
#include "reference/layernorm.hpp"
#include "reference/norm.hpp"
#include "reference/rope_append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;

namespace fp8 {
namespace {

constexpr DType fp8_dtypes[] = {DType::f8_e4m3, DType::f8_e5m2};
constexpr int pages = 4, page_size = 3, heads = 2, dim_k = 8, dim_v = 6, nnz = 5;

double quantised(DType dtype, double x, float scale) {
  const float y = static_cast<float>(x) / scale;
  return dtype == DType::f8_e4m3 ? static_cast<float>(Float8E4M3(y)) : static_cast<float>(Float8E5M2(y));
}

std::vector<std::int64_t> pool_shape(KvLayout layout, int dim) {
  if (layout == KvLayout::NHD) return {pages, page_size, heads, dim};
  return {pages, heads, page_size, dim};
}

struct Pools {
  Padded k, v;
  KvLayout layout;
  Pools(DType dtype, KvLayout l) : k(dtype, pool_shape(l, dim_k), 3), v(dtype, pool_shape(l, dim_v), 5), layout(l) {}
  PagedKvCache cache() const { return paged_kv_cache(k.t(), v.t(), layout); }
  std::int64_t index(std::int64_t slot, int head, int dim) const {
    const std::int64_t page = slot / page_size, entry = slot % page_size;
    return layout == KvLayout::NHD ? ((page * page_size + entry) * heads + head) * dim
                                   : ((page * heads + head) * page_size + entry) * dim;
  }
};

// Five rows, of which the third goes nowhere and stays NaN.
const std::vector<std::int64_t> slots{7, 2, -1, 11, 0};
const std::vector<std::int32_t> positions{3, 0, -5, 1000, 17};
struct Rows {
  Padded q, key, value;
  explicit Rows(DType dtype) : q(dtype, {nnz, 4, dim_k}), key(dtype, {nnz, heads, dim_k}), value(dtype, {nnz, heads, dim_v}) {
    std::mt19937 random(5);
    q.fill(random, -2, 2);
    std::uniform_real_distribution<double> any(-9, 9);
    for (int i = 0; i < key.size(); ++i) {
      if (i / (heads * dim_k) != 2) key.set(i, any(random));
    }
    for (int i = 0; i < value.size(); ++i) {
      if (i / (heads * dim_v) != 2) value.set(i, any(random));
    }
  }
};

const std::vector<float> k_per_head{0.03f, 0.01f}, v_per_head{0.5f, 0.02f};
const KvScales no_scales{}, numbers{.k = 0.02f, .v = 0.017f}, per_head{.k_per_head = k_per_head, .v_per_head = v_per_head};

// key [nnz, heads, dim_k] in f32, as it is before it is quantised.
void check_pools(const Pools& pools, const Padded& key, const Padded& value, const KvScales& scales) {
  const DType dtype = pools.k.t().dtype;
  for (int i = 0; i < nnz; ++i) {
    if (slots[static_cast<std::size_t>(i)] < 0) continue;
    for (int h = 0; h < heads; ++h) {
      const std::int64_t k = pools.index(slots[static_cast<std::size_t>(i)], h, dim_k);
      const std::int64_t v = pools.index(slots[static_cast<std::size_t>(i)], h, dim_v);
      for (int d = 0; d < dim_k; ++d) {
        CHECK(pools.k.get(k + d) == quantised(dtype, key.get((i * heads + h) * dim_k + d), scales.k_of(h)));
      }
      for (int d = 0; d < dim_v; ++d) {
        CHECK(pools.v.get(v + d) == quantised(dtype, value.get((i * heads + h) * dim_v + d), scales.v_of(h)));
      }
    }
  }
  int written = 0;
  for (std::int64_t i = 0; i < pools.k.size(); ++i) written += !std::isnan(pools.k.get(i));
  CHECK(written == 4 * heads * dim_k);
  CHECK(pools.k.padding_untouched());
  CHECK(pools.v.padding_untouched());
}

}  // namespace

TEST_CASE("append to fp8: a row over its scale, rounded once") {
  for (const DType dtype : fp8_dtypes) {
    for (const DType rows_dtype : all_dtypes) {
      for (const KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
        for (const KvScales& scales : {no_scales, numbers, per_head}) {
          const Rows rows(rows_dtype);
          Pools by_slots(dtype, layout), by_table(dtype, layout);
          reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), slots, by_slots.cache(), scales);
          check_pools(by_slots, rows.key, rows.value, scales);
          // The same slots as four requests of a page each.
          const std::vector<std::int32_t> indptr{0, 1, 2, 3, 4}, indices{2, 0, 1, 3}, last{3, 3, 3, 3};
          const std::vector<std::int32_t> requests{0, 1, -1, 3, 1}, at{1, 2, 0, 2, 0};
          reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), requests, at, by_table.cache(), indptr, indices, last,
                                           scales);
          CHECK(by_table.k.bytes() == by_slots.k.bytes());
          CHECK(by_table.v.bytes() == by_slots.v.bytes());
        }
      }
    }
  }
}

TEST_CASE("append to fp8: rows of fp8 are copied bit by bit") {
  for (const DType dtype : fp8_dtypes) {
    const Rows rows(dtype);
    Pools pools(dtype, KvLayout::NHD);
    reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), slots, pools.cache());
    check_pools(pools, rows.key, rows.value, no_scales);
    check_refused("k_scale", {&pools.k, &pools.v}, [&] {
      reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), slots, pools.cache(), numbers);
    });
  }
}

TEST_CASE("append to fp8: what saturates and what is NaN") {
  Rows rows(DType::f32);
  rows.key.set(0, 1e30), rows.key.set(1, -std::numeric_limits<double>::infinity()), rows.key.set(2, std::nan(""));
  rows.key.set(3, 448.0 * 0.02), rows.key.set(4, -500.0);
  Pools pools(DType::f8_e4m3, KvLayout::NHD);
  reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), slots, pools.cache(), numbers);
  const std::int64_t k = pools.index(slots[0], 0, dim_k);
  CHECK(pools.k.get(k) == 448);
  CHECK(pools.k.get(k + 1) == -448);
  CHECK(std::isnan(pools.k.get(k + 2)));
  CHECK(pools.k.get(k + 3) == 448);
  CHECK(pools.k.get(k + 4) == -448);
}

TEST_CASE("append to fp8: refusals") {
  const Rows f16(DType::f16), bf16(DType::bf16), e5m2(DType::f8_e5m2);
  Pools pools(DType::f8_e4m3, KvLayout::NHD), wide(DType::f16, KvLayout::NHD);
  const std::vector<float> three(3, 1.0f), bad{1.0f, -1.0f};
  const auto refused = [&](const char* argument, const Padded& key, const Padded& value, const Pools& to, KvScales scales) {
    check_refused(argument, {&to.k, &to.v}, [&] {
      reference::append_paged_kv_cache(key.t(), value.t(), slots, to.cache(), scales);
    });
  };
  refused("append_value", f16.key, bf16.value, pools, {});
  refused("append_key", e5m2.key, e5m2.value, pools, {});
  refused("append_key", e5m2.key, e5m2.value, wide, {});
  refused("append_key", bf16.key, bf16.value, wide, {});
  refused("k_scale", f16.key, f16.value, wide, numbers);
  refused("k_scale", f16.key, f16.value, pools, {.k = 0});
  refused("v_scale", f16.key, f16.value, pools, {.v = INFINITY});
  refused("k_scale_per_head", f16.key, f16.value, pools, {.k_per_head = three});
  refused("v_scale_per_head[1]", f16.key, f16.value, pools, {.v_per_head = bad});
  refused("v_scale", f16.key, f16.value, pools, {.v = 2, .v_per_head = v_per_head});
  const std::span<const float> inside(reinterpret_cast<const float*>(pools.k.bytes().data()), heads);
  refused("paged_kv_cache.k", f16.key, f16.value, pools, {.k_per_head = inside});
}

TEST_CASE("rope and append to fp8: rotated in float and rounded once") {
  for (const DType dtype : fp8_dtypes) {
    for (const DType rows_dtype : all_dtypes) {
      for (const std::int32_t rotary_dim : {0, 4}) {
        for (const bool interleave : {false, true}) {
          Rows rows(rows_dtype);
          Rows wide(DType::f32), rotated_q(rows_dtype);  // the same numbers, k in f32
          for (int i = 0; i < rows.key.size(); ++i) wide.key.set(i, rows.key.get(i));
          for (int i = 0; i < rows.value.size(); ++i) wide.value.set(i, rows.value.get(i));
          std::vector<std::int32_t> legal = positions;
          legal[2] = 0;
          reference::apply_rope_pos_ids_inplace(wide.q.t(), wide.key.t(), legal, rotary_dim, interleave, 1, 10000);
          reference::apply_rope_pos_ids_inplace(rotated_q.q.t(), rotated_q.key.t(), legal, rotary_dim, interleave, 1, 10000);
          Pools pools(dtype, KvLayout::HND);
          reference::rope_pos_ids_append_paged_kv_cache(rows.q.t(), rows.key.t(), rows.value.t(), rotary_dim, interleave, 1,
                                                        10000, positions, slots, pools.cache(), {}, per_head);
          check_pools(pools, wide.key, wide.value, per_head);
          for (int i = 0; i < rows.q.size(); ++i) {
            if (i / (4 * dim_k) != 2) CHECK(rows.q.get(i) == rotated_q.q.get(i));
          }
        }
      }
    }
  }
  const Rows rows(DType::f8_e4m3), q(DType::f16);
  Pools pools(DType::f8_e4m3, KvLayout::NHD);
  check_refused("append_key", {&pools.k, &pools.v}, [&] {
    reference::rope_pos_ids_append_paged_kv_cache(q.q.t(), rows.key.t(), rows.value.t(), 0, false, 1, 10000, positions, slots,
                                                  pools.cache());
  });
}

TEST_CASE("rmsnorm to fp8: the norm in f32 over its scale, rounded once") {
  const float stored = 0.037f;
  for (const DType dtype : fp8_dtypes) {
    for (const DType in : all_dtypes) {
      for (const QuantScale scale : {QuantScale{.number = 0.02f}, QuantScale{.stored = &stored}}) {
        std::mt19937 random(9);
        Padded x(in, {3, 2, 20}), w(in, {20}), out(dtype, {3, 2, 20}), wide(DType::f32, {3, 2, 20}), wide_w(DType::f32, {20});
        x.fill(random, -3, 3), w.fill(random, 0, 2);
        for (int i = 0; i < x.size(); ++i) wide.set(i, x.get(i));
        for (int i = 0; i < w.size(); ++i) wide_w.set(i, w.get(i));
        reference::rmsnorm_quant(x.t(), w.t(), out.t(), scale);
        reference::rmsnorm(wide.t(), wide_w.t(), wide.t());
        for (int i = 0; i < x.size(); ++i) CHECK(out.get(i) == quantised(dtype, wide.get(i), scale.value()));
        CHECK(out.padding_untouched());

        Padded a(in, {4, 20}), r(in, {4, 20}), b(in, {4, 20}), s(in, {4, 20}), o(dtype, {4, 20});
        Padded fa(DType::f32, {4, 20}), fr(DType::f32, {4, 20});
        a.fill(random, -3, 3), r.fill(random, -3, 3), b.copy(a), s.copy(r);
        for (int i = 0; i < a.size(); ++i) fa.set(i, a.get(i)), fr.set(i, r.get(i));
        reference::fused_add_rmsnorm_quant(a.t(), r.t(), w.t(), o.t(), scale);
        reference::fused_add_rmsnorm(b.t(), s.t(), w.t());
        reference::fused_add_rmsnorm(fa.t(), fr.t(), wide_w.t());
        for (int i = 0; i < a.size(); ++i) {
          CHECK(o.get(i) == quantised(dtype, fa.get(i), scale.value()));
          CHECK(r.get(i) == s.get(i));
        }
        CHECK(o.padding_untouched());
      }
    }
  }
}

TEST_CASE("layernorm to fp8: the norm in f32 over its scale, rounded once") {
  const float stored = 0.037f;
  for (const DType dtype : fp8_dtypes) {
    for (const DType in : all_dtypes) {
      for (const QuantScale scale : {QuantScale{.number = 0.02f}, QuantScale{.stored = &stored}}) {
        std::mt19937 random(10);
        Padded x(in, {3, 2, 20}), gamma(DType::f32, {20}), beta(DType::f32, {20}), out(dtype, {3, 2, 20});
        Padded wide(DType::f32, {3, 2, 20});
        x.fill(random, -3, 3), gamma.fill(random, 0, 2), beta.fill(random, -2, 2);
        for (int i = 0; i < x.size(); ++i) wide.set(i, x.get(i));
        reference::layernorm_quant(x.t(), gamma.t(), beta.t(), out.t(), scale);
        reference::layernorm(wide.t(), gamma.t(), beta.t(), wide.t());
        for (int i = 0; i < x.size(); ++i) CHECK(out.get(i) == quantised(dtype, wide.get(i), scale.value()));
        CHECK(out.padding_untouched());
      }
    }
  }
}

TEST_CASE("norms to fp8: refusals") {
  Padded x(DType::f16, {3, 8}), r(DType::f16, {3, 8}), w(DType::f16, {8}), out(DType::f8_e4m3, {3, 8});
  Padded wide(DType::f16, {3, 8});
  const float zero = 0, nan = std::nanf("");
  const auto refused = [&](const char* argument, const Padded& to, QuantScale scale) {
    check_refused(argument, {&to, &r}, [&] { reference::rmsnorm_quant(x.t(), w.t(), to.t(), scale); });
    check_refused(argument, {&to, &r}, [&] { reference::fused_add_rmsnorm_quant(x.t(), r.t(), w.t(), to.t(), scale); });
    check_refused(argument, {&to}, [&] { reference::layernorm_quant(x.t(), w.t(), w.t(), to.t(), scale); });
  };
  refused("out", wide, {});
  refused("scale", out, {.number = 0});
  refused("scale", out, {.number = -1});
  refused("scale", out, {.number = INFINITY});
  refused("scale", out, {.stored = &zero});
  refused("scale", out, {.stored = &nan});
  const float one = 1;
  refused("scale", out, {.number = 2, .stored = &one});
  refused("out", out, {.stored = static_cast<const float*>(out.t().data)});
  const Tensor inside = contiguous(x.t().data, DType::f8_e4m3, {3, 8});
  check_refused("out", {&x}, [&] { reference::rmsnorm_quant(x.t(), w.t(), inside, {}); });
  check_refused("out", {&x}, [&] { reference::layernorm_quant(x.t(), w.t(), w.t(), inside, {}); });
  check_refused("beta", {&out}, [&] { reference::layernorm_quant(x.t(), w.t(), x.t(), out.t(), {}); });
  check_refused("out", {&out}, [&] { reference::rmsnorm(x.t(), w.t(), out.t()); });  // without a scale
}

}  // namespace fp8
