// Specs: their sizes, their line in tables of measurements, their rules, and their form in JSON.
#include <cmath>

#include "core/visibility.hpp"
#include "ladder/cases/specs/case_json.hpp"
#include "tests/cases_helpers.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

TEST_CASE("case string: as the tables of measurements write it") {
  CaseSpec s;
  s.kv_lens.assign(32, 2048);
  s.qo_lens.assign(32, 1);
  s.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128};
  s.dtype = DType::f16;
  CHECK(case_string(s) == "B32 kv2048 32/8 p16");
  s.qo_lens.assign(32, 2048);
  s.params.mask = MaskMode::causal;
  CHECK(case_string(s) == "B32 S2048 32/8 p16 causal");
  s.qo_lens.assign(32, 512);
  s.params.mask = MaskMode::none;
  CHECK(case_string(s) == "B32 q512 kv2048 32/8 p16 full");
  s.qo_lens = {512, 512, 1, 1, 1};
  s.kv_lens.assign(5, 4096);
  CHECK(case_string(s) == "2 x q512 + 3 x q1, kv4096 32/8 p16 full");
  s.qo_lens = {1, 1, 1};
  s.kv_lens = {65536, 4096, 4096};
  s.dtype = DType::f32;
  s.kv_layout = KvLayout::HND;
  s.params.head_dim_vo = 64;
  s.params.logits_soft_cap = 0.1f;
  s.params.window_left = 5;
  CHECK(case_string(s) == "1 x 65536 + 2 x 4096 32/8 p16 d128/64 w5 cap0.1 HND f32");
  s.qo_lens = s.kv_lens = {};
  CHECK(case_string(s) == "B0 32/8 p16 d128/64 w5 cap0.1 HND f32");
  s.qo_lens = {1, 2, 3};
  s.kv_lens = {9, 8, 7};
  s.params = {.num_qo_heads = 3, .num_kv_heads = 3, .head_dim_qk = 64, .head_dim_vo = 64};
  s.params.mask = MaskMode::custom;
  s.params.sinks = true;
  s.custom_mask = CustomMask::tree;
  CHECK(case_string(s) == "B3 q1..3 (6) kv7..9 (24) 3/3 p16 d64 mask tree sinks HND f32");
}

TEST_CASE("sizes of a spec: visible pairs equal the count by the visibility rule") {
  for (const MaskMode mask : {MaskMode::none, MaskMode::causal}) {
    for (const int window : {-1, 0, 1, 4, 100}) {
      CaseSpec s = small_spec();
      s.params.mask = mask;
      s.params.window_left = window;
      std::int64_t pairs = 0;
      for (int b = 0; b < s.batch(); ++b) {
        for (int i = 0; i < s.qo_lens[b]; ++i) {
          for (int j = 0; j < s.kv_lens[b]; ++j) pairs += visible(s.params, s.qo_lens[b], s.kv_lens[b], i, j, nullptr);
        }
      }
      CAPTURE(window);
      CHECK(s.visible_pairs() == pairs);
    }
  }
  const CaseSpec s = small_spec();
  CHECK(s.nnz_qo() == 10);
  CHECK(s.total_kv() == 14);
  CHECK(s.total_pages() == 4);
  CHECK(s.mask_bytes() == 36);
}

TEST_CASE("spec validation names the key and the rule") {
  const auto with = [](auto change) {
    CaseSpec s = small_spec();
    change(s);
    return refusal([&] { validate(s); });
  };
  CHECK(with([](CaseSpec&) {}) == "");
  check_refused(with([](CaseSpec& s) { s.kv_lens = s.qo_lens = {}; }), {"kv_lens", "at least one request"});
  check_refused(with([](CaseSpec& s) { s.qo_lens.pop_back(); }), {"qo_lens = 3", "as many requests"});
  check_refused(with([](CaseSpec& s) { s.kv_lens[2] = -1; }), {"kv_lens = -1 (request 2)"});
  check_refused(with([](CaseSpec& s) { s.page_size = 0; }), {"page_size = 0"});
  check_refused(with([](CaseSpec& s) { s.qo_lens[0] = s.qo_lens[1] = 2147483647; }), {"qo_lens", "add up"});
  check_refused(with([](CaseSpec& s) { s.page_size = 1, s.kv_lens[0] = 2147483647; }), {"kv_lens", "pages"});
  check_refused(with([](CaseSpec& s) { s.params.num_qo_heads = 5; }), {"num_qo_heads = 5", "multiple"});
  check_refused(with([](CaseSpec& s) { s.params.sm_scale = NAN; }), {"sm_scale = nan"});
  check_refused(with([](CaseSpec& s) { s.params.mask = MaskMode::custom; }), {"custom_mask"});
  check_refused(with([](CaseSpec& s) { s.custom_mask = CustomMask::tree; }), {"custom_mask"});
  check_refused(with([](CaseSpec& s) { s.custom_mask = CustomMask::tree, s.params.mask = MaskMode::causal; }),
                {"custom_mask = tree", "contradicts causal"});
  check_refused(with([](CaseSpec& s) { s.dtype = DType::i32; }), {"dtype = i32"});
  check_refused(with([](CaseSpec& s) { s.dtype = DType::f16, s.values = Values::large, s.params.sm_scale = 1e-9f; }),
                {"values = large", "dtype can hold"});
}

TEST_CASE("JSON case table: the documented example and its defaults") {
  const auto specs = parse_case_table(
      R"([{"name": "append, group 7, odd pages", "seed": 18446744073709551615, "qo_lens": [37, 0, 129],
           "kv_lens": [54, 17, 8192], "num_qo_heads": 28, "num_kv_heads": 4, "head_dim": 128, "page_size": 5,
           "dtype": "f16", "kv_layout": "HND", "causal": true, "sm_scale": 0.05, "window_left": -1,
           "logits_soft_cap": 0, "pos_encoding_mode": "NONE", "sinks": false, "custom_mask": "none", "values": "normal"},
          {"kv_lens": [8, 9], "num_qo_heads": 3, "head_dim_qk": 16, "head_dim_vo": 16, "custom_mask": "tree"}])",
      "t.json");
  REQUIRE(specs.size() == 2);
  CHECK(specs[0].seed == 18446744073709551615u);
  CHECK(specs[0].qo_lens == Lengths{37, 0, 129});
  CHECK(specs[0].params.mask == MaskMode::causal);
  CHECK(specs[0].params.sm_scale == 0.05f);
  CHECK(specs[0].one_cache_tensor());
  CHECK(specs[1].qo_lens == Lengths{1, 1});
  CHECK(specs[1].params.num_kv_heads == 3);
  CHECK(specs[1].params.sm_scale == 0.25f);
  CHECK(specs[1].params.mask == MaskMode::custom);
  CHECK(specs[1].page_size == 16);
  CHECK(specs[1].dtype == DType::f32);
  CHECK_FALSE(specs[1].one_cache_tensor());
  CHECK(specs[1].name == case_string(specs[1]));

  const std::string json = case_table_json(specs);
  CHECK(contains(json, "\"sm_scale\":0.05,"));
  CHECK(case_table_json(parse_case_table(json, "again")) == json);
}

TEST_CASE("JSON case table: refusals name the case and the key") {
  const auto table = [](const std::string& text) { return refusal([&] { parse_case_table(text, "t.json"); }); };
  const auto with = [&](const std::string& more) {
    return table(R"([{"name": "n", "kv_lens": [4], "num_qo_heads": 2, "head_dim": 8)" + more + "}]");
  };
  CHECK(with("") == "");
  check_refused(table(""), {"t.json", "not valid JSON"});
  check_refused(table("[]"), {"t.json", "list of one or more"});
  check_refused(table("{}"), {"t.json", "list of one or more"});
  check_refused(table("[3]"), {"t.json, case 1", "object"});
  check_refused(table("[{}]"), {"case 1", "kv_lens", "missing"});
  check_refused(table(std::string(100000, '[')), {"nested deeper than 3"});
  check_refused(with(R"(, "kv_len": 3)"), {"case 1 \"n\"", "\"kv_len\"", "not a key"});
  check_refused(table(R"([{"kv_lens": [4], "num_qo_heads": 2, "headdim": 8}])"), {"case 1", "\"headdim\"", "not a key"});
  check_refused(table(R"([{"kv_lens": [4, 2147483648], "num_qo_heads": 2, "head_dim": 8}])"),
                {"kv_lens = 2147483648 (request 1)", "0 .. 2^31 - 1"});
  check_refused(with(R"(, "logits_soft_cap": 1e-50)"), {"logits_soft_cap = 1e-50", "too small"});
  check_refused(with(R"(, "sm_scale": 1e-40)"), {"sm_scale = 1e-40", "too small"});
  check_refused(with(R"(, "rope_theta": 1e-400)"), {"1e-400", "too small"});
  check_refused(with(R"(, "seed": 1, "seed": 2)"), {"\"seed\"", "twice"});
  check_refused(with(R"(, "seed": -1)"), {"seed = -1"});
  check_refused(with(R"(, "seed": 18446744073709551616)"), {"seed"});
  check_refused(with(R"(, "page_size": 4294967312)"), {"page_size = 4294967312"});
  check_refused(with(R"(, "page_size": "16")"), {"page_size = string"});
  check_refused(with(R"(, "page_size": 16.0)"), {"page_size = 16.0"});
  check_refused(with(R"(, "sm_scale": 1e39)"), {"sm_scale = 1e+39"});
  check_refused(with(R"(, "sm_scale": 1e999)"), {"not valid JSON"});
  check_refused(with(R"(, "sm_scale": 0)"), {"sm_scale"});
  check_refused(with(R"(, "causal": 1)"), {"causal = 1", "true or false"});
  check_refused(with(R"(, "dtype": "fp8")"), {"dtype = \"fp8\"", "f32, f16, bf16"});
  check_refused(with(R"(, "kv_dtype": "f16")"), {"kv_dtype = \"f16\"", "f32, f8_e4m3, f8_e5m2"});
  check_refused(with(R"(, "dtype": "f8_e4m3")"), {"dtype = \"f8_e4m3\"", "f32, f16, bf16"});
  check_refused(with(R"(, "kv_scales": "both")"), {"kv_scales = \"both\"", "none, number, per_head"});
  check_refused(with(R"(, "kv_dtype": "f8_e4m3", "kv_scales": "none", "values": "large", "sm_scale": 1e-4)"),
                {"values = large", "larger than the dtype can hold"});
  CHECK(with(R"(, "kv_dtype": "f8_e4m3", "values": "large", "sm_scale": 1e-4)") == "");
  check_refused(with(R"(, "custom_mask": "given")"), {"custom_mask"});
  check_refused(with(R"(, "qo_lens": 4)"), {"qo_lens = 4", "list"});
  check_refused(with(R"(, "qo_lens": [1, 2])"), {"qo_lens = 2"});
  check_refused(with(R"(, "qo_lens": [null])"), {"qo_lens = null"});
  check_refused(with(R"(, "qo_lens": [[1]])"), {"nested deeper than 3"});
  check_refused(with(R"(, "head_dim_qk": 8)"), {"head_dim", "either"});
  check_refused(with(R"(, "causal": true, "custom_mask": "tree")"), {"custom_mask = tree", "contradicts causal"});
  check_refused(with(", \"\x01\": 3"), {"not valid JSON"});
}
