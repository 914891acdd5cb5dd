// What the GPU's operations do on the host, on any machine: angles as whole numbers, how calls are cut, refusals.
#include "gpu/append/append.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/merge/merge_params.hpp"
#include "gpu/merge/merge_states.hpp"
#include "gpu/norm/layernorm.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/norm/norm_params.hpp"
#include "gpu/rope/rope.hpp"
#include "gpu/rope/rope_params.hpp"
#include "gpu/rope/turns.hpp"
#include "tests/ops_data.hpp"
#include "tests/rope_exact.hpp"

using namespace flashladder;
using namespace ops_test;

TEST_CASE("rope turns: every position's rotation is the exact one to float precision") {
  // The second differs from the third by its scaling alone: the table that a thread keeps must not be taken for it.
  const RopeCase cases[] = {{}, {.rotary_dim = 64, .scale = 8, .theta = 500000},
                            {.rotary_dim = 64, .scale = 8, .theta = 500000, .llama31 = Llama31Scaling{}},
                            {.rotary_dim = 64, .scale = 8, .theta = 500000, .llama31 = Llama31Scaling{1, 4, 4096}},
                            {.scale = 0.125f}};
  for (const RopeCase& c : cases) {
    const gpu::RopeTurns turns = gpu::rope_turns(c.rotary_dim, c.scale, c.theta, c.llama31);
    for (const std::int32_t position : {0, 1, 2, 3, 777, 100003, 1 << 20, 1000000007, 2147483647}) {
      for (int pair = 0; pair < c.rotary_dim / 2; ++pair) {
        const Rotation<float> got = gpu::rotation_by(position, turns.per_position[pair]);
        const LongRotation exact = exact_rotation(position, pair, c);
        // cut-off bits; the product with pi and the rounding of an angle below pi / 4; sine, cosine: 1 u each here
        const double slack = 2 * 3.15 * (0x1p-34 + position * 0x1p-64) + 2 * 0x1p-24 + 0x1p-24;
        CHECK(std::abs(got.cos - static_cast<double>(exact.cos)) <= slack);
        CHECK(std::abs(got.sin - static_cast<double>(exact.sin)) <= slack);
      }
    }
  }
}

// As the kernel has it: every group takes as many rows as it has in hand at once.
std::uint32_t rows_of_block(const gpu::NormShape& s, bool add) {
  return s.threads / s.lanes * gpu::norm_rows_at_once(s.wide, add, s.chunks);
}

TEST_CASE("norm shapes: every row and piece has a thread, and blocks have warps that are whole") {
  for (const auto& [add, quantises] : {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
    for (const std::uint32_t rows : {0u, 1u, 64u, 256u, 265u, 4096u, 131072u}) {
      for (std::int32_t d = 1; d < 40000; d = d < 4200 ? d + 1 : d + 56) {
        gpu::NormParams p{.rows = rows, .d = d};
        p.input.stride = p.out.stride = p.residual.stride = d;
        const gpu::NormShape s = gpu::norm_shape(p, add, 132, quantises);
        const bool fits = (s.grid == 0) == (rows == 0) && s.grid <= std::int64_t{rows} && s.threads % 32 == 0 &&
                          s.threads <= 1024 && s.in_registers == (d % 8 == 0 && d <= 16384);
        CHECK_MESSAGE(fits, "rows ", rows, " d ", d);
        CHECK((!quantises || s.in_registers || !s.aligned));  // read element by element
        CHECK((!quantises || !s.wide || s.chunks > 1));
        if (!s.in_registers) continue;
        const bool covers = s.lanes * s.chunks * 8 >= d && s.threads <= gpu::most_norm_threads(s.wide) &&
                            s.chunks <= (s.wide ? 4 : quantises ? 1 : add ? 2 : 4) &&
                            (s.wide ? s.lanes == s.threads : 32 % s.lanes == 0) &&
                            s.rows_in_block == rows_of_block(s, add) && s.grid * s.rows_in_block >= rows &&
                            (s.grid - 1) * s.rows_in_block < std::int64_t{rows};
        CHECK_MESSAGE(covers, "rows ", rows, " d ", d, " lanes ", s.lanes, " chunks ", s.chunks);
      }
    }
  }
}

TEST_CASE("token and merge shapes: blocks are within their limits") {
  for (const std::int64_t nnz : {0, 1, 64, 500, 65536}) {
    for (const int heads : {1, 2, 9, 16, 40, 48, 300, 5000}) {
      for (const int lanes : {1, 2, 3, 8, 16, 32, 64}) {
        for (const int at_once : {1, 3, 4}) {
          const gpu::TokenShape s = gpu::token_shape(heads, lanes, at_once, 128);
          const bool fits = s.threads() >= 1 && s.threads() <= 128 && s.lanes == lanes && s.slots >= 1 && s.slots <= heads &&
                            s.tokens_in_block <= 64 && s.blocks(nnz) * s.tokens_in_block >= nnz;
          CHECK_MESSAGE(fits, "nnz ", nnz, " heads ", heads, " lanes ", lanes, " at once ", at_once);
        }
      }
    }
  }
  for (const std::int64_t pairs : {0, 1, 32, 5000, 1000000}) {
    for (const std::int64_t states : {0, 1, 2, 7, 264, 100000}) {
      for (const std::int32_t dim : {1, 2, 3, 4, 64, 80, 128, 301, 512, 5000}) {
        for (const bool vector : {false, true}) {
          if (vector && dim % 4 != 0) continue;
          const gpu::MergeShape s = gpu::merge_shape(pairs, states, dim, vector, 132);
          const bool fits = s.threads() >= 1 && s.threads() <= (states <= 2 ? 256 : 512) && s.ways <= 16 && s.lanes >= 1;
          CHECK_MESSAGE(fits, "pairs ", pairs, " states ", states, " dim ", dim);
        }
      }
    }
  }
}

TEST_CASE("rope turns: before position 0 a pair turns the other way") {
  const gpu::RopeTurns turns = gpu::rope_turns(64, 1, 1e4f);
  for (const std::int32_t position : {0, 1, 77, 123456789, 2147483647}) {
    for (std::int32_t pair = 0; pair < 32; ++pair) {
      const Rotation<float> forward = gpu::rotation_by(position, turns.per_position[pair]);
      const Rotation<float> same = gpu::signed_rotation_by(position, turns.per_position[pair]);
      const Rotation<float> back = gpu::signed_rotation_by(-position, turns.per_position[pair]);
      CHECK((same.cos == forward.cos && same.sin == forward.sin));
      CHECK((back.cos == forward.cos && back.sin == (position == 0 ? forward.sin : -forward.sin)));
    }
  }
}

TEST_CASE("RoPE in place: every pair of every head has a lane, and pieces lie where they can be loaded") {
  for (const std::int32_t nnz : {0, 1, 64, 400, 65536}) {
    for (const int q_heads : {0, 1, 7, 32, 41, 300}) {
      for (const std::int32_t rotary_dim : {2, 8, 16, 64, 72, 96, 128, 512, 8192}) {
        for (const RopeStyle style : {RopeStyle::neox, RopeStyle::interleaved}) {
          for (const int aligned : {2, 8, 16}) {  // bytes
            const auto at = reinterpret_cast<void*>(static_cast<std::uintptr_t>(4096 + aligned % 16));
            const gpu::HeadRows q{at, 8192 * q_heads, 8192, q_heads, 8192}, k{at, 8192, 8192, 1, 8192};
            const gpu::InPlaceShape s = gpu::in_place_shape(q, k, nnz, rotary_dim, style, 132);
            INFO("nnz ", nnz, " q_heads ", q_heads, " rotary_dim ", rotary_dim, " aligned ", aligned, " pairs ", s.pairs);
            const bool four = rotary_dim % 8 == 0 && rotary_dim < 8192 && aligned >= (style == RopeStyle::neox ? 8 : 16);
            const bool eight = rotary_dim % 16 == 0 && rotary_dim < 8192 && aligned == 16;
            const bool few = std::int64_t{nnz} * (q_heads + 1) * rotary_dim / 8 <= 132 * 2048;
            CHECK(s.pairs == (four && (few || !eight) ? 4 : eight ? 8 : 0));
            if (s.pairs == 0) continue;
            const gpu::TokenShape& t = s.tokens;
            CHECK(t.lanes * 2 * s.pairs == rotary_dim);
            CHECK(t.threads() <= gpu::in_place_threads);
            CHECK(t.tokens_in_block <= 64);  // a block is not longer along z
            CHECK(t.slots * s.chunks >= q_heads + 1);
            CHECK(t.slots * (s.chunks - 1) < q_heads + 1);
            CHECK(t.blocks(nnz) * t.tokens_in_block >= nnz);
          }
        }
      }
    }
  }
}

// Nothing is launched in these: the arguments are refused first, on a machine without a GPU too.
TEST_CASE("operations on the GPU refuse what they can't compute, by name") {
  Padded x(DType::f16, {2, 8}), w(DType::f16, {8}), w7(DType::f16, {7}), xf(DType::f32, {2, 8}), wf(DType::f32, {8});
  check_refused("weight", {&x}, [&] { gpu::rmsnorm(x.t(), w7.t(), x.t(), 1e-6f, nullptr); });
  check_refused("eps", {&x}, [&] { gpu::rmsnorm(x.t(), w.t(), x.t(), -1, nullptr); });
  check_refused("input", {&xf}, [&] { gpu::rmsnorm(xf.t(), wf.t(), xf.t(), 1e-6f, nullptr); });
  check_refused("residual", {&x}, [&] { gpu::fused_add_rmsnorm(x.t(), x.t(), w.t(), 1e-6f, nullptr); });
  check_refused("input", {&xf}, [&] {
    Padded residual(DType::f32, {2, 8});
    gpu::fused_add_rmsnorm(xf.t(), residual.t(), wf.t(), 1e-6f, nullptr);
  });

  check_refused("weight", {&x}, [&] { gpu::gemma_rmsnorm(x.t(), w7.t(), x.t(), 1e-6f, nullptr); });
  check_refused("residual", {&x}, [&] { gpu::gemma_fused_add_rmsnorm(x.t(), x.t(), w.t(), 1e-6f, nullptr); });
  check_refused("gamma", {&x}, [&] { gpu::layernorm(x.t(), w7.t(), w.t(), x.t(), 1e-6f, nullptr); });
  check_refused("beta", {&x}, [&] { gpu::layernorm(x.t(), wf.t(), w.t(), x.t(), 1e-6f, nullptr); });
  check_refused("input", {&xf}, [&] { gpu::layernorm(xf.t(), wf.t(), wf.t(), xf.t(), 1e-6f, nullptr); });

  Padded q(DType::f16, {4, 2, 600}), k(DType::f16, {4, 1, 600}), k5(DType::f16, {5, 1, 600}), qf(DType::f32, {4, 2, 600});
  Padded kf(DType::f32, {4, 1, 600}), half(DType::f16, {9, 64}), wide(DType::f32, {9, 602}), cache(DType::f32, {9, 64});
  const std::vector<std::int32_t> positions(4, 0);
  const std::span<const std::int32_t> pos = positions;
  const auto rope = [&](const std::string& argument, const Tensor& q_, const Tensor& k_, int rotary_dim, float scale) {
    check_refused(argument, {&q}, [&] {
      gpu::apply_rope_pos_ids_inplace(q_, k_, pos, rotary_dim, false, scale, 1e4f, nullptr);
    });
  };
  rope("k", q.t(), k5.t(), 64, 1);
  rope("q", qf.t(), kf.t(), 64, 1);
  rope("rotary_dim", q.t(), k.t(), 7, 1);
  rope("rotary_dim", q.t(), k.t(), 0, 1);  // 600: more pairs than a kernel's parameters hold
  rope("rope_scale", q.t(), k.t(), 64, 0);
  check_refused("high_freq_factor", {&q}, [&] {
    gpu::apply_rope_pos_ids_inplace(q.t(), k.t(), pos, 64, false, 8, 5e5f, nullptr, false, Llama31Scaling{4, 4, 8192});
  });
  check_refused("cos_sin_cache", {}, [&] {
    gpu::apply_rope_with_cos_sin_cache_inplace(pos, q.t(), k.t(), half.t(), true, nullptr);
  });
  check_refused("cos_sin_cache rotary_dim", {}, [&] {
    gpu::apply_rope_with_cos_sin_cache_inplace(pos, q.t(), k.t(), wide.t(), true, nullptr);
  });

  Padded pages(DType::f16, {8, 2, 16, 1, 600}), value(DType::f16, {4, 1, 600});
  const PagedKvCache kv = paged_kv_cache(pages.t(), KvLayout::NHD);
  const std::vector<std::int32_t> indptr{0, 1}, indices{3}, last{4};
  const PagedKvTable table{indptr, indices, last}, short_table{indptr, indices, {}};
  check_refused("append_value", {&pages}, [&] {
    gpu::append_paged_kv_cache(k.t(), q.t(), pos, pos, kv, table, nullptr);
  });
  check_refused("positions", {&pages}, [&] {
    gpu::append_paged_kv_cache(k.t(), value.t(), pos, pos.first(3), kv, table, nullptr);
  });
  check_refused("paged_kv_indptr", {&pages}, [&] {
    gpu::append_paged_kv_cache(k.t(), value.t(), pos, pos, kv, short_table, nullptr);
  });
  const std::vector<std::int64_t> slots{0, -1, 1};
  check_refused("slot_mapping", {&pages}, [&] { gpu::append_paged_kv_cache(k.t(), value.t(), slots, kv, nullptr); });
  const std::vector<std::int64_t> four(4, -1);
  PagedKvCache huge = kv;  // no page of it is touched: its strides reach nowhere
  huge.num_pages = 1 << 28;
  check_refused("paged_kv_cache", {&pages}, [&] { gpu::append_paged_kv_cache(k.t(), value.t(), four, huge, nullptr); });
  check_refused("positions", {&pages}, [&] {
    gpu::rope_pos_ids_append_paged_kv_cache(q.t(), k.t(), value.t(), 64, false, 1, 1e4f, pos.first(3), four, kv, nullptr);
  });
  check_refused("q", {&pages}, [&] {
    gpu::rope_with_cos_sin_cache_append_paged_kv_cache(k.t(), k.t(), value.t(), cache.t(), true, pos, four, kv, nullptr);
  });
  check_refused("q", {&pages}, [&] {  // q and append_key are one tensor
    gpu::rope_with_cos_sin_cache_append_paged_kv_cache(k.t(), k.t(), value.t(), cache.t(), true, pos, pos, kv, table,
                                                       nullptr);
  });
  std::vector<std::int32_t> out(4);
  check_refused("append_indptr", {}, [&] { gpu::get_batch_indices_positions(pos, pos, out, out, nullptr); });
  check_refused("page_size", {}, [&] { gpu::get_seq_lens(indptr, last, 0, std::span(out).first(1), nullptr); });
  check_refused("seq_lens", {}, [&] { gpu::get_seq_lens(indptr, last, 16, out, nullptr); });

  Padded v(DType::f16, {3, 2, 8}), s(DType::f32, {3, 2}), s16(DType::f16, {3, 2}), s4(DType::f32, {4, 2});
  check_refused("s_a", {&v}, [&] { gpu::merge_state(v.t(), s16.t(), v.t(), s.t(), v.t(), s.t(), nullptr); });
  check_refused("s_other", {&v}, [&] { gpu::merge_state_in_place(v.t(), s.t(), v.t(), s4.t(), {}, nullptr); });
  const std::vector<std::uint8_t> mask(2);
  check_refused("mask", {&v}, [&] { gpu::merge_state_in_place(v.t(), s.t(), v.t(), s.t(), mask, nullptr); });
  check_refused("v", {&v}, [&] { gpu::merge_states(v.t(), s.t(), v.t(), s.t(), nullptr); });
  check_refused("indptr", {&v}, [&] { gpu::variable_length_merge_states(v.t(), s.t(), indptr, v.t(), s.t(), nullptr); });
}

// One rule for both devices (tests/ops_memory.cpp): here, that each function asks for it.
TEST_CASE("operations on the GPU refuse memory that overlaps by a part") {
  Padded x(DType::f16, {4, 8}, 0), w(DType::f16, {8});
  const auto rows = [&](std::int64_t first) { return contiguous(x.t().data_as<Half>() + 8 * first, DType::f16, {2, 8}); };
  check_refused("out", {&x}, [&] { gpu::rmsnorm(rows(0), w.t(), rows(1), 1e-6f, nullptr); });
  check_refused("residual", {&x}, [&] { gpu::fused_add_rmsnorm(rows(0), rows(1), w.t(), 1e-6f, nullptr); });
  Padded qkv(DType::f16, {4, 3, 32}, 0), cache(DType::f32, {9, 32});
  const auto heads = [&](std::int64_t first, std::int64_t count) {
    return strided(qkv.t().data_as<Half>() + 32 * first, DType::f16, {4, count, 32}, {96, 32, 1});
  };
  const std::vector<std::int32_t> pos(4, 0);
  check_refused("k", {&qkv}, [&] {
    gpu::apply_rope_pos_ids_inplace(heads(0, 2), heads(1, 1), pos, 0, false, 1, 1e4f, nullptr);
  });
  Padded pool(DType::f16, {8, 16, 1, 32});
  const std::vector<std::int32_t> indptr{0, 1}, indices{3}, last{4};
  const PagedKvTable table{indptr, indices, last};
  const auto kv = [&](const Tensor& k, const Tensor& v) { return paged_kv_cache(k, v, KvLayout::NHD); };
  check_refused("paged_kv_cache.v", {&pool}, [&] {
    gpu::append_paged_kv_cache(heads(1, 1), heads(2, 1), pos, pos, kv(pool.t(), pool.t()), table, nullptr);
  });
  Padded other(DType::f16, {8, 16, 1, 32});
  check_refused("q", {&qkv}, [&] {
    gpu::rope_with_cos_sin_cache_append_paged_kv_cache(heads(0, 2), heads(1, 1), heads(2, 1), cache.t(), true, pos, pos,
                                                       kv(pool.t(), other.t()), table, nullptr);
  });
  Padded v(DType::f32, {6, 2, 8}, 0), s(DType::f32, {6, 2}, 0);
  const auto v_at = [&](std::int64_t row) { return contiguous(v.t().data_as<float>() + 16 * row, DType::f32, {3, 2, 8}); };
  const auto s_at = [&](std::int64_t row) { return contiguous(s.t().data_as<float>() + 2 * row, DType::f32, {3, 2}); };
  check_refused("v_out", {&v}, [&] { gpu::merge_state(v_at(0), s_at(0), v_at(0), s_at(0), v_at(1), s_at(3), nullptr); });
  check_refused("s", {&v}, [&] { gpu::merge_state_in_place(v_at(0), s_at(0), v_at(3), s_at(1), {}, nullptr); });
}

TEST_CASE("what an attention kernel is told of its call") {
  const float per_head[2] = {2, 3};
  AttentionProblem problem;
  problem.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.5f};
  alignas(16) std::byte data[16]{};
  problem.q = strided(data, DType::f16, {3, 4, 64}, {800, 96, 1});
  problem.scales.k = 4;
  const AttentionOutput output{.o = strided(data, DType::f32, {3, 4, 64}, {700, 72, 1})};
  gpu::AttentionCall call = gpu::attention_call(problem, output);
  CHECK(call.params.sm_scale == 2);  // a stored k stands for 4 k
  CHECK((call.rows.q_token == 800 && call.rows.q_head == 96 && call.rows.o_token == 700 && call.rows.o_head == 72));
  CHECK((call.nnz_qo == 3 && call.rows.plain_ends && call.rows.o_dtype == DType::f32));
  problem.scales.v_per_head = per_head;
  CHECK(!gpu::attention_call(problem, output).rows.plain_ends);
  call.kv_dtype = DType::f8_e4m3;
  call.kv.k = call.kv.v = data;
  call.kv.k_strides = call.kv.v_strides = {256, 128, 64};
  const auto refused = [](gpu::AttentionCall broken, auto&& change, const char* what) {
    gpu::require_16_bytes(broken);
    change(broken);
    CHECK_THROWS_WITH_AS(gpu::require_16_bytes(broken), doctest::Contains(what), InputError);
  };
  refused(call, [](auto& c) { c.kv.k_strides.entry = 120; }, "k_cache");  // 120 bytes: no multiple of 16, as 16 bits would be
  refused(call, [](auto& c) { c.kv.v_strides.head = 72; }, "v_cache");
  refused(call, [](auto& c) { c.rows.o_head = 74; }, "o");
  call.rows.o_head = 68;  // 272 bytes as f32; of q's dtype it would not do
  gpu::require_16_bytes(call);
  CHECK(gpu::why_no_mixed_dtypes({DType::f16, DType::f16, true}) != "");
  AttentionParams p{.head_dim_qk = 2 * gpu::RopeTurns::most_pairs, .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA};
  CHECK(gpu::why_no_rope(p) == "");
  p.head_dim_qk += 2;
  CHECK(gpu::why_no_rope(p) != "");
}
