// Cases of latent attention: what is drawn, tables and files of them, and each refusal.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "core/error.hpp"
#include "core/mla_problem.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/files/safetensors.hpp"
#include "ladder/cases/mla_parts.hpp"
#include "ladder/cases/specs/case_json.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

CaseSpec small_latent_case(bool combined, bool blocks = false) {
  CaseSpec s{.name = "small", .op = Op::mla, .seed = 3, .qo_lens = {2, 0, 1}, .kv_lens = {7, 4, 0}, .page_size = 4,
             .dtype = DType::f16, .combined_cache = combined, .block_table = blocks};
  s.params = MlaParams{.num_heads = 3, .head_dim_ckv = 8, .head_dim_kpe = 4, .sm_scale = 0.25f,
                       .mask = MaskMode::causal}.attention();
  return s;
}

std::string latent_table_of(const std::string& keys) {
  return R"([{"op": "mla", "kv_lens": [9], "num_qo_heads": 16, "sm_scale": 0.07)" + keys + "}]";
}

// A written case whose file is changed before it is read again.
template <class Change>
std::string latent_refusal(bool combined, const Change& change) {
  const Case c = draw_case(small_latent_case(combined));
  const std::vector<std::byte> bytes = case_bytes(c, "case");
  Safetensors file = parse_safetensors(bytes, "case");
  change(file);
  const std::vector<std::byte> changed = safetensors_bytes(file, "case");
  return flashladder::test::refusal([&] { parse_case(changed, "case"); });
}

}  // namespace

TEST_CASE("MLA cases: one tensor and four hold the same bits, and both are what attention has") {
  const Case one = draw_case(small_latent_case(true)), four = draw_case(small_latent_case(false));
  CHECK(one.q == four.q);
  CHECK(one.k_cache == four.k_cache);
  CHECK_NOTHROW(validate(one.mla()));
  CHECK_NOTHROW(validate(four.mla()));
  const MlaProblem a = one.mla(), b = four.mla();
  const AttentionProblem p = four.problem();
  CHECK(p.kv.v == p.kv.k);
  for (std::int32_t token = 0; token < 7; ++token) {
    const KvSlot slot = p.page_table().locate(0, token);
    const auto* k = static_cast<const Half*>(p.kv.k) + p.kv.k_strides.offset(slot, 0);
    CHECK(!std::isnan(static_cast<float>(k[11])));
    for (const MlaProblem* m : {&a, &b}) {
      const PagedMlaCache& c = m->cache;
      CHECK(std::memcmp(static_cast<const Half*>(c.ckv) + c.ckv_strides.offset(slot), k, 8 * sizeof(Half)) == 0);
      CHECK(std::memcmp(static_cast<const Half*>(c.kpe) + c.kpe_strides.offset(slot), k + 8, 4 * sizeof(Half)) == 0);
    }
  }
  const KvSlot unused{p.page_table().locate(0, 6).page, 3};
  CHECK(std::isnan(static_cast<float>(static_cast<const Half*>(b.cache.kpe)[b.cache.kpe_strides.offset(unused)])));
}

TEST_CASE("MLA cases: a file gives every bit back, by lists and by blocks, of one cache tensor and of two") {
  for (const bool combined : {true, false}) {
    for (const bool blocks : {true, false}) {
      const Case c = draw_case(small_latent_case(combined, blocks));
      const Case back = parse_case(case_bytes(c, "case"), "case");
      CHECK(back.spec.op == Op::mla);
      CHECK(back.spec.name == "small");
      CHECK(back.spec.combined_cache == combined);
      CHECK(back.spec.block_table == blocks);
      CHECK(back.spec.params.sm_scale == 0.25f);
      CHECK(back.spec.params.mask == MaskMode::causal);
      CHECK(back.spec.kv_lens == c.spec.kv_lens);
      CHECK(back.spec.qo_lens == c.spec.qo_lens);
      CHECK(back.q == c.q);
      CHECK(back.k_cache == c.k_cache);
      CHECK(back.q_nope == c.q_nope);
      CHECK(back.ckv_cache == c.ckv_cache);
      CHECK(back.kpe_cache == c.kpe_cache);
      CHECK(back.paged_kv_indices == c.paged_kv_indices);
      CHECK_NOTHROW(validate(back.mla()));
    }
  }
}

TEST_CASE("MLA cases: fp8 rows and their scale come back from files and tables, and what is wrong with them is said") {
  for (const bool combined : {true, false}) {
    for (const DType rows : {DType::f8_e4m3, DType::f8_e5m2}) {
      CaseSpec spec = small_latent_case(combined);
      spec.kv_dtype = rows, spec.kv_scales = KvScaling::number;
      const Case c = draw_case(spec), back = parse_case(case_bytes(c, "case"), "case");
      CHECK(back.spec.kv_dtype == rows);
      CHECK(back.spec.kv_scales == KvScaling::number);
      CHECK(back.k_cache == c.k_cache);
      CHECK(back.k_scale == c.k_scale);
      const MlaProblem m = back.mla();
      CHECK(m.cache.dtype == rows);
      CHECK((m.scales.k == c.k_scale[0] && m.scales.kpe == c.k_scale[0] && m.scales.v == c.k_scale[0]));
      CHECK_NOTHROW(validate(m));
      const CaseSpec again = parse_case_table(case_table_json(std::span(&spec, 1)), "table").front();
      CHECK(again.kv_dtype == rows);
      CHECK(again.kv_scales == KvScaling::number);
    }
  }
  CHECK(parse_case_table(latent_table_of(R"(, "page_size": 64, "dtype": "f16", "kv_dtype": "f8_e4m3")"), "t").front().name ==
        "B1 kv9 h16 float8_e4m3fn");
  const auto refused = [](const std::string& keys) {
    return flashladder::test::refusal([&] { parse_case_table(latent_table_of(keys), "table"); });
  };
  CHECK(refused(R"(, "kv_dtype": "f8_e4m3", "kv_scales": "per_head")").find("kv_scales = per_head: must be none or number") !=
        std::string::npos);
  CHECK(latent_refusal(true, [](Safetensors& f) { f.metadata["kv_scale"] = "2"; }) == "accepted");
  CHECK(latent_refusal(true, [](Safetensors& f) { f.metadata["kv_scale"] = "-2"; }).find("ckv_scale = -2") !=
        std::string::npos);
  CHECK(latent_refusal(true, [](Safetensors& f) { f.metadata["k_scale"] = "2"; }).find("is no key of a case of latent") !=
        std::string::npos);
}

TEST_CASE("MLA cases: what a file can get wrong is refused by its name") {
  const auto renamed = [](const char* from, const char* to) {
    return [=](Safetensors& f) { f.tensors[to] = f.tensors.at(from), f.tensors.erase(from); };
  };
  const auto without = [](const char* name) { return [=](Safetensors& f) { f.tensors.erase(name); }; };
  CHECK(latent_refusal(true, [](Safetensors&) {}) == "accepted");
  CHECK(latent_refusal(false, without("kpe_cache")).find("kpe_cache: is missing") != std::string::npos);
  CHECK(latent_refusal(false, without("ckv_cache")).find("ckv_cache: is missing, and so is ckv_kpe_cache") !=
        std::string::npos);
  CHECK(latent_refusal(false, without("q_pe")).find("q_pe: is missing") != std::string::npos);
  CHECK(latent_refusal(false, renamed("q_nope", "q")).find("q_pe: is of latent attention") != std::string::npos);
  CHECK(latent_refusal(false, renamed("ckv_cache", "k_cache")).find("k_cache: is no tensor of latent") != std::string::npos);
  CHECK(latent_refusal(true, [](Safetensors& f) { f.tensors["kpe_cache"] = f.tensors.at("q_pe"); })
            .find("kpe_cache: contradicts ckv_kpe_cache") != std::string::npos);
  CHECK(latent_refusal(false, [](Safetensors& f) { f.tensors["kpe_cache"] = f.tensors.at("ckv_cache"); })
            .find("kpe_cache shape[2] = 8: must be the features of that part of q") != std::string::npos);
  CHECK(latent_refusal(true, [](Safetensors& f) { f.metadata.erase("sm_scale"); })
            .find("sm_scale = 0: must be given") != std::string::npos);
  CHECK(latent_refusal(true, [](Safetensors& f) { f.metadata["window_left"] = "3"; }).find("is no key of a case of latent") !=
        std::string::npos);
}

TEST_CASE("MLA cases: a table's case has its defaults, its name, and reads back as it was") {
  const std::vector<CaseSpec> table = parse_case_table(latent_table_of(", \"page_size\": 64, \"dtype\": \"f16\""), "table");
  const MlaParams p = table.front().mla_params();
  CHECK(p.head_dim_ckv == 512);
  CHECK(p.head_dim_kpe == 64);
  CHECK(p.num_heads == 16);
  CHECK(!table.front().combined_cache);
  CHECK(table.front().name == "B1 kv9 h16");
  for (const bool combined : {true, false}) {
    const CaseSpec spec = small_latent_case(combined, combined);
    const CaseSpec back = parse_case_table(case_table_json(std::span(&spec, 1)), "table").front();
    CHECK(draw_case(back).k_cache == draw_case(spec).k_cache);
    CHECK(back.combined_cache == combined);
    CHECK(back.mla_params().mask == MaskMode::causal);
  }
  const auto refused = [](const std::string& keys) {
    return flashladder::test::refusal([&] { parse_case_table(latent_table_of(keys), "table"); });
  };
  CHECK(refused(", \"window_left\": 3").find("window_left: is no key of a case of op mla") != std::string::npos);
  CHECK(refused(", \"num_kv_heads\": 1").find("num_kv_heads: is no key") != std::string::npos);
  CHECK(refused(", \"head_dim_kpe\": -1").find("head_dim_kpe = -1") != std::string::npos);
  CHECK(flashladder::test::refusal([] {
          parse_case_table(R"([{"op": "mla", "kv_lens": [9], "num_qo_heads": 16}])", "table");
        }).find("sm_scale: is missing") != std::string::npos);
  CHECK(flashladder::test::refusal([] {
          parse_case_table(R"([{"kv_lens": [9], "num_qo_heads": 16, "head_dim": 64, "head_dim_ckv": 512}])", "table");
        }).find("head_dim_ckv: is a key of cases of op mla alone") != std::string::npos);
}

TEST_CASE("MLA cases are called as the peers' tables call them") {
  const auto named = [](std::int32_t batch, std::int32_t kv, std::int32_t heads, std::int32_t qo) {
    CaseSpec s{.name = "", .op = Op::mla, .qo_lens = std::vector(static_cast<std::size_t>(batch), qo),
               .kv_lens = std::vector(static_cast<std::size_t>(batch), kv), .page_size = 64, .dtype = DType::f16};
    s.params = MlaParams{.num_heads = heads, .sm_scale = 0.07f,
                         .mask = qo > 1 ? MaskMode::causal : MaskMode::none}.attention();
    return case_string(s);
  };
  CHECK(named(128, 4096, 16, 1) == "B128 kv4096 h16");
  CHECK(named(1, 8192, 128, 1) == "B1 kv8192 h128");
  CHECK(named(32, 8192, 16, 4) == "B32 kv8192 h16 q4");
}
