// Multi-head latent attention as data: the cache over one tensor or two, and one refusal for each rule.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/mla_problem.hpp"

using namespace flashladder;

namespace {

using MlaFloats = std::numeric_limits<float>;

// Three requests over a pool of 5 pages of 4 tokens: qo_len 2, 0, 3 and kv_len 7, 0, 2; 3 heads of 8 + 4 features. The cache
// is one tensor of 12 features a token.
struct ValidMla {
  std::vector<float> q_nope = std::vector<float>(5 * 3 * 8), q_pe = std::vector<float>(5 * 3 * 4);
  std::vector<float> cache = std::vector<float>(5 * 4 * 12), o = std::vector<float>(5 * 3 * 8), lse = std::vector<float>(16);
  std::vector<std::int32_t> qo_indptr{0, 2, 2, 5, 5}, kv_indptr{0, 2, 2, 3}, indices{4, 1, 0, 0}, last{3, 0, 2};
  std::vector<std::int32_t> blocks{4, 1, 77, -5, 0, 99}, seq_lens{7, 0, 2};
  MlaProblem p;
  AttentionOutput out;

  ValidMla() {
    p.params = {.num_heads = 3, .head_dim_ckv = 8, .head_dim_kpe = 4, .sm_scale = 0.3f, .mask = MaskMode::causal};
    p.q_nope = contiguous(q_nope.data(), DType::f32, {5, 3, 8});
    p.q_pe = contiguous(q_pe.data(), DType::f32, {5, 3, 4});
    p.cache = paged_mla_cache(contiguous(cache.data(), DType::f32, {5, 4, 12}), 8);
    p.qo_indptr = std::span(qo_indptr).first(4);
    p.paged_kv_indptr = kv_indptr;
    p.paged_kv_indices = std::span(indices).first(3);
    p.paged_kv_last_page_len = last;
    out.o = contiguous(o.data(), DType::f32, {5, 3, 8});
    out.lse_log2 = std::span(lse).first(15);
  }
  void with_blocks() {
    p.paged_kv_indptr = p.paged_kv_indices = p.paged_kv_last_page_len = {};
    p.block_tables = blocks, p.seq_lens = seq_lens;
  }
};

struct MlaRefusal {
  std::string what;
  void (*breaks)(ValidMla&);
  std::string argument, value;
  int request = -1;
};

const MlaRefusal mla_refusals[] = {
    {"no heads", [](ValidMla& c) { c.p.params.num_heads = 0; }, "num_heads", "0"},
    {"huge heads", [](ValidMla& c) { c.p.params.num_heads = 1 << 20; }, "num_heads", "1048576"},
    {"no ckv", [](ValidMla& c) { c.p.params.head_dim_ckv = 0; }, "head_dim_ckv", "0"},
    {"negative kpe", [](ValidMla& c) { c.p.params.head_dim_kpe = -1; }, "head_dim_kpe", "-1"},
    {"scale not given", [](ValidMla& c) { c.p.params.sm_scale = MlaParams{}.sm_scale; }, "sm_scale", "0"},
    {"NaN scale", [](ValidMla& c) { c.p.params.sm_scale = MlaFloats::quiet_NaN(); }, "sm_scale", "nan"},
    {"infinite scale", [](ValidMla& c) { c.p.params.sm_scale = MlaFloats::infinity(); }, "sm_scale", "inf"},
    {"custom mask", [](ValidMla& c) { c.p.params.mask = MaskMode::custom; }, "mask", "2"},
    {"q_nope dim", [](ValidMla& c) { c.p.q_nope.shape[2] = 12; }, "q_nope shape[2]", "12"},
    {"q_nope heads", [](ValidMla& c) { c.p.q_nope.shape[1] = 4; }, "q_nope shape[1]", "4"},
    {"q_pe dim", [](ValidMla& c) { c.p.q_pe.shape[2] = 8; }, "q_pe shape[2]", "8"},
    {"q_pe rows", [](ValidMla& c) { c.p.q_pe.shape[0] = 4; }, "q_pe shape[0]", "4"},
    {"q_pe null", [](ValidMla& c) { c.p.q_pe.data = nullptr; }, "q_pe", "null"},
    {"q_pe stride", [](ValidMla& c) { c.p.q_pe.strides[2] = 3; }, "q_pe stride[2]", "3"},
    {"q_nope dtype", [](ValidMla& c) { c.p.q_nope.dtype = DType::u8; }, "q_nope dtype", "u8"},
    {"q dtypes", [](ValidMla& c) { c.p.q_pe.dtype = DType::f16; }, "q_pe dtype", "f16"},
    {"cache dtype", [](ValidMla& c) { c.p.cache.dtype = DType::f16; }, "ckv cache dtype", "f16"},
    {"cache of bytes", [](ValidMla& c) { c.p.cache.dtype = DType::u8; }, "ckv cache dtype", "u8"},
    {"scale of ckv", [](ValidMla& c) { c.p.scales.k = 0; }, "ckv_scale", "0"},
    {"scale of kpe", [](ValidMla& c) { c.p.scales.kpe = MlaFloats::infinity(); }, "kpe_scale", "inf"},
    {"scale of values", [](ValidMla& c) { c.p.scales.v = -1; }, "scale of values", "-1"},
    {"scale of logits", [](ValidMla& c) { c.p.scales.k = c.p.scales.kpe = 3e38f, c.p.params.sm_scale = 2; },
     "sm_scale * ckv_scale", "inf"},
    {"ratio of scales", [](ValidMla& c) { c.p.scales.k = 1e-25f, c.p.scales.kpe = 1e25f; }, "kpe_scale / ckv_scale", "inf"},
    {"packed rows", [](ValidMla& c) {
       c.p.params.num_heads = 1 << 14, c.qo_indptr = {0, 1, 1, 1 + (1 << 17)};
       c.p.qo_indptr = c.qo_indptr;
       c.p.q_nope.shape = {1 + (1 << 17), 1 << 14, 8}, c.p.q_pe.shape = {1 + (1 << 17), 1 << 14, 4};
     }, "qo_len * num_heads", "2147483648", 2},
    {"cache ckv", [](ValidMla& c) { c.p.cache.head_dim_ckv = 4; }, "ckv cache head_dim", "4"},
    {"cache kpe", [](ValidMla& c) { c.p.cache.head_dim_kpe = 8; }, "kpe cache head_dim", "8"},
    {"ckv null", [](ValidMla& c) { c.p.cache.ckv = nullptr; }, "ckv cache", "null"},
    {"kpe null", [](ValidMla& c) { c.p.cache.kpe = nullptr; }, "kpe cache", "null"},
    {"queries", [](ValidMla& c) { c.qo_indptr[3] = 4; }, "q_nope shape[0]", "5"},
    {"page", [](ValidMla& c) { c.indices[1] = 5; }, "paged_kv_indices[1]", "5", 0},
    {"last page", [](ValidMla& c) { c.last[2] = 5; }, "paged_kv_last_page_len[2]", "5", 2},
    {"page size", [](ValidMla& c) { c.p.cache.page_size = 0; }, "page_size", "0"},
    {"no table", [](ValidMla& c) { c.p.paged_kv_indptr = {}; }, "paged_kv_indptr size", "0"},
    {"both tables", [](ValidMla& c) { c.p.block_tables = c.blocks, c.p.seq_lens = c.seq_lens; }, "paged_kv_indptr size", "4"},
    {"block", [](ValidMla& c) { c.with_blocks(), c.blocks[1] = 5; }, "block_tables[0, 1]", "5", 0},
    {"long sequence", [](ValidMla& c) { c.with_blocks(), c.seq_lens[1] = 9; }, "seq_lens[1]", "9", 1},
    {"o dtype", [](ValidMla& c) { c.out.o.dtype = DType::f16; }, "o dtype", "f16"},
    {"o dim", [](ValidMla& c) { c.out.o.shape[2] = 12; }, "o shape[2]", "12"},
    {"o rows overlap", [](ValidMla& c) { c.out.o.strides[1] = 4; }, "o stride[1]", "4"},
    {"lse", [](ValidMla& c) { c.out.lse_log2 = c.lse; }, "lse_log2 size", "16"},
};

}  // namespace

TEST_CASE("MLA: a valid problem passes, by lists and by blocks, whose spare entries are not read") {
  ValidMla lists, blocks;
  CHECK_NOTHROW(validate(lists.p, lists.out));
  blocks.with_blocks();
  CHECK_NOTHROW(validate(blocks.p, blocks.out));
  CHECK(blocks.p.kv_len(0) == 7);
  CHECK(blocks.p.page_table().locate(0, 5) == lists.p.page_table().locate(0, 5));
}

TEST_CASE("MLA: one refusal for each rule names argument, value and request") {
  for (const MlaRefusal& refusal : mla_refusals) {
    CAPTURE(refusal.what);
    ValidMla c;
    refusal.breaks(c);
    try {
      validate(c.p, c.out);
      FAIL("nobody refused");
    } catch (const InputError& e) {
      CHECK(e.argument == refusal.argument);
      CHECK(e.value == refusal.value);
      CHECK(e.request == refusal.request);
    }
  }
}

TEST_CASE("MLA: a cache in one tensor and in two are the same rows, with and without kpe") {
  std::vector<float> joined(2 * 3 * 12), ckv(2 * 3 * 8), kpe(2 * 3 * 4);
  const PagedMlaCache one = paged_mla_cache(contiguous(joined.data(), DType::f32, {2, 3, 12}), 8);
  CHECK(one.ckv == joined.data());
  CHECK(one.kpe == joined.data() + 8);
  CHECK(one.ckv_strides.offset({1, 2}) == 5 * 12);
  CHECK(one.kpe_strides.offset({1, 2}) == 5 * 12);
  const PagedMlaCache two = paged_mla_cache(contiguous(ckv.data(), DType::f32, {2, 3, 8}),
                                            contiguous(kpe.data(), DType::f32, {2, 3, 4}));
  CHECK(two.ckv_strides.offset({1, 2}) == 5 * 8);
  CHECK(two.kpe_strides.offset({1, 2}) == 5 * 4);
  const PagedMlaCache alone = paged_mla_cache(contiguous(joined.data(), DType::f32, {2, 3, 12}), 12);
  CHECK(alone.head_dim_kpe == 0);

  const Tensor c = contiguous(ckv.data(), DType::f32, {2, 3, 8}), pe = contiguous(kpe.data(), DType::f32, {2, 3, 4});
  Tensor wide = pe, pages = pe, half = pe, flat = pe;
  Tensor entries = pe;
  wide.strides[2] = 2, pages.shape[0] = 1, entries.shape[1] = 2, half.dtype = DType::f16, flat.rank = 2;
  CHECK_THROWS_WITH_AS(paged_mla_cache(c, entries), "kpe_cache shape[1] = 2: must be the page_size of ckv_cache (3)",
                       InputError);
  CHECK_THROWS_WITH_AS(paged_mla_cache(c, wide), "kpe_cache stride[2] = 2: must be 1: dense along its features", InputError);
  CHECK_THROWS_WITH_AS(paged_mla_cache(c, pages), "kpe_cache shape[0] = 1: must be the pages of ckv_cache (2)", InputError);
  CHECK_THROWS_WITH_AS(paged_mla_cache(c, half), "kpe_cache dtype = f16: must be that of ckv_cache", InputError);
  CHECK_THROWS_AS(paged_mla_cache(c, flat), InputError);
  CHECK_THROWS_AS(paged_mla_cache(c, 9), InputError);
}
