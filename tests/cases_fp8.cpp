// fp8 in specs, in JSON and in case files.
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/file_tensors.hpp"
#include "ladder/cases/specs/case_json.hpp"
#include "tests/cases_helpers.hpp"
#include "tests/changed_case.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

TEST_CASE("case string: fp8 caches have torch's names") {
  CaseSpec s{.name = "", .qo_lens = {1, 1}, .kv_lens = {2048, 2048}, .dtype = DType::f16, .kv_dtype = DType::f8_e4m3,
             .kv_scales = KvScaling::number};
  s.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128};
  CHECK(case_string(s) == "B2 kv2048 32/8 p16 float8_e4m3fn");
  s.kv_dtype = DType::f8_e5m2, s.dtype = DType::bf16, s.kv_scales = KvScaling::per_head;
  CHECK(case_string(s) == "B2 kv2048 32/8 p16 bf16 float8_e5m2 kv_scales per_head");
  s.kv_scales = KvScaling::none;
  CHECK(case_string(s) == "B2 kv2048 32/8 p16 bf16 float8_e5m2 kv_scales none");
  s.kv_dtype = {}, s.kv_scales = KvScaling::number;
  CHECK(case_string(s) == "B2 kv2048 32/8 p16 bf16 kv_scales number");
}

TEST_CASE("JSON case table: fp8 has a scale and others none unless it is said") {
  const auto parsed = [](const std::string& more) {
    return parse_case_table(R"([{"kv_lens": [5], "num_qo_heads": 2, "head_dim": 8)" + more + "}]", "table").front();
  };
  CHECK(parsed("").kv_scales == KvScaling::none);
  CHECK(parsed(R"(, "kv_scales": "per_head")").kv_scales == KvScaling::per_head);
  CHECK_FALSE(parsed(R"(, "kv_dtype": "f32")").kv_dtype);
  const CaseSpec usual = parsed(R"(, "kv_dtype": "f8_e5m2", "dtype": "bf16")");
  CHECK(usual.kv_dtype == DType::f8_e5m2);
  CHECK(usual.kv_scales == KvScaling::number);
  const std::vector<CaseSpec> specs{usual, parsed(R"(, "kv_dtype": "f8_e4m3", "kv_scales": "none")")};
  const std::vector<CaseSpec> again = parse_case_table(case_table_json(specs), "again");
  for (std::size_t i = 0; i < specs.size(); ++i) {
    CHECK(again[i].kv_dtype == specs[i].kv_dtype);
    CHECK(again[i].kv_scales == specs[i].kv_scales);
  }
}

TEST_CASE("case file: scales come as tensors or as numbers and not as both") {
  CaseSpec s = small_spec();
  s.dtype = DType::f16, s.kv_dtype = DType::f8_e4m3, s.kv_scales = KvScaling::per_head;
  const std::vector<float> one{0.25f}, zero{0.25f, 0.0f}, four(4, 1.0f);
  const auto tensor = [](const std::vector<float>& values) { return lend(values, FileDType::F32); };
  const auto read = [&](auto change) { return parse_case(changed_case_bytes(draw_case(s), "f", change), "f"); };
  const auto said = [&](auto change) { return refusal([&] { read(change); }); };
  const Case c = read([&](Safetensors& f) { f.tensors["k_scale"] = tensor(one), f.tensors.erase("v_scale"); });
  CHECK(c.problem().scales.k == 0.25f);
  CHECK(c.problem().scales.v == 1);
  CHECK(c.spec.kv_scales == KvScaling::number);
  const auto in_metadata = [&](Safetensors& f) { f.tensors.erase("v_scale"), f.metadata["v_scale"] = "0.5"; };
  CHECK(read(in_metadata).problem().scales.v == 0.5f);
  CHECK(read(in_metadata).spec.kv_scales == KvScaling::per_head);  // K's
  check_refused(said([&](Safetensors& f) { f.metadata["k_scale"] = "2"; }), {"f: k_scale", "twice"});
  check_refused(said([&](Safetensors& f) { f.tensors["v_scale"] = tensor(four); }), {"v_scale shape[0] = 4", "num_kv_heads"});
  check_refused(said([&](Safetensors& f) { f.tensors["k_scale"] = tensor(zero); }), {"k_scale_per_head[1] = 0"});
  check_refused(said([&](Safetensors& f) { f.tensors.erase("k_scale"), f.metadata["k_scale"] = "-1"; }), {"k_scale = -1"});
  const std::vector<std::byte> bytes(10 * 6 * 8);
  check_refused(said([&](Safetensors& f) { f.tensors["q"] = {FileDType::F8_E4M3, {10, 6, 8}, bytes}; }), {"q dtype"});
}
