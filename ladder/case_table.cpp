#include "ladder/case_table.hpp"

#include <functional>
#include <string>

#include "ladder/cases/drawn/random.hpp"

namespace flashladder::ladder {
namespace {

using Change = std::function<void(CaseSpec&)>;

CaseSpec make(std::string name, std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens, std::int32_t qo_heads,
              std::int32_t kv_heads, std::int32_t head_dim, std::int32_t page_size, const Change& change = {}) {
  CaseSpec s{.name = std::move(name), .qo_lens = std::move(qo_lens), .kv_lens = std::move(kv_lens)};
  s.page_size = page_size;
  s.params = {.num_qo_heads = qo_heads, .num_kv_heads = kv_heads, .head_dim_qk = head_dim, .head_dim_vo = head_dim,
              .sm_scale = default_sm_scale(head_dim)};
  if (change) change(s);
  return s;
}

void causal(CaseSpec& s) { s.params.mask = MaskMode::causal; }
Change window(std::int32_t w, MaskMode mask = MaskMode::none) {
  return [=](CaseSpec& s) { s.params.window_left = w, s.params.mask = mask; };
}
Change values(Values v) {
  return [=](CaseSpec& s) { s.values = v; };
}
Change custom(CustomMask m, std::int32_t w = -1) {
  return [=](CaseSpec& s) { s.custom_mask = m, s.params.mask = MaskMode::custom, s.params.window_left = w; };
}
Change blocks(const Change& change = {}) {
  return [=](CaseSpec& s) {
    s.block_table = true;
    if (change) change(s);
  };
}
Change dtype(DType t) {
  return [=](CaseSpec& s) { s.dtype = t; };
}

void add_lengths(std::vector<CaseSpec>& t) {
  t.push_back(make("lengths 0 1 P-1 P P+1", {1, 1, 1, 1, 1}, {0, 1, 15, 16, 17}, 4, 2, 64, 16));
  t.push_back(make("append around page edges causal", {3, 2, 15, 16, 17}, {3, 17, 15, 32, 33}, 4, 2, 64, 16, causal));
  t.push_back(make("one long among many empty", {1, 0, 1, 1, 0, 1, 1}, {0, 0, 0, 1500, 0, 0, 3}, 4, 4, 64, 16));
  t.push_back(make("no queries at all", {0, 0}, {5, 0}, 2, 2, 64, 4));
  t.push_back(make("qo longer than kv causal", {40, 7, 200}, {13, 0, 128}, 4, 2, 64, 16, causal));
  t.push_back(make("qo longer than kv full", {40, 3}, {13, 1}, 2, 1, 64, 8));
  t.push_back(make("page size 1", {1, 20}, {77, 130}, 4, 1, 64, 1, causal));
  t.push_back(
      make("page size 5 HND", {9, 1}, {101, 64}, 4, 2, 64, 5, [](CaseSpec& s) { s.kv_layout = KvLayout::HND, causal(s); }));
  t.push_back(make("one page holds all", {6}, {50}, 2, 2, 64, 64, causal));
  t.push_back(make("decode long", {1}, {3000}, 2, 1, 128, 16));
  t.push_back(make("prefill over tile edges", {63, 64, 65, 129}, {63, 128, 129, 257}, 2, 1, 64, 16, causal));
}

void add_shapes(std::vector<CaseSpec>& t) {
  for (const std::int32_t group : {1, 3, 4, 5, 7, 8}) {
    t.push_back(make("group " + std::to_string(group), {1, 33, 5}, {70, 90, 300}, 2 * group, 2, 64, 16, causal));
  }
  for (const std::int32_t dim : {1, 33, 96, 128, 256}) {
    t.push_back(make("head dim " + std::to_string(dim), {1, 17}, {150, 40}, 4, 2, dim, 16, causal));
  }
  t.push_back(
      make("head dims 192 and 128", {1, 9}, {60, 140}, 4, 4, 192, 16, [](CaseSpec& s) { s.params.head_dim_vo = 128; }));
  t.push_back(make("head dims 64 and 96 HND", {12}, {140}, 3, 1, 64, 16, [](CaseSpec& s) {
    s.params.head_dim_vo = 96, s.kv_layout = KvLayout::HND;
  }));
  t.push_back(make("two cache tensors", {5, 1}, {40, 99}, 4, 2, 64, 16, [](CaseSpec& s) { s.combined_cache = false; }));
  t.push_back(make("fp16", {1, 30}, {200, 77}, 8, 2, 64, 16, dtype(DType::f16)));
  t.push_back(make("bf16", {1, 30}, {200, 77}, 8, 2, 64, 16, dtype(DType::bf16)));
}

void add_values(std::vector<CaseSpec>& t) {
  t.push_back(make("logits near 1e5", {1, 20}, {300, 40}, 4, 2, 64, 16, values(Values::large)));
  t.push_back(make("logits near -1e5 only", {30}, {30}, 4, 2, 64, 16, [](CaseSpec& s) {
    s.values = Values::large, causal(s);  // the first rows see few keys: for some of them every logit is near -1e5
  }));
  t.push_back(make("head dim 256 and logits near 1e5", {1, 20}, {300, 150}, 8, 1, 256, 16, values(Values::large)));
  t.push_back(make("window 1 and logits near 1e5", {200}, {270}, 4, 2, 64, 16, [](CaseSpec& s) {
    s.values = Values::large, window(1, MaskMode::causal)(s);  // the same, behind tiles of keys of which they see none
  }));
  t.push_back(make("equal logits", {1, 20}, {300, 40}, 4, 2, 64, 16, values(Values::equal)));
  t.push_back(make("maximum in the first tile", {1, 20}, {700, 400}, 4, 2, 64, 16, values(Values::first_max)));
  t.push_back(make("maximum in the last tile", {1, 20}, {700, 400}, 4, 2, 64, 16, values(Values::last_max)));
  t.push_back(make("large sm_scale", {4}, {200}, 2, 2, 64, 16, [](CaseSpec& s) { s.params.sm_scale = 3.0f; }));
}

void add_features(std::vector<CaseSpec>& t) {
  const std::vector<std::int32_t> qo{1, 33, 4}, kv{120, 70, 300};
  for (const std::int32_t w : {0, 16, 127}) {
    t.push_back(make("window " + std::to_string(w) + " causal", qo, kv, 4, 2, 64, 16, window(w, MaskMode::causal)));
    t.push_back(make("window " + std::to_string(w) + " full", qo, kv, 4, 2, 64, 16, window(w)));
  }
  t.push_back(make("window with qo longer than kv", {90}, {30}, 2, 1, 64, 16, window(7, MaskMode::causal)));
  t.push_back(make("soft cap 5", qo, kv, 4, 2, 64, 16, [](CaseSpec& s) { s.params.logits_soft_cap = 5; }));
  t.push_back(make("alibi 6 heads", qo, kv, 6, 2, 64, 16, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ALIBI, causal(s);
  }));
  t.push_back(make("alibi and soft cap", qo, kv, 4, 2, 64, 16, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ALIBI, s.params.logits_soft_cap = 3, s.params.sm_scale = 0.5f;
  }));
  t.push_back(make("rope", qo, kv, 4, 2, 64, 16, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, causal(s);
  }));
  t.push_back(make("rope scale and theta", {2, 40}, {90, 30}, 2, 2, 64, 16, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, s.params.rope_scale = 8, s.params.rope_theta = 500000;
  }));
  t.push_back(make("rope soft cap window", qo, kv, 4, 2, 64, 16, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, s.params.logits_soft_cap = 5, window(100)(s);
  }));
  t.push_back(make("sinks", {1, 12, 3}, {100, 12, 0}, 4, 2, 64, 16, [](CaseSpec& s) { s.params.sinks = true, causal(s); }));
  for (const CustomMask m : {CustomMask::causal, CustomMask::tree, CustomMask::random, CustomMask::empty_rows}) {
    t.push_back(make(std::string("custom mask ") + name_of(m), {5, 1, 20}, {40, 9, 150}, 4, 2, 64, 16, custom(m)));
  }
  t.push_back(make("custom mask and window", {5, 20}, {40, 150}, 4, 2, 64, 16, custom(CustomMask::random, 30)));
  // Rows of bits begin anywhere in a word and end within one; tiles see all keys, all but a few, or none.
  t.push_back(make("custom mask holes", {3, 70, 1, 33}, {31, 333, 64, 700}, 4, 2, 64, 16, custom(CustomMask::holes)));
  t.push_back(make("custom mask holes, window and cut often", {40, 1, 9}, {1501, 0, 97}, 4, 2, 64, 5,
                   custom(CustomMask::holes, 1188)));
  t.push_back(make("custom mask holes and alibi", {20, 5}, {130, 257}, 6, 2, 64, 16, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ALIBI, custom(CustomMask::holes)(s);
  }));
  t.push_back(make("drafts of few queries causal", {4, 3, 1, 0, 2, 4}, {700, 4, 16, 9, 65, 3}, 8, 2, 64, 16, causal));
  t.push_back(make("drafts of few queries and a window", {2, 4, 3}, {300, 41, 130}, 8, 2, 64, 16,
                   window(37, MaskMode::causal)));
  t.push_back(make("custom mask tree on a long prefix", {9, 64}, {1300, 300}, 4, 2, 64, 16, custom(CustomMask::tree)));
}

void add_block_tables(std::vector<CaseSpec>& t) {
  t.push_back(make("block table decode", {1, 1, 1, 1}, {77, 0, 700, 16}, 8, 2, 64, 16, blocks()));
  t.push_back(make("block table append HND causal", {9, 0, 30}, {100, 40, 300}, 6, 2, 64, 5, blocks([](CaseSpec& s) {
    s.kv_layout = KvLayout::HND, causal(s);
  })));
  t.push_back(make("block table page size 1", {1, 20}, {33, 130}, 4, 1, 64, 1, blocks(window(50, MaskMode::causal))));
}

// Scales are what is drawn, so that a lost one is far off; head dims and lengths of every kind.
void add_fp8(std::vector<CaseSpec>& t) {
  const auto fp8 = [](DType q, DType kv = DType::f8_e4m3, KvScaling scales = KvScaling::number, const Change& change = {}) {
    return [=](CaseSpec& s) {
      s.dtype = q, s.kv_dtype = kv, s.kv_scales = scales;
      if (change) change(s);
    };
  };
  constexpr DType f16 = DType::f16, bf16 = DType::bf16, e4m3 = DType::f8_e4m3, e5m2 = DType::f8_e5m2;
  t.push_back(make("fp8 decode", {1, 1, 1, 1}, {300, 0, 77, 1}, 8, 2, 128, 16, fp8(f16)));
  t.push_back(make("fp8 decode HND block table", {1, 1}, {700, 16}, 8, 2, 64, 16, blocks(fp8(bf16, e4m3, KvScaling::per_head,
    [](CaseSpec& s) { s.kv_layout = KvLayout::HND; }))));
  t.push_back(make("fp8 append scales per head", {9, 1, 30}, {100, 40, 300}, 6, 3, 64, 5,
                   fp8(f16, e4m3, KvScaling::per_head, causal)));
  t.push_back(make("fp8 E5M2", {1, 33}, {130, 90}, 4, 2, 128, 16, fp8(f16, e5m2)));
  t.push_back(make("fp8 as stored and q in f32", {3, 1}, {60, 130}, 4, 2, 64, 16, fp8(DType::f32, e4m3, KvScaling::none)));
  t.push_back(make("fp8 and logits near 1e5", {1, 20}, {300, 40}, 4, 2, 64, 16, fp8(f16, e4m3, KvScaling::number,
                                                                                    values(Values::large))));
  t.push_back(make("fp8 maximum in the last tile", {1, 20}, {700, 400}, 4, 2, 64, 16, fp8(f16, e4m3, KvScaling::number,
                                                                                          values(Values::last_max))));
  t.push_back(make("fp8 soft cap sinks window", {1, 33, 4}, {120, 70, 300}, 4, 2, 64, 16,
                   fp8(bf16, e4m3, KvScaling::number, [](CaseSpec& s) {
                     s.params.logits_soft_cap = 5, s.params.sinks = true, window(100, MaskMode::causal)(s);
                   })));
  t.push_back(make("fp8 rope", {1, 33, 4}, {120, 70, 300}, 4, 2, 64, 16, fp8(f16, e4m3, KvScaling::per_head, [](CaseSpec& s) {
    s.params.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA, causal(s);
  })));
  t.push_back(make("fp8 head dims 192 and 128", {1, 9}, {60, 140}, 4, 4, 192, 16, fp8(f16, e4m3, KvScaling::number,
    [](CaseSpec& s) { s.params.head_dim_vo = 128; })));
  t.push_back(make("scales of a 16-bit cache", {1, 20}, {77, 130}, 4, 2, 64, 16, [](CaseSpec& s) {
    s.dtype = DType::f16, s.kv_scales = KvScaling::per_head, causal(s);
  }));
}

}  // namespace

std::vector<CaseSpec> case_table() {
  std::vector<CaseSpec> table;
  add_lengths(table);
  add_shapes(table);
  add_values(table);
  add_features(table);
  add_block_tables(table);
  add_fp8(table);
  for (std::size_t i = 0; i < table.size(); ++i) table[i].seed = i + 1;
  return table;
}

CaseSpec random_spec(std::uint64_t seed) {
  Random random(seed, 77);  // a stream of its own: the values of the case are drawn from the seed too
  const auto pick = [&](std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random.below(high - low + 1));
  };
  const auto one_in = [&](std::uint32_t n) { return random.below(n) == 0; };

  const std::int32_t kv_heads = pick(1, 3), group = pick(1, 8);
  CaseSpec s = make("random " + std::to_string(seed), {}, {}, kv_heads * group, kv_heads, pick(1, 12) * 8, pick(1, 20));
  s.seed = seed;
  const bool decode = one_in(3);
  for (std::int32_t b = pick(1, 4); b > 0; --b) {
    s.qo_lens.push_back(decode ? 1 : one_in(8) ? 0 : pick(1, one_in(6) ? 90 : 20));
    s.kv_lens.push_back(one_in(8) ? 0 : pick(1, one_in(4) ? 400 : 60));
  }
  AttentionParams& p = s.params;
  if (one_in(4)) p.head_dim_vo = pick(1, 70);
  if (one_in(4)) p.sm_scale = 0.01f * static_cast<float>(pick(1, 100));
  s.dtype = static_cast<DType>(pick(0, 2));
  s.kv_layout = one_in(2) ? KvLayout::HND : KvLayout::NHD;
  s.combined_cache = one_in(2);
  p.mask = one_in(2) ? MaskMode::causal : MaskMode::none;
  if (one_in(5)) custom(static_cast<CustomMask>(pick(1, 5)))(s);
  if (one_in(3)) p.window_left = pick(0, 100);
  if (one_in(4)) p.logits_soft_cap = 0.5f * static_cast<float>(pick(1, 60));
  if (one_in(3)) p.pos_encoding_mode = one_in(2) ? PosEncodingMode::ALIBI : PosEncodingMode::ROPE_LLAMA;
  if (one_in(2)) p.rope_theta = 500000, p.rope_scale = static_cast<float>(pick(1, 8));
  p.sinks = one_in(4);
  if (one_in(4)) s.values = static_cast<Values>(pick(0, s.dtype == DType::f32 ? 4 : 1));
  s.block_table = one_in(4);
  if (one_in(4)) s.kv_dtype = one_in(4) ? DType::f8_e5m2 : DType::f8_e4m3;
  if (s.kv_dtype || one_in(8)) s.kv_scales = static_cast<KvScaling>(pick(0, 2));
  return s;
}

}  // namespace flashladder::ladder
