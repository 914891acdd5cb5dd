#include <functional>
#include <string>
#include <utility>

#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::ladder {
namespace {

using Change = std::function<void(CaseSpec&)>;

// DeepSeek's: 512 + 64 features, 192 of which a key had before its projection was absorbed.
CaseSpec make(std::string name, std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens, std::int32_t heads,
              std::int32_t page_size, const Change& change = {}) {
  CaseSpec s{.name = "MLA " + name, .op = Op::mla, .qo_lens = std::move(qo_lens), .kv_lens = std::move(kv_lens)};
  s.page_size = page_size;
  s.combined_cache = false;
  s.params = MlaParams{.num_heads = heads, .sm_scale = default_sm_scale(192)}.attention();
  if (change) change(s);
  return s;
}

void causal(CaseSpec& s) { s.params.mask = MaskMode::causal; }
Change values(Values v) {
  return [=](CaseSpec& s) { s.values = v; };
}
Change dims(std::int32_t ckv, std::int32_t kpe) {
  return [=](CaseSpec& s) { s.params.head_dim_vo = ckv, s.params.head_dim_qk = ckv + kpe, causal(s); };
}

void add_lengths(std::vector<CaseSpec>& t) {
  t.push_back(make("lengths 0 1 P-1 P P+1", {1, 1, 1, 1, 1}, {0, 1, 63, 64, 65}, 16, 64));
  t.push_back(make("one long among many empty", {1, 0, 1, 1, 0, 1, 1}, {0, 0, 0, 1500, 0, 0, 3}, 16, 64));
  t.push_back(make("append around page edges causal", {3, 2, 15, 16, 17}, {3, 17, 15, 32, 33}, 5, 16, causal));
  t.push_back(make("no queries at all", {0, 0}, {5, 0}, 16, 4));
  t.push_back(make("qo longer than kv causal", {20, 7}, {13, 0}, 5, 16, causal));
  t.push_back(make("qo longer than kv full", {9, 3}, {4, 1}, 5, 8));
  t.push_back(make("drafts of 4 causal", {4, 4, 4}, {300, 64, 7}, 16, 64, causal));
  t.push_back(make("page size 1", {1, 3}, {77, 130}, 16, 1, causal));
  t.push_back(make("page size 5", {1, 3}, {101, 64}, 16, 5, causal));
  t.push_back(make("page size 128", {1, 2}, {129, 300}, 16, 128, causal));
}

void add_shapes(std::vector<CaseSpec>& t) {
  for (const std::int32_t heads : {1, 5, 63, 64, 65, 128, 130}) {
    t.push_back(make("heads " + std::to_string(heads), {1, 2}, {70, 33}, heads, 16, causal));
  }
  t.push_back(make("one tensor", {1, 3}, {140, 20}, 16, 64, [](CaseSpec& s) { s.combined_cache = true, causal(s); }));
  t.push_back(make("block table", {1, 1, 1}, {77, 0, 300}, 16, 64, [](CaseSpec& s) { s.block_table = true; }));
  t.push_back(make("block table of one tensor", {3, 0, 9}, {100, 40, 17}, 5, 16, [](CaseSpec& s) {
    s.block_table = s.combined_cache = true, causal(s);
  }));
  t.push_back(make("head dims 64 and 32", {1, 9}, {90, 40}, 6, 16, dims(64, 32)));
  t.push_back(make("head dims 256 and 0", {1, 9}, {90, 40}, 3, 16, dims(256, 0)));
  for (const DType dtype : {DType::f16, DType::bf16}) {
    t.push_back(make(std::string(name_of(dtype)), {1, 3, 1}, {200, 77, 0}, 16, 64, [=](CaseSpec& s) {
      s.dtype = dtype, causal(s);
    }));
  }
}

void add_fp8(std::vector<CaseSpec>& t) {
  const auto fp8 = [](DType q, DType rows, const Change& change = {}) {
    return [=](CaseSpec& s) {
      s.dtype = q, s.kv_dtype = rows, s.kv_scales = KvScaling::number, causal(s);
      if (change) change(s);
    };
  };
  t.push_back(make("fp8 with f16", {1, 3, 1}, {200, 77, 0}, 16, 64, fp8(DType::f16, DType::f8_e4m3)));
  t.push_back(make("fp8 with bf16", {1, 2, 1}, {129, 64, 31}, 65, 16, fp8(DType::bf16, DType::f8_e4m3)));
  t.push_back(make("fp8 of one tensor", {1, 1}, {300, 33}, 20, 5, fp8(DType::f16, DType::f8_e4m3, [](CaseSpec& s) {
    s.combined_cache = s.block_table = true;
  })));
  t.push_back(make("fp8 without a scale", {4}, {130}, 16, 64, fp8(DType::f16, DType::f8_e4m3, [](CaseSpec& s) {
    s.kv_scales = KvScaling::none;
  })));
  t.push_back(make("fp8 e5m2 with f32", {2, 1}, {90, 40}, 5, 16, fp8(DType::f32, DType::f8_e5m2)));
  t.push_back(make("fp8 equal logits", {1, 9}, {300, 40}, 5, 16, fp8(DType::f16, DType::f8_e4m3, values(Values::equal))));
  t.push_back(make("a scale of 16 bits", {1, 3}, {200, 77}, 16, 64, [](CaseSpec& s) {
    s.dtype = DType::f16, s.kv_scales = KvScaling::number, causal(s);
  }));
}

void add_values(std::vector<CaseSpec>& t) {
  t.push_back(make("logits near 1e5", {1, 9}, {300, 40}, 5, 16, values(Values::large)));
  t.push_back(make("equal logits", {1, 9}, {300, 40}, 5, 16, values(Values::equal)));
  t.push_back(make("maximum in the first tile", {1, 9}, {700, 400}, 5, 16, values(Values::first_max)));
  t.push_back(make("maximum in the last tile", {1, 9}, {700, 400}, 5, 16, values(Values::last_max)));
  t.push_back(make("large sm_scale", {4}, {200}, 5, 16, [](CaseSpec& s) { s.params.sm_scale = 1.0f; }));
}

}  // namespace

std::vector<CaseSpec> mla_case_table() {
  std::vector<CaseSpec> table;
  add_lengths(table);
  add_shapes(table);
  add_values(table);
  add_fp8(table);
  for (std::size_t i = 0; i < table.size(); ++i) table[i].seed = 1001 + i;
  return table;
}

std::vector<CaseSpec> all_cases() {
  std::vector<CaseSpec> all = case_table();
  for (CaseSpec& spec : mla_case_table()) all.push_back(std::move(spec));
  return all;
}

CaseSpec random_mla_spec(std::uint64_t seed) {
  Random random(seed, 78);  // a stream of its own
  const auto pick = [&](std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(high - low + 1)));
  };
  const auto one_in = [&](std::uint32_t n) { return random.below(n) == 0; };

  CaseSpec s = make("random " + std::to_string(seed), {}, {}, one_in(2) ? pick(1, 20) : 1 << pick(0, 6), pick(1, 70));
  s.seed = seed;
  const bool decode = one_in(2);
  for (std::int32_t b = pick(1, 4); b > 0; --b) {
    s.qo_lens.push_back(decode ? 1 : one_in(8) ? 0 : pick(1, 5));
    s.kv_lens.push_back(one_in(8) ? 0 : pick(1, one_in(4) ? 400 : 60));
  }
  if (one_in(2)) causal(s);
  if (one_in(3)) s.params.sm_scale = 0.01f * static_cast<float>(pick(1, 30));
  s.dtype = static_cast<DType>(pick(0, 2));
  s.combined_cache = one_in(2);
  s.block_table = one_in(4);
  if (one_in(5)) s.values = static_cast<Values>(pick(0, s.dtype == DType::f32 ? 4 : 1));
  if (one_in(3)) s.kv_dtype = one_in(4) ? DType::f8_e5m2 : DType::f8_e4m3, s.kv_scales = static_cast<KvScaling>(pick(0, 1));
  return s;
}

}  // namespace flashladder::ladder
