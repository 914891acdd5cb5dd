// Cases whose page ids are a dense block table: drawn like their page lists, written, read back, and what a file may not
// say.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/error.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/files/file_tensors.hpp"
#include "ladder/cases/specs/case_json.hpp"
#include "tests/changed_case.hpp"
#include "tests/cases_helpers.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

namespace {

CaseSpec listed_or_table(bool block_table) {
  CaseSpec spec{.name = "small", .seed = 3, .qo_lens = {1, 2, 1}, .kv_lens = {9, 0, 4}, .page_size = 4};
  spec.params = {.num_qo_heads = 2, .num_kv_heads = 1, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = 0.5f};
  spec.block_table = block_table;
  return spec;
}

// A written case as safetensors whose tensors `change` may take away, add or damage.
template <class Change>
std::string read_changed(Change change) {
  const std::vector<std::byte> changed = changed_case_bytes(draw_case(listed_or_table(true)), "small", change);
  return refusal([&] { parse_case(changed, "small"); });
}

}  // namespace

TEST_CASE("a drawn block table holds the page lists' ids and its other entries name a page nobody uses") {
  const Case lists = draw_case(listed_or_table(false)), table = draw_case(listed_or_table(true));
  CHECK(table.paged_kv_indices == lists.paged_kv_indices);
  CHECK(table.kv_cache.bytes == lists.kv_cache.bytes);
  const AttentionProblem problem = table.problem();
  REQUIRE(problem.max_pages() == 5);
  const std::vector<std::int32_t>& ids = lists.paged_kv_indices;
  for (std::size_t i = 0; i < table.block_tables.size(); ++i) {
    const bool used = i < 3 || i == 10;  // rows of 5: three pages of request 0, none of 1, one of 2
    const std::int32_t id = table.block_tables[i];
    CHECK(used == (std::find(ids.begin(), ids.end(), id) != ids.end()));
    if (used) CHECK(id == ids[i < 3 ? i : 3]);
  }
}

TEST_CASE("a case file with a block table reads back as it was written") {
  const Case drawn = draw_case(listed_or_table(true));
  const std::vector<std::byte> bytes = case_bytes(drawn, "small");
  const Safetensors file = parse_safetensors(bytes, "small");
  CHECK(file.tensors.at("block_tables").shape == std::vector<std::int64_t>{3, 5});
  CHECK(file.tensors.at("seq_lens").shape == std::vector<std::int64_t>{3});
  CHECK(!file.tensors.contains("paged_kv_indptr"));
  const Case read = parse_case(bytes, "small");
  CHECK(read.spec.block_table);
  CHECK(read.block_tables == drawn.block_tables);
  CHECK(read.spec.kv_lens == drawn.spec.kv_lens);
  CHECK(read.paged_kv_indptr == drawn.paged_kv_indptr);
  CHECK(read.paged_kv_indices == drawn.paged_kv_indices);
  CHECK(read.paged_kv_last_page_len == drawn.paged_kv_last_page_len);
  CHECK(case_bytes(read, "small") == bytes);
}

TEST_CASE("a case table may ask for block tables") {
  const auto parsed = [](const std::string& more) {
    return parse_case_table(R"([{"kv_lens": [5], "num_qo_heads": 2, "head_dim": 8)" + more + "}]", "table").front();
  };
  CHECK(!parsed("").block_table);
  CHECK(parsed(R"(, "block_table": true)").block_table);
  const std::vector<CaseSpec> one{listed_or_table(true)};
  CHECK(parse_case_table(case_table_json(one), "table").front().block_table);
}

TEST_CASE("what a file with a block table may not say") {
  const std::vector<std::int32_t> three{0, 1, 2}, bad_lens{9, 0, 21}, negative{9, -1, 4}, wrong_page{99, 1, 2, 3, 4};
  CHECK(read_changed([](Safetensors&) {}) == "");
  CHECK(read_changed([](Safetensors& f) { f.tensors.erase("seq_lens"); }).find("seq_lens: is missing") != std::string::npos);
  CHECK(read_changed([](Safetensors& f) { f.tensors.erase("block_tables"); }).find("block_tables: is missing") !=
        std::string::npos);
  CHECK(read_changed([&](Safetensors& f) { f.tensors["paged_kv_indices"] = lend(three, FileDType::I32); })
            .find("paged_kv_indices: contradicts block_tables and seq_lens") != std::string::npos);
  CHECK(read_changed([&](Safetensors& f) { f.tensors["seq_lens"] = lend(bad_lens, FileDType::I32); })
            .find("seq_lens[2] = 21 (request 2): must fit in a row of block_tables") != std::string::npos);
  CHECK(read_changed([&](Safetensors& f) { f.tensors["seq_lens"] = lend(negative, FileDType::I32); })
            .find("seq_lens[1] = -1 (request 1): must be 0 or more") != std::string::npos);
  CHECK(read_changed([&](Safetensors& f) {
          f.tensors["block_tables"].shape = {1, 5};
          f.tensors["block_tables"].bytes = f.tensors["block_tables"].bytes.first(5 * sizeof(std::int32_t));
        }).find("block_tables shape[0] = 1: must be the size of seq_lens") != std::string::npos);
  CHECK(read_changed([&](Safetensors& f) {
          f.tensors["block_tables"] = lend(wrong_page, FileDType::I32);
          f.tensors["block_tables"].shape = {1, 5};
          f.tensors["seq_lens"].shape = {1};
          f.tensors["seq_lens"].bytes = f.tensors["seq_lens"].bytes.first(sizeof(std::int32_t));
        }).find("block_tables[0, 0] = 99 (request 0): must be a page of the pool") != std::string::npos);
}
