// One refusal for each rule: a valid problem, one thing broken, and the error must name argument, value and request.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/validate.hpp"

using namespace flashladder;

namespace {

constexpr float inf_f32 = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();

// Three requests over a pool of 5 pages of 4 tokens: qo_len 2, 0, 3 and kv_len 7, 0, 2; 6 query heads on 2 KV heads.
// The vectors have room to spare, so that a case may take a longer or a shorter span of them.
struct Valid {
  std::vector<float> q = std::vector<float>(5 * 6 * 8), k = std::vector<float>(5 * 4 * 2 * 8);
  std::vector<float> v = std::vector<float>(5 * 4 * 2 * 6), o = std::vector<float>(5 * 6 * 6), lse = std::vector<float>(31);
  std::vector<std::int32_t> qo_indptr{0, 2, 2, 5, 5}, kv_indptr{0, 2, 2, 3, 3}, indices{4, 1, 0, 0}, last{3, 0, 2, 0};
  std::vector<std::uint8_t> mask = std::vector<std::uint8_t>(2 * 7 + 3 * 2 + 1, 1);
  std::vector<float> sinks = std::vector<float>(7, 0.5f), scales = std::vector<float>(3, 0.25f);
  AttentionProblem p;
  AttentionOutput out;

  Valid() {
    p.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 6, .sm_scale = 0.3f,
                .mask = MaskMode::causal};
    p.q = contiguous(q.data(), DType::f32, {5, 6, 8});
    p.kv = paged_kv_cache(contiguous(k.data(), DType::f32, {5, 4, 2, 8}), contiguous(v.data(), DType::f32, {5, 4, 2, 6}),
                          KvLayout::NHD);
    p.qo_indptr = std::span(qo_indptr).first(4);
    p.paged_kv_indptr = std::span(kv_indptr).first(4);
    p.paged_kv_indices = std::span(indices).first(3);
    p.paged_kv_last_page_len = std::span(last).first(3);
    out.o = contiguous(o.data(), DType::f32, {5, 6, 6});
    out.lse_log2 = std::span(lse).first(30);
  }
  void with_mask() { p.params.mask = MaskMode::custom, p.custom_mask = std::span(mask).first(20); }
  void with_scales() { p.scales.k_per_head = p.scales.v_per_head = std::span(scales).first(2); }
  void with_sinks() { p.params.sinks = true, p.sinks = std::span(sinks).first(6); }
};

struct Refusal {
  std::string what;
  void (*breaks)(Valid&);
  std::string argument, value;
  int request = -1;
};

const Refusal params_refusals[] = {
    {"no query heads", [](Valid& c) { c.p.params.num_qo_heads = 0; }, "num_qo_heads", "0"},
    {"negative heads", [](Valid& c) { c.p.params.num_kv_heads = -2; }, "num_kv_heads", "-2"},
    {"huge heads", [](Valid& c) { c.p.params.num_qo_heads = most; }, "num_qo_heads", "2147483647"},
    {"heads not divisible", [](Valid& c) { c.p.params.num_qo_heads = 7; }, "num_qo_heads", "7"},
    {"zero dim", [](Valid& c) { c.p.params.head_dim_qk = 0; }, "head_dim_qk", "0"},
    {"huge dim", [](Valid& c) { c.p.params.head_dim_vo = 1 << 20; }, "head_dim_vo", "1048576"},
    {"NaN scale", [](Valid& c) { c.p.params.sm_scale = nan; }, "sm_scale", "nan"},
    {"infinite scale", [](Valid& c) { c.p.params.sm_scale = inf_f32; }, "sm_scale", "inf"},
    {"zero scale", [](Valid& c) { c.p.params.sm_scale = 0; }, "sm_scale", "0"},
    {"negative scale", [](Valid& c) { c.p.params.sm_scale = -1e-9f; }, "sm_scale", "-1e-09"},
    {"window", [](Valid& c) { c.p.params.window_left = -2; }, "window_left", "-2"},
    {"negative cap", [](Valid& c) { c.p.params.logits_soft_cap = -30; }, "logits_soft_cap", "-30"},
    {"NaN cap", [](Valid& c) { c.p.params.logits_soft_cap = nan; }, "logits_soft_cap", "nan"},
    {"infinite cap", [](Valid& c) { c.p.params.logits_soft_cap = inf_f32; }, "logits_soft_cap", "inf"},
    {"zero rope_scale", [](Valid& c) { c.p.params.rope_scale = 0; }, "rope_scale", "0"},
    {"NaN rope_theta", [](Valid& c) { c.p.params.rope_theta = nan; }, "rope_theta", "nan"},
    {"negative rope_theta", [](Valid& c) { c.p.params.rope_theta = -1; }, "rope_theta", "-1"},
    {"RoPE of an odd dim",
     [](Valid& c) { c.p.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, c.p.params.head_dim_qk = 7; },
     "head_dim_qk", "7"},
    {"no such mask", [](Valid& c) { c.p.params.mask = MaskMode{3}; }, "mask", "3"},
    {"no such encoding", [](Valid& c) { c.p.params.pos_encoding_mode = PosEncodingMode{3}; }, "pos_encoding_mode", "3"},
};

const Refusal lengths_refusals[] = {
    {"page size 0", [](Valid& c) { c.p.kv.page_size = 0; }, "page_size", "0"},
    {"pages go back", [](Valid& c) { c.kv_indptr[2] = 1; }, "paged_kv_indptr[2]", "1", 1},
    {"negative page count", [](Valid& c) { c.kv_indptr[1] = -2; }, "paged_kv_indptr[1]", "-2", 0},
    {"pages start late", [](Valid& c) { c.kv_indptr[0] = 1; }, "paged_kv_indptr[0]", "1"},
    {"short page indptr", [](Valid& c) { c.p.paged_kv_indptr = std::span(c.kv_indptr).first(3); },
     "paged_kv_indptr size", "3"},
    {"no page indptr", [](Valid& c) { c.p.paged_kv_indptr = {}; }, "paged_kv_indptr size", "0"},
    {"long page indptr", [](Valid& c) { c.p.paged_kv_indptr = c.kv_indptr; }, "paged_kv_indptr size", "5"},
    {"short indices", [](Valid& c) { c.p.paged_kv_indices = std::span(c.indices).first(2); }, "paged_kv_indices size", "2"},
    {"long indices", [](Valid& c) { c.p.paged_kv_indices = c.indices; }, "paged_kv_indices size", "4"},
    {"short last_page_len", [](Valid& c) { c.p.paged_kv_last_page_len = std::span(c.last).first(2); },
     "paged_kv_indptr size", "4"},
    {"empty last page", [](Valid& c) { c.last[2] = 0; }, "paged_kv_last_page_len[2]", "0", 2},
    {"negative last page", [](Valid& c) { c.last[0] = -1; }, "paged_kv_last_page_len[0]", "-1", 0},
    {"last page too long", [](Valid& c) { c.last[0] = 5; }, "paged_kv_last_page_len[0]", "5", 0},
    {"tokens without pages", [](Valid& c) { c.last[1] = 1; }, "paged_kv_last_page_len[1]", "1", 1},
    {"more than int32 tokens", [](Valid& c) { c.p.kv.page_size = most - 1; }, "kv_len", "2147483649", 0},
    {"page beyond the pool", [](Valid& c) { c.indices[2] = 5; }, "paged_kv_indices[2]", "5", 2},
    {"negative page", [](Valid& c) { c.indices[1] = -1; }, "paged_kv_indices[1]", "-1", 0},
    {"queries go back", [](Valid& c) { c.qo_indptr[2] = 1; }, "qo_indptr[2]", "1", 1},
    {"queries start late", [](Valid& c) { c.qo_indptr[0] = 2; }, "qo_indptr[0]", "2"},
    {"too few queries", [](Valid& c) { c.qo_indptr[3] = 4; }, "q shape[0]", "5"},
    {"long qo_indptr", [](Valid& c) { c.p.qo_indptr = c.qo_indptr; }, "qo_indptr size", "5"},
    {"null indptr", [](Valid& c) { c.p.qo_indptr = {static_cast<std::int32_t*>(nullptr), 4}; }, "qo_indptr", "null"},
    {"packed rows", [](Valid& c) { c.qo_indptr[3] = most, c.p.q.shape[0] = most; }, "qo_len * group_size", "6442450935", 2},
};

const Refusal tensor_refusals[] = {
    {"q rank", [](Valid& c) { c.p.q.rank = 2; }, "q rank", "2"},
    {"q rows", [](Valid& c) { c.p.q.shape[0] = 6; }, "q shape[0]", "6"},
    {"q heads", [](Valid& c) { c.p.q.shape[1] = 5; }, "q shape[1]", "5"},
    {"q dim", [](Valid& c) { c.p.q.shape[2] = 16; }, "q shape[2]", "16"},
    {"q stride", [](Valid& c) { c.p.q.strides[2] = 6; }, "q stride[2]", "6"},
    {"q dtype", [](Valid& c) { c.p.q.dtype = DType::f64; }, "q dtype", "f64"},
    {"no such dtype", [](Valid& c) { c.p.q.dtype = DType{77}; }, "q dtype", "77"},
    {"q null", [](Valid& c) { c.p.q.data = nullptr; }, "q", "null"},
    {"kv dtype", [](Valid& c) { c.p.kv.dtype = DType::bf16; }, "kv cache dtype", "bf16"},
    {"kv heads", [](Valid& c) { c.p.kv.num_kv_heads = 3; }, "kv cache num_kv_heads", "3"},
    {"k dim", [](Valid& c) { c.p.kv.head_dim_qk = 6; }, "k cache head_dim", "6"},
    {"v dim", [](Valid& c) { c.p.kv.head_dim_vo = 8; }, "v cache head_dim", "8"},
    {"k null", [](Valid& c) { c.p.kv.k = nullptr; }, "k cache", "null"},
    {"v null", [](Valid& c) { c.p.kv.v = nullptr; }, "v cache", "null"},
    {"negative pool", [](Valid& c) { c.p.kv.num_pages = -1; }, "num_pages", "-1"},
    {"mask without custom", [](Valid& c) { c.with_mask(), c.p.params.mask = MaskMode::causal; }, "custom_mask size", "20"},
    {"custom without mask", [](Valid& c) { c.p.params.mask = MaskMode::custom; }, "custom_mask size", "0"},
    {"mask too long", [](Valid& c) { c.with_mask(), c.p.custom_mask = c.mask; }, "custom_mask size", "21"},
    {"sinks not asked for", [](Valid& c) { c.with_sinks(), c.p.params.sinks = false; }, "sinks size", "6"},
    {"sinks missing", [](Valid& c) { c.p.params.sinks = true; }, "sinks size", "0"},
    {"a sink too many", [](Valid& c) { c.with_sinks(), c.p.sinks = c.sinks; }, "sinks size", "7"},
    {"NaN sink", [](Valid& c) { c.with_sinks(), c.sinks[4] = nan; }, "sinks[4]", "nan"},
    {"infinite sink", [](Valid& c) { c.with_sinks(), c.sinks[0] = inf_f32; }, "sinks[0]", "inf"},
    {"o rank", [](Valid& c) { c.out.o.rank = 4; }, "o rank", "4"},
    {"o dtype", [](Valid& c) { c.out.o.dtype = DType::f16; }, "o dtype", "f16"},
    {"o rows", [](Valid& c) { c.out.o.shape[0] = 4; }, "o shape[0]", "4"},
    {"o heads", [](Valid& c) { c.out.o.shape[1] = 2; }, "o shape[1]", "2"},
    {"o dim", [](Valid& c) { c.out.o.shape[2] = 8; }, "o shape[2]", "8"},
    {"o inner stride", [](Valid& c) { c.out.o.strides[2] = 0; }, "o stride[2]", "0"},
    {"o heads overlap", [](Valid& c) { c.out.o.strides[1] = 5; }, "o stride[1]", "5"},
    {"o rows overlap", [](Valid& c) { c.out.o.strides[0] = 35; }, "o stride[0]", "35"},
    {"o runs backwards", [](Valid& c) { c.out.o.strides[0] = -36; }, "o stride[0]", "-36"},
    {"o null", [](Valid& c) { c.out.o.data = nullptr; }, "o", "null"},
    {"lse size", [](Valid& c) { c.out.lse_log2 = c.lse; }, "lse_log2 size", "31"},
};

const Refusal scale_refusals[] = {
    {"no k scale", [](Valid& c) { c.p.scales.k = 0; }, "k_scale", "0"},
    {"negative v scale", [](Valid& c) { c.p.scales.v = -2; }, "v_scale", "-2"},
    {"NaN k scale", [](Valid& c) { c.p.scales.k = nan; }, "k_scale", "nan"},
    {"infinite v scale", [](Valid& c) { c.p.scales.v = inf_f32; }, "v_scale", "inf"},
    {"scales overflow", [](Valid& c) { c.p.scales.k = 1e30f, c.p.params.sm_scale = 1e30f; }, "sm_scale * k_scale", "inf"},
    {"k scales of query heads", [](Valid& c) { c.p.scales.k_per_head = c.scales; }, "k_scale_per_head", "3"},
    {"too few v scales", [](Valid& c) { c.with_scales(), c.p.scales.v_per_head = std::span(c.scales).first(1); },
     "v_scale_per_head", "1"},
    {"both k scales", [](Valid& c) { c.with_scales(), c.p.scales.k = 3; }, "k_scale", "3"},
    {"both v scales", [](Valid& c) { c.with_scales(), c.p.scales.v = 0.5f; }, "v_scale", "0.5"},
    {"a k scale of 0", [](Valid& c) { c.with_scales(), c.scales[1] = 0; }, "k_scale_per_head[1]", "0"},
    {"a NaN scale", [](Valid& c) { c.with_scales(), c.scales[0] = nan; }, "k_scale_per_head[0]", "nan"},
};

void check_refusals(std::span<const Refusal> refusals) {
  for (const Refusal& r : refusals) {
    CAPTURE(r.what);
    Valid c;
    r.breaks(c);
    try {
      validate(c.p, c.out);
      FAIL_CHECK("it was accepted");
    } catch (const InputError& e) {
      CHECK(e.argument == r.argument);
      CHECK(e.value == r.value);
      CHECK(e.request == r.request);
      const std::string message = e.what(), start = r.argument + " = " + r.value;
      CHECK(message.starts_with(start));
      CHECK(message.ends_with(": " + e.rule));
      CHECK((r.request < 0 || message.find("(request " + std::to_string(r.request) + ")") != std::string::npos));
      CHECK(e.rule.size() > 8);
    }
  }
}

void check_valid(void (*change)(Valid&)) {
  Valid c;
  change(c);
  CHECK_NOTHROW(validate(c.p, c.out));
}

}  // namespace

TEST_CASE("validate accepts what is legal") {
  check_valid([](Valid&) {});
  check_valid([](Valid& c) { c.with_mask(); });
  check_valid([](Valid& c) { c.with_mask(), c.p.params.window_left = 0; });
  check_valid([](Valid& c) { c.with_sinks(), c.sinks[2] = -inf_f32; });
  check_valid([](Valid& c) { c.p.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; });
  check_valid([](Valid& c) { c.p.params.pos_encoding_mode = PosEncodingMode::ALIBI, c.p.params.logits_soft_cap = 30; });
  check_valid([](Valid& c) { c.out.lse_log2 = {}; });
  check_valid([](Valid& c) { c.p.scales = {.k = 0.125f, .v = 448}; });
  check_valid([](Valid& c) { c.with_scales(); });
  check_valid([](Valid& c) { c.p.q.dtype = DType::bf16, c.p.kv.dtype = DType::f8_e4m3; });
  check_valid([](Valid& c) { c.p.kv.dtype = DType::f8_e5m2; });
  check_valid([](Valid& c) { c.p.q.dtype = c.p.kv.dtype = DType::f16; });
  check_valid([](Valid& c) { c.out.o.strides = {6, 30, 1}; });  // heads outside, rows inside
  check_valid([](Valid& c) {                                    // no requests at all
    c.p.qo_indptr = c.p.paged_kv_indptr = std::span(c.qo_indptr).first(1);
    c.p.paged_kv_indices = c.p.paged_kv_last_page_len = {};
    c.p.q = contiguous(nullptr, DType::f32, {0, 6, 8});
    c.out = {contiguous(nullptr, DType::f32, {0, 6, 6}), {}};
  });
}

TEST_CASE("validate refuses params") { check_refusals(params_refusals); }
TEST_CASE("validate refuses scales") { check_refusals(scale_refusals); }
TEST_CASE("validate refuses lengths and pages") { check_refusals(lengths_refusals); }
TEST_CASE("validate refuses tensors and masks and sinks and outputs") { check_refusals(tensor_refusals); }

namespace {

// Changes one thing that a caller controls: an entry or the length of an index array, a param, a shape.
void damage(Valid& c, std::mt19937& random) {
  const std::int32_t values[] = {-most - 1, -1, 0, 1, 2, 3, 4, 5, 6, 8, most};
  const std::int32_t value = values[random() % std::size(values)];
  AttentionParams& a = c.p.params;
  std::int32_t* const params[] = {&a.num_qo_heads, &a.num_kv_heads, &a.head_dim_qk, &a.head_dim_vo, &a.window_left};
  std::vector<std::int32_t>* const arrays[] = {&c.qo_indptr, &c.kv_indptr, &c.indices, &c.last};
  std::span<const std::int32_t>* const spans[] = {&c.p.qo_indptr, &c.p.paged_kv_indptr, &c.p.paged_kv_indices,
                                                  &c.p.paged_kv_last_page_len};
  const auto which = random() % 4, at = random() % 4;
  switch (random() % 6) {
    case 0: *params[random() % 5] = value; break;
    case 1: (*arrays[which])[at] = value; break;
    case 2: *spans[which] = std::span(*arrays[which]).first(at); break;
    case 3: c.p.q.shape[at % 3] = value; break;
    case 4: c.p.custom_mask = std::span(c.mask).first(random() % 22); break;
    case 5: a.mask = MaskMode(random() % 4); break;
  }
}

// Visits what a rung would: false if an index leaves its array, the pool or the rows of q.
bool safe_to_walk(const AttentionProblem& p) {
  const PageTable table = p.page_table();
  const std::vector<std::int64_t> offsets = mask_offsets(p);
  for (std::int32_t b = 0; b < p.batch(); ++b) {
    if (p.queries(b).begin < 0 || p.queries(b).end > p.q.shape[0] || p.qo_len(b) < 0 || p.kv_len(b) < 0) return false;
    for (std::int32_t t = 0; t < p.kv_len(b); ++t) {
      const std::int64_t position = table.indptr[b] + t / p.kv.page_size;
      if (position >= static_cast<std::int64_t>(p.paged_kv_indices.size())) return false;
      const KvSlot slot = table.locate(b, t);
      if (slot.page < 0 || slot.page >= p.kv.num_pages || slot.entry < 0 || slot.entry >= p.kv.page_size) return false;
    }
  }
  return p.params.mask != MaskMode::custom || offsets.back() == static_cast<std::int64_t>(p.custom_mask.size());
}

}  // namespace

TEST_CASE("ten thousand damaged problems are refused or safe to walk") {
  std::mt19937 random(17);
  int accepted = 0, refused = 0, unsafe = 0;
  for (int n = 0; n < 10000; ++n) {
    Valid c;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes) damage(c, random);
    try {
      validate(c.p, c.out);
      ++accepted;
      unsafe += !safe_to_walk(c.p);
    } catch (const InputError&) {
      ++refused;
    }
  }
  CHECK(unsafe == 0);
  CHECK(accepted > 500);
  CHECK(refused > 5000);
}
