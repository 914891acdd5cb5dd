// The operations and the single decode: on the CPU they are the references, and the decode equals the oracle.
#include <doctest/doctest.h>

#include <random>

#include "api/flashladder.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "reference/append.hpp"
#include "reference/layernorm.hpp"
#include "reference/merge_states.hpp"
#include "reference/norm.hpp"
#include "reference/rope_append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/api_cases.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace flashladder::api;
using ladder::Case;
using ladder::CaseSpec;
using ops_test::Padded;

namespace {

// Two tensors with the same contents, and what is done to each leaves them the same.
struct Twins {
  Padded a, b;
  Twins(DType dtype, std::vector<std::int64_t> shape, std::mt19937& random) : a(dtype, shape), b(dtype, shape) {
    a.fill(random, -2, 2);
    b.copy(a);
  }
  bool same() const { return a.bytes() == b.bytes(); }
};

}  // namespace

TEST_CASE("single_decode_with_kv_cache equals the oracle") {
  for (const std::int32_t kv_len : {0, 1, 2, 65, 700}) {
    for (const KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
      CaseSpec spec{.name = "single", .seed = 5, .qo_lens = {1}, .kv_lens = {kv_len}, .page_size = std::max(kv_len, 1),
                    .dtype = DType::f16, .kv_layout = layout, .combined_cache = false};
      spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f,
                     .logits_soft_cap = 5, .sinks = true};
      CAPTURE(kv_len);
      const Case c = draw_case(spec);
      const ladder::Oracle oracle = make_oracle(c);
      const PagedKvCache kv = c.problem().kv;
      const std::int64_t page = kv_len > 0 ? c.paged_kv_indices[0] : 0;
      const auto sequence = [&](const void* pool, const KvStrides& s) {  // the request's one page
        Tensor t{.data = const_cast<Half*>(static_cast<const Half*>(pool) + page * s.page), .dtype = spec.dtype, .rank = 3};
        t.shape = {kv_len, 2, 64}, t.strides = {s.entry, s.head, 1};
        if (layout == KvLayout::HND) std::swap(t.shape[0], t.shape[1]), std::swap(t.strides[0], t.strides[1]);
        return t;
      };
      const Tensor q = contiguous(c.q.view().data, spec.dtype, {6, 64});
      std::vector<float> o(6 * 64), lse(6);
      const auto decode = [&](Tensor out) {
        single_decode_with_kv_cache(q, sequence(kv.k, kv.k_strides), sequence(kv.v, kv.v_strides), {out, lse},
                                    {.logits = {.sm_scale = 0.2f, .logits_soft_cap = 5}, .kv_layout = layout,
                                     .sinks = c.sinks});
      };
      decode(contiguous(o.data(), DType::f32, {6, 64}));
      const auto comparison = compare(c, o, lse, oracle);
      CHECK_MESSAGE(comparison.ok(), comparison.message());
      std::vector<std::byte> narrow(6 * 64 * sizeof(Half));
      decode(contiguous(narrow.data(), DType::f16, {6, 64}));
      CHECK(narrow == test::rounded(o, DType::f16));
    }
  }
}

TEST_CASE("single_decode_with_kv_cache refuses with the argument's name") {
  std::vector<float> data(1000);
  const Tensor q = contiguous(data.data(), DType::f32, {4, 8}), k = contiguous(data.data(), DType::f32, {5, 2, 8});
  using T = const Tensor&;
  const auto refuses = [&](const std::string& argument, T q_, T k_, T v_, T o_) {
    ops_test::check_refused(argument, {}, [&] { single_decode_with_kv_cache(q_, k_, v_, {o_, {}}); });
  };
  std::vector<float> own(32);
  CHECK_NOTHROW(single_decode_with_kv_cache(q, k, k, {contiguous(own.data(), DType::f32, {4, 8}), {}}));
  refuses("q rank", k, k, k, q);
  refuses("k rank", q, q, k, q);
  refuses("v rank", q, k, q, q);
  refuses("v dtype", q, k, contiguous(data.data(), DType::f16, {5, 2, 8}), q);
  refuses("v shape[0]", q, k, contiguous(data.data(), DType::f32, {6, 2, 8}), q);
  Tensor apart = contiguous(data.data(), DType::f32, {5, 2, 8});
  apart.strides[2] = 2;
  refuses("k stride[2]", q, apart, k, q);
  refuses("v stride[2]", q, k, apart, q);
  refuses("o rank", q, k, k, k);
  refuses("o shape[1]", q, k, k, contiguous(data.data(), DType::f32, {3, 8}));
  const Tensor narrow = contiguous(data.data(), DType::f32, {4, 4});
  refuses("k cache head_dim", narrow, k, k, narrow);
  refuses("num_qo_heads", contiguous(data.data(), DType::f32, {3, 8}), k, k, contiguous(data.data(), DType::f32, {3, 8}));
}

TEST_CASE("on the CPU the operations are the references") {
  std::mt19937 random(3);
  constexpr DType t = DType::bf16;
  Padded v_a(t, {5, 3, 16}), s_a(DType::f32, {5, 3}), v_other(t, {5, 3, 16}), s_other(DType::f32, {5, 3});
  for (Padded* p : {&v_a, &s_a, &v_other, &s_other}) p->fill(random, -2, 2);
  Twins v(t, {5, 3, 16}, random), s(DType::f32, {5, 3}, random);
  merge_state(v_a.t(), s_a.t(), v_other.t(), s_other.t(), v.a.t(), s.a.t());
  reference::merge_state(v_a.t(), s_a.t(), v_other.t(), s_other.t(), v.b.t(), s.b.t());
  CHECK((v.same() && s.same()));
  const std::vector<std::uint8_t> mask{1, 0, 1, 1, 0};
  merge_state_in_place(v.a.t(), s.a.t(), v_other.t(), s_other.t(), mask);
  reference::merge_state_in_place(v.b.t(), s.b.t(), v_other.t(), s_other.t(), mask);
  CHECK((v.same() && s.same()));
  const std::vector<std::int32_t> indptr{0, 2, 2, 5};
  Twins v3(t, {3, 3, 16}, random), s3(DType::f32, {3, 3}, random);
  variable_length_merge_states(v_a.t(), s_a.t(), indptr, v3.a.t(), s3.a.t());
  reference::variable_length_merge_states(v_a.t(), s_a.t(), indptr, v3.b.t(), s3.b.t());
  CHECK((v3.same() && s3.same()));
  Padded many(t, {5, 2, 3, 16}), many_s(DType::f32, {5, 2, 3});
  many.fill(random, -2, 2), many_s.fill(random, -2, 2);
  merge_states(many.t(), many_s.t(), v.a.t(), s.a.t());
  reference::merge_states(many.t(), many_s.t(), v.b.t(), s.b.t());
  CHECK((v.same() && s.same()));

  Padded weight(t, {16});
  weight.fill(random, -1, 1);
  Twins x(t, {5, 16}, random), residual(t, {5, 16}, random);
  rmsnorm(x.a.t(), weight.t(), x.a.t());
  reference::rmsnorm(x.b.t(), weight.t(), x.b.t());
  fused_add_rmsnorm(x.a.t(), residual.a.t(), weight.t(), 1e-5f);
  reference::fused_add_rmsnorm(x.b.t(), residual.b.t(), weight.t(), 1e-5f);
  CHECK((x.same() && residual.same()));
  gemma_rmsnorm(x.a.t(), weight.t(), x.a.t());
  reference::gemma_rmsnorm(x.b.t(), weight.t(), x.b.t());
  gemma_fused_add_rmsnorm(x.a.t(), residual.a.t(), weight.t(), 1e-5f);
  reference::gemma_fused_add_rmsnorm(x.b.t(), residual.b.t(), weight.t(), 1e-5f);
  CHECK((x.same() && residual.same()));
  layernorm(residual.a.t(), weight.t(), weight.t(), x.a.t(), 1e-5f);
  reference::layernorm(residual.b.t(), weight.t(), weight.t(), x.b.t(), 1e-5f);
  CHECK(x.same());

  Twins q(t, {5, 4, 16}, random), k(t, {5, 2, 16}, random);
  const std::vector<std::int32_t> positions{0, 3, 9, 2, 7};
  const RopeOptions rope{.rotary_dim = 8, .interleave = true, .rope_scale = 2, .rope_theta = 500};
  apply_rope_pos_ids_inplace(q.a.t(), k.a.t(), positions, rope);
  reference::apply_rope_pos_ids_inplace(q.b.t(), k.b.t(), positions, 8, true, 2, 500);
  std::vector<float> cache = reference::make_cos_sin_cache(10, 16);
  const Tensor cos_sin = contiguous(cache.data(), DType::f32, {10, 16});
  apply_rope_with_cos_sin_cache_inplace(positions, q.a.t(), k.a.t(), cos_sin, false);
  reference::apply_rope_with_cos_sin_cache_inplace(positions, q.b.t(), k.b.t(), cos_sin, false);
  CHECK((q.same() && k.same()));
  std::vector<std::int64_t> wide(positions.begin(), positions.end());  // positions of int64, and of the reference int32
  apply_rope_with_cos_sin_cache_inplace(wide, q.a.t(), k.a.t(), cos_sin, true);
  reference::apply_rope_with_cos_sin_cache_inplace(positions, q.b.t(), k.b.t(), cos_sin, true);
  CHECK((q.same() && k.same()));
  for (const std::int64_t none : {std::int64_t{-1}, std::int64_t{10}, (std::int64_t{1} << 32) + 7}) {
    wide[4] = none;
    ops_test::check_refused("positions[4]", {&q.a, &k.a}, [&] {
      apply_rope_with_cos_sin_cache_inplace(wide, q.a.t(), k.a.t(), cos_sin, true);
    });
  }
  apply_llama31_rope_pos_ids_inplace(q.a.t(), k.a.t(), positions);
  reference::apply_rope_pos_ids_inplace(q.b.t(), k.b.t(), positions, 0, false, 8, 5e5f, Llama31Scaling{1, 4, 8192});
  CHECK((q.same() && k.same()));
  ops_test::check_refused("options.llama31", {&q.a, &k.a}, [&] {
    apply_llama31_rope_pos_ids_inplace(q.a.t(), k.a.t(), positions, {.rope_scale = 8});
  });
  const Llama31Scaling scaling{2, 8, 512};
  CHECK(make_cos_sin_cache(9, 16, 4, 500, scaling) == reference::make_cos_sin_cache(9, 16, 4, 500, scaling));
}

TEST_CASE("on the CPU the cache operations are the references") {
  std::mt19937 random(4);
  const std::vector<std::int32_t> append_indptr{0, 2, 2, 5}, kv_indptr{0, 2, 2, 3}, indices{3, 0, 1}, last{1, 0, 4};
  std::vector<std::int32_t> seq_lens(3), batch_indices(6), positions(6);
  get_seq_lens(kv_indptr, last, 4, seq_lens);
  CHECK(seq_lens == reference::get_seq_lens(kv_indptr, last, 4));
  get_batch_indices_positions(append_indptr, seq_lens, batch_indices, positions);
  const auto expected = reference::get_batch_indices_positions(append_indptr, seq_lens, 6);
  CHECK((batch_indices == expected.batch_indices && positions == expected.positions));

  Padded key(DType::f16, {6, 2, 16}), value(DType::f16, {6, 2, 16});
  key.fill(random, -1, 1), value.fill(random, -1, 1);
  Twins k(DType::f16, {4, 4, 2, 16}, random), v(DType::f16, {4, 4, 2, 16}, random);
  append_paged_kv_cache(key.t(), value.t(), batch_indices, positions, paged_kv_cache(k.a.t(), v.a.t(), KvLayout::NHD),
                        kv_indptr, indices, last);
  reference::append_paged_kv_cache(key.t(), value.t(), batch_indices, positions,
                                   paged_kv_cache(k.b.t(), v.b.t(), KvLayout::NHD), kv_indptr, indices, last);
  CHECK((k.same() && v.same()));
  const std::vector<std::int64_t> slots{5, -1, 0, 15, 2, 9};
  append_paged_kv_cache(key.t(), value.t(), slots, paged_kv_cache(k.a.t(), v.a.t(), KvLayout::NHD));
  reference::append_paged_kv_cache(key.t(), value.t(), slots, paged_kv_cache(k.b.t(), v.b.t(), KvLayout::NHD));
  CHECK((k.same() && v.same()));
  std::vector<std::int32_t> short_span(2);
  CHECK_THROWS_WITH_AS(get_seq_lens(kv_indptr, last, 4, short_span), "seq_lens = 2 entries: must have 3 entries",
                       InputError);
}

TEST_CASE("RoPE and append at once are the two references; what is refused changes nothing") {
  std::mt19937 random(6);
  const std::vector<std::int32_t> indptr{0, 2, 2, 3}, indices{3, 0, 1}, last{1, 0, 4}, requests{0, -1, 2, 2};
  std::vector<std::int32_t> positions{4, -77, 0, 3}, angles{4, 0, 0, 3};  // row 1 goes nowhere
  std::vector<float> cache = reference::make_cos_sin_cache(5, 16, 2, 500);
  const Tensor cos_sin = contiguous(cache.data(), DType::f32, {5, 16});
  const RopeOptions rope{.rotary_dim = 16, .interleave = true, .rope_scale = 2, .rope_theta = 500};
  for (const DType t : ops_test::all_dtypes) {
    for (const bool computed : {false, true}) {
      Twins q(t, {4, 6, 32}, random), key(t, {4, 2, 32}, random), k(t, {4, 4, 2, 32}, random), v(t, {4, 4, 2, 8}, random);
      Padded value(t, {4, 2, 8}), key_before(t, {4, 2, 32});
      value.fill(random, -1, 1), key_before.copy(key.a);
      const auto fused = [&](const Tensor& q_) {
        const PagedKvCache to = paged_kv_cache(k.a.t(), v.a.t(), KvLayout::NHD);
        if (computed) {
          rope_pos_ids_append_paged_kv_cache(q_, key.a.t(), value.t(), requests, positions, to, indptr, indices, last, rope);
        } else {
          rope_with_cos_sin_cache_append_paged_kv_cache(q_, key.a.t(), value.t(), cos_sin, requests, positions, to, indptr,
                                                        indices, last, false);
        }
      };
      const std::initializer_list<const Padded*> written{&q.a, &k.a, &v.a};
      // Not a position; not in cos_sin, nor of request 2; in cos_sin only; row 2's slot.
      for (const auto& [position, request] : {std::pair{-1, -1}, {5, computed ? 2 : -1}, {4, 2}, {0, 2}}) {
        positions[3] = position;
        ops_test::check_refused("positions[3]", written, [&] { fused(q.a.t()); }, request);
      }
      positions[3] = 3;
      ops_test::check_refused("q", written, [&] { fused(key.a.t()); });  // one tensor
      ops_test::check_refused("q", written, [&] { fused(cos_sin); });
      fused(q.a.t());
      Padded q_rotated(t, {4, 6, 32});
      q_rotated.copy(q.b);
      reference::apply_rope_pos_ids_inplace(q_rotated.t(), key.b.t(), angles, 16, true, 2, 500);
      for (std::int64_t i = 0; i < q.b.size(); ++i) {
        if (requests[i / (6 * 32)] >= 0) q.b.set(i, q_rotated.get(i));
      }
      reference::append_paged_kv_cache(key.b.t(), value.t(), requests, positions,
                                       paged_kv_cache(k.b.t(), v.b.t(), KvLayout::NHD), indptr, indices, last);
      CHECK((q.same() && k.same() && v.same()));
      CHECK(key.a.bytes() == key_before.bytes());

      const std::vector<std::int64_t> slots{12, -1, 4, 1};
      for (Twins* twins : {&q, &k, &v}) twins->b.copy(twins->a);
      const PagedKvCache a = paged_kv_cache(k.a.t(), v.a.t(), KvLayout::NHD);
      const PagedKvCache b = paged_kv_cache(k.b.t(), v.b.t(), KvLayout::NHD);
      if (computed) {
        rope_pos_ids_append_paged_kv_cache(q.a.t(), key.a.t(), value.t(), positions, slots, a, llama31_rope);
        reference::rope_pos_ids_append_paged_kv_cache(q.b.t(), key.a.t(), value.t(), 0, false, 8, 5e5f, positions, slots, b,
                                                      Llama31Scaling{});
      } else {
        rope_with_cos_sin_cache_append_paged_kv_cache(q.a.t(), key.a.t(), value.t(), cos_sin, positions, slots, a, false);
        reference::rope_with_cos_sin_cache_append_paged_kv_cache(q.b.t(), key.a.t(), value.t(), cos_sin, false, positions,
                                                                 slots, b);
      }
      CHECK((q.same() && k.same() && v.same()));
    }
  }
}

TEST_CASE("make_cos_sin_cache: a table in the public interface, and its angles are those of long double") {
  const std::int32_t max_pos = 3000, rotary_dim = 12;
  const std::vector<float> table = make_cos_sin_cache(max_pos, rotary_dim, 2, 5e5f);
  REQUIRE(table.size() == 3000 * 12);
  for (const std::int32_t position : {0, 1, 777, 2999}) {
    for (int pair = 0; pair < 6; ++pair) {
      const long double angle = position / (2 * std::pow(5e5L, pair / 6.0L));
      const float* row = table.data() + position * rotary_dim;
      CHECK(std::abs(row[pair] - static_cast<double>(std::cos(angle))) <= 0x1p-24);
      CHECK(std::abs(row[6 + pair] - static_cast<double>(std::sin(angle))) <= 0x1p-24);
    }
  }
  std::mt19937 random(8);
  Twins q(DType::f32, {2, 1, 12}, random), k(DType::f32, {2, 1, 12}, random);
  const std::vector<std::int32_t> positions{5, 2999};  // the table can only be read: no cast, no copy
  apply_rope_with_cos_sin_cache_inplace(positions, q.a.t(), k.a.t(), contiguous(table.data(), DType::f32, {max_pos, 12}));
  apply_rope_pos_ids_inplace(q.b.t(), k.b.t(), positions, {.rope_scale = 2, .rope_theta = 5e5f});
  CHECK((q.same() && k.same()));
}

TEST_CASE("where there is no GPU the operations say why") {
  if (why_no_gpu().empty()) return;
  std::vector<float> x(8);
  const Tensor t = contiguous(x.data(), DType::f32, {1, 8}), w = contiguous(x.data(), DType::f32, {8});
  CHECK_THROWS_WITH_AS(rmsnorm(t, w, t, 1e-6f, {Device::gpu}), ("device = gpu: " + why_no_gpu()).c_str(), InputError);
}
