// Cases for the GPU rungs: the case table and random ones as they are, turned into decode cases that more rungs take and
// that a split has something to cut in, and into prefill cases that the fast prefill rungs take. A rung refuses what it does
// not take; the tests count what it took.
#pragma once

#include <utility>
#include <vector>

#include "core/range.hpp"
#include "gpu/decode/decode.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::test {

// The spec with q, K and V in one dtype.
inline ladder::CaseSpec in_one_dtype(ladder::CaseSpec spec, DType dtype) {
  spec.dtype = dtype, spec.kv_dtype = {}, spec.kv_scales = ladder::KvScaling::none;
  return spec;
}

// The spec with one query for each request, and head dims to the next of 64, 128, 256.
inline ladder::CaseSpec as_decode(ladder::CaseSpec spec, DType dtype) {
  spec = in_one_dtype(std::move(spec), dtype);
  AttentionParams& p = spec.params;
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  p.head_dim_qk = p.head_dim_vo = p.head_dim_qk <= 64 ? 64 : p.head_dim_qk <= 128 ? 128 : 256;
  spec.name += std::string(" as decode ") + name_of(dtype);
  return spec;
}

// ... and without what only the variant General computes: what every decode rung takes.
inline ladder::CaseSpec as_plain_decode(ladder::CaseSpec spec, DType dtype) {
  spec = as_decode(spec, dtype);
  AttentionParams& p = spec.params;
  spec.custom_mask = ladder::CustomMask::none;
  if (p.mask == MaskMode::custom) p.mask = MaskMode::none;
  p.pos_encoding_mode = PosEncodingMode::NONE;
  p.logits_soft_cap = 0;
  return spec;
}

// The spec as it is, with any number of queries, but in the dtype and head dims that all prefill rungs take, and without
// what only the variant General computes.
inline ladder::CaseSpec as_plain_prefill(ladder::CaseSpec spec) {
  const std::vector<std::int32_t> qo_lens = spec.qo_lens;
  spec = as_plain_decode(spec, DType::f16);
  spec.qo_lens = qo_lens;
  spec.params.head_dim_qk = spec.params.head_dim_vo = 128;
  spec.name += " as prefill";
  return spec;
}

// ... on pages that arrive in boxes, as all of the rungs for Hopper take them.
inline ladder::CaseSpec in_boxes(ladder::CaseSpec spec) {
  spec.page_size = div_up(spec.page_size, 8) * 8;
  spec.name += " in boxes";
  return spec;
}

// With RoPE inside attention, logits near 1e5 decide nothing where q and K are rounded to 16 bits once more; and with scales
// float's tolerance of them is, where weights are rounded to 16 bits too, what a wrong answer may be off by.
inline ladder::CaseSpec decidable(ladder::CaseSpec spec) {
  const bool rope = spec.params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA;
  const bool scaled = spec.kv_scales != ladder::KvScaling::none;
  if ((rope || scaled) && spec.values == ladder::Values::large) spec.values = ladder::Values::normal;
  return spec;
}

// D6 rotates 16-bit keys alone.
inline ladder::CaseSpec without_rope(ladder::CaseSpec spec) {
  PosEncodingMode& mode = spec.params.pos_encoding_mode;
  if (mode == PosEncodingMode::ROPE_LLAMA) mode = PosEncodingMode::NONE;
  return spec;
}

// The spec on a cache of E4M3, without a scale, with one, or with one for each head: choice 0 .. 2.
inline ladder::CaseSpec on_fp8(ladder::CaseSpec spec, std::uint64_t choice) {
  if (spec.dtype == DType::f32) spec.dtype = DType::f16;
  if (spec.values == ladder::Values::large) spec.values = ladder::Values::normal;
  if (spec.kv_dtype) spec.kv_dtype = DType::f8_e4m3;
  spec.kv_dtype = DType::f8_e4m3;
  spec.kv_scales = static_cast<ladder::KvScaling>(choice % 3);
  spec.name += std::string(" on fp8, scales ") + ladder::name_of(spec.kv_scales);
  return spec;
}

// The spec with all its features, in one of the dtypes and pairs of head dims that P5 takes: choice 0 .. 7.
inline constexpr std::uint64_t f16_and_128 = 3;
inline ladder::CaseSpec as_prefill(ladder::CaseSpec spec, std::uint64_t choice) {
  constexpr std::int32_t dims[][2] = {{64, 64}, {128, 128}, {256, 256}, {192, 128}};
  spec = in_one_dtype(std::move(spec), choice % 2 ? DType::f16 : DType::bf16);
  AttentionParams& p = spec.params;
  p.head_dim_qk = dims[choice / 2 % 4][0], p.head_dim_vo = dims[choice / 2 % 4][1];
  spec.name += " as prefill " + std::to_string(choice % 8);
  return decidable(spec);
}

// A spec of op mla in the sizes and a dtype that the GPU's rungs of it take. Logits near 1e5 decide nothing there.
inline ladder::CaseSpec as_latent(ladder::CaseSpec spec, DType dtype) {
  spec.dtype = dtype;
  spec.params.head_dim_vo = 512, spec.params.head_dim_qk = 512 + 64;
  if (spec.values == ladder::Values::large) spec.values = ladder::Values::normal;
  spec.name += std::string(" in ") + name_of(dtype);
  return spec;
}

// So many keys that on few SMs a warp of D6 forms its angles anew within an item.
inline ladder::CaseSpec long_rope(DType dtype) {
  return {.name = std::string("rope over 9000 keys ") + name_of(dtype), .seed = 1, .qo_lens = {1}, .kv_lens = {9000},
          .params = {.num_qo_heads = 2, .num_kv_heads = 1, .head_dim_qk = 128, .head_dim_vo = 128,
                     .sm_scale = default_sm_scale(128), .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA},
          .dtype = dtype};
}

// Every case of the table as it is, as decode with all its features, and without those of General; as prefill without those,
// on its own pages and on pages that arrive in boxes, and with them.
inline std::vector<ladder::CaseSpec> gpu_table() {
  std::vector<ladder::CaseSpec> table = ladder::case_table();
  for (const ladder::CaseSpec& spec : ladder::case_table()) {
    for (const DType dtype : {DType::f16, DType::bf16}) table.push_back(as_decode(spec, dtype));
    ladder::CaseSpec plain = as_plain_decode(spec, DType::f16);
    if (plain.params.head_dim_qk > 128) plain.params.head_dim_qk = plain.params.head_dim_vo = 128;
    plain.name += " plain";
    table.push_back(plain);
    table.push_back(as_plain_prefill(spec));
    table.push_back(in_boxes(as_plain_prefill(spec)));
    table.push_back(as_prefill(spec, table.size() / 6));
    const std::size_t fp8 = table.size() / 10;
    table.push_back(on_fp8(as_decode(spec, fp8 % 2 ? DType::f16 : DType::bf16), fp8));
    table.push_back(on_fp8(as_plain_prefill(spec), fp8));
    table.push_back(on_fp8(as_prefill(spec, fp8), fp8 + 1));
  }
  for (const DType dtype : {DType::f16, DType::bf16}) table.push_back(long_rope(dtype));
  return table;
}

inline ladder::CaseSpec random_decode(std::uint64_t seed) {
  ladder::CaseSpec spec = as_decode(ladder::random_spec(seed), seed % 2 ? DType::f16 : DType::bf16);
  ladder::Random random(seed, 78);
  spec.params.head_dim_qk = spec.params.head_dim_vo = 64 << random.below(3);
  spec.params.num_qo_heads = spec.params.num_kv_heads * static_cast<std::int32_t>(1 + random.below(17));
  for (std::int32_t& len : spec.kv_lens) {
    if (random.below(3) == 0) len = static_cast<std::int32_t>(random.below(3000));
  }
  return spec;
}

// Up to as many queries a request as D6 takes beside each other.
inline ladder::CaseSpec random_few_queries(std::uint64_t seed) {
  ladder::CaseSpec spec = random_decode(seed);
  ladder::Random random(seed, 80);
  AttentionParams& p = spec.params;
  spec.custom_mask = ladder::CustomMask::none;
  p.mask = random.below(4) == 0 ? MaskMode::none : MaskMode::causal;
  p.pos_encoding_mode = PosEncodingMode::NONE;
  p.num_qo_heads = p.num_kv_heads * static_cast<std::int32_t>(1 + random.below(8));
  const auto most = static_cast<std::uint32_t>(gpu::d6::most_queries(p));
  for (std::size_t b = 0; b < spec.qo_lens.size(); ++b) {
    spec.qo_lens[b] = static_cast<std::int32_t>(random.below(most + 1));
    if (random.below(3) == 0) spec.kv_lens[b] = static_cast<std::int32_t>(random.below(40));
  }
  if (p.window_left < 0 && random.below(3) == 0) p.window_left = static_cast<std::int32_t>(random.below(300));
  spec.name += " few queries";
  return spec;
}

// What the public decode class takes on the GPU: D6's features, page lists, no custom mask.
inline ladder::CaseSpec for_decode_class(ladder::CaseSpec spec) {
  AttentionParams& p = spec.params;
  spec.custom_mask = ladder::CustomMask::none;
  spec.block_table = false;
  if (p.mask == MaskMode::custom) p.mask = MaskMode::none;
  return spec;
}

// Many queries a request, and what the fast prefill rungs take: their head dims, and most often pages of 8 or more.
inline ladder::CaseSpec random_fast_prefill(std::uint64_t seed) {
  ladder::CaseSpec spec = ladder::random_spec(seed);
  ladder::Random random(seed, 79);
  AttentionParams& p = spec.params;
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random.below(n)); };
  constexpr std::int32_t dims[][2] = {{64, 64}, {128, 128}, {128, 128}, {192, 128}, {256, 256}};
  const auto [qk, vo] = dims[below(5)];
  p.head_dim_qk = qk, p.head_dim_vo = vo;
  spec = in_one_dtype(spec, below(3) == 0 ? DType::bf16 : DType::f16);
  if (spec.values == ladder::Values::large) spec.values = ladder::Values::normal;
  if (below(5) != 0) spec.page_size = (1 + below(4)) << (3 + below(4));
  for (std::size_t b = 0; b < spec.qo_lens.size(); ++b) {
    std::int32_t &qo = spec.qo_lens[b], &kv = spec.kv_lens[b];
    if (below(2) == 0) qo = below(300);
    if (below(2) == 0) kv = below(1200);
    if (below(3) == 0) kv = qo + below(500);
    if (qo > kv && below(4) != 0) qo = kv;
  }
  return spec;
}

// Prefill without features, or with them (choice of as_prefill); lengths over the edges of several tiles more often.
inline ladder::CaseSpec random_prefill(std::uint64_t seed, bool plain) {
  ladder::CaseSpec spec = ladder::random_spec(seed);
  ladder::Random random(seed, 79);
  for (std::int32_t& len : spec.qo_lens) {
    if (random.below(4) == 0) len = static_cast<std::int32_t>(random.below(200));
  }
  for (std::int32_t& len : spec.kv_lens) {
    if (random.below(4) == 0) len = static_cast<std::int32_t>(random.below(500));
  }
  if (plain) return random.below(4) == 0 ? as_plain_prefill(spec) : in_boxes(as_plain_prefill(spec));
  return as_prefill(spec, random.below(8));
}

// In turn: anything that the ladder takes; decode with features, and without, and of few queries; prefill with features, and
// without, and on pages and in head dims that the fast rungs take. A fourth of them on fp8 caches.
inline ladder::CaseSpec random_gpu_case(std::uint64_t seed) {
  if (seed / 7 % 4 == 0) return on_fp8(random_gpu_case(seed + 7), seed / 28);
  switch (seed % 7) {
    case 0: return ladder::random_spec(seed);
    case 1: return as_plain_decode(random_decode(seed), DType::f16);
    case 2: return random_prefill(seed, true);
    case 3: return random_prefill(seed, false);
    case 4: return random_fast_prefill(seed);
    case 5: return random_few_queries(seed);
    default: return random_decode(seed);
  }
}

}  // namespace flashladder::test
