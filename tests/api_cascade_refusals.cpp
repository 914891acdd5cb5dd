// What a cascade refuses, and with which sentence: above all what would silently be wrong level by level.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "api/flashladder.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using flashladder::test::refusal;

namespace {

using Ids = std::vector<std::int32_t>;

// Four rows of three requests, 1, 2 and 1 of them, pages of 4. The first two requests share page 4; the last has no prefix.
struct ValidCascade {
  AttentionConfig config{.heads = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8},
                         .cache = {.page_size = 4, .dtype = DType::f32}, .execution = {.threads = 1}};
  std::int32_t num_levels = 2;
  std::vector<float> q = std::vector<float>(5 * 6 * 8), k = std::vector<float>(5 * 4 * 2 * 8), v = k;
  std::vector<float> o = q, lse = std::vector<float>(5 * 6), sink_values = std::vector<float>(6);
  Ids rows0{0, 3, 4}, pages0{0, 1, 1}, last0{4, 0}, ids0{4};
  Ids rows1{0, 1, 3, 4}, pages1{0, 1, 2, 3}, last1{3, 2, 4}, ids1{0, 1, 2};
  Tensor q_tensor = contiguous(q.data(), DType::f32, {4, 6, 8}), o_tensor = contiguous(o.data(), DType::f32, {4, 6, 8});
  PagedKvCache kv = paged_kv_cache(contiguous(k.data(), DType::f32, {5, 4, 2, 8}),
                                   contiguous(v.data(), DType::f32, {5, 4, 2, 8}), KvLayout::NHD);
  std::span<float> lse_log2 = std::span(lse).first(4 * 6), lse_natural{};
  std::span<const float> sinks{};
  std::size_t levels_given = 2, ids_given = 2, missing_bytes = 0;

  void plan_and_run() {
    const std::vector<CascadeLevel> all{{rows0, pages0, last0}, {rows1, pages1, last1}};
    const std::vector<std::span<const std::int32_t>> ids{ids0, ids1};
    std::vector<std::byte> memory(1 << 16);
    const std::size_t bytes = missing_bytes == 0 ? memory.size()
                              : MultiLevelCascadeAttention::workspace_bytes(config, all).device - missing_bytes;
    MultiLevelCascadeAttention cascade(num_levels, config, {.device = std::span(memory).first(bytes)});
    cascade.plan(std::span(all).first(levels_given));
    cascade.run(q_tensor, kv, std::span(ids).first(ids_given), {o_tensor, lse_log2, lse_natural}, nullptr, sinks);
  }
};

struct CascadeRefusal {
  void (*breaks)(ValidCascade&);
  std::string sentence;
};

void causal_with_long_queries(ValidCascade& c) {
  c.config.logits.mask = MaskMode::causal;
  c.rows0 = {0, 3, 5}, c.rows1 = {0, 1, 3, 5}, c.q_tensor.shape[0] = c.o_tensor.shape[0] = 5, c.lse_log2 = c.lse;
}

const CascadeRefusal cascade_refusals[] = {
    {[](ValidCascade& c) { c.num_levels = 0; }, "num_levels = 0: must be at least 1"},
    {[](ValidCascade& c) { c.config.heads.num_kv_heads = 4; }, "num_qo_heads = 6: must be a multiple of num_kv_heads (4)"},
    {[](ValidCascade& c) { c.config.o_dtype = DType::f16; }, "o_dtype = f16: must be f32 or q's dtype (f32)"},
    {[](ValidCascade& c) { c.config.logits.mask = MaskMode::custom; }, "mask = custom: is not for a cascade: the bytes would "
     "be those of the last level alone, and every row sees all of the others"},
    {[](ValidCascade& c) { c.config.logits.window_left = 9; }, "window_left = 9: must be -1 in a cascade: a level does not "
     "know how many keys lie between its own and the query"},
    {[](ValidCascade& c) { c.config.logits.pos_encoding_mode = PosEncodingMode::ALIBI; }, "pos_encoding_mode = ALIBI: is not "
     "for a cascade: a level counts keys from its own first one, not from that of the sequence"},
    {[](ValidCascade& c) { c.config.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA; }, "pos_encoding_mode = "
     "ROPE_LLAMA: is not for a cascade: a level counts keys from its own first one; rotate q, and keys before they are "
     "appended"},

    {[](ValidCascade& c) { c.levels_given = 1; }, "levels size = 1: must be num_levels (2)"},
    {[](ValidCascade& c) { c.rows0 = {0, 3}; },
     "levels[0].qo_indptr size = 2: must be batch + 1, batch being the number of requests (3)"},
    {[](ValidCascade& c) { c.last1[2] = 5; },
     "levels[1].paged_kv_last_page_len[2] = 5 (request 2): must be 1 .. page_size (4)"},
    {[](ValidCascade& c) { c.pages0 = {0, 2, 1}; },
     "levels[0].paged_kv_indptr[2] = 1 (request 1): must not be less than the entry before it (2)"},
    {[](ValidCascade& c) { c.rows0 = {0, 3, 5}; },
     "levels[0].qo_indptr end = 5: must be that of the last level (4): all levels divide the same rows"},
    {[](ValidCascade& c) { c.rows0 = {0, 2, 4}; },
     "levels[0].qo_indptr[1] = 2: must be in qo_indptr of level 1: a group is made of whole groups of the next level"},
    {[](ValidCascade& c) { c.missing_bytes = 1; }, "workspace.device bytes = "},

    {[](ValidCascade& c) { c.ids_given = 1; }, "page_ids size = 1: must be num_levels (2)"},
    {[](ValidCascade& c) { c.ids1 = {0, 1}; },
     "levels[1].paged_kv_indices size = 2: must be at least the last entry of paged_kv_indptr (3)"},
    {[](ValidCascade& c) { c.ids0 = {5}; }, "levels[0].paged_kv_indices[0] = 5"},
    {[](ValidCascade& c) { c.q_tensor.shape[0] = 3; }, "q shape[0] = 3: must be the last entry of qo_indptr (4)"},
    {[](ValidCascade& c) { c.o_tensor.dtype = DType::f16; }, "o dtype = f16: must be that of the config (f32)"},
    {[](ValidCascade& c) { c.kv.page_size = 2; }, "kv cache page_size = 2: must be that of the config (4)"},
    {[](ValidCascade& c) { c.sinks = c.sink_values; }, "sinks size = 6: must be 0, since logits.sinks is off (0)"},
    {[](ValidCascade& c) { c.config.logits.sinks = true; },
     "sinks size = 0: must be num_qo_heads, since logits.sinks is on (6)"},
    {[](ValidCascade& c) { c.o_tensor.data = c.k.data(); },
     "o = memory of the k cache: is written, so it must not share memory with the k cache"},
    {[](ValidCascade& c) { c.lse_natural = c.lse_log2; },
     "lse_natural size = 24: must be 0, since lse_log2 is given: one lse or none"},
};

}  // namespace

TEST_CASE("a cascade refuses each thing on its own and says why") {
  CHECK(refusal([] { ValidCascade{}.plan_and_run(); }) == "accepted");
  for (const CascadeRefusal& r : cascade_refusals) {
    ValidCascade c;
    r.breaks(c);
    const std::string sentence = refusal([&] { c.plan_and_run(); });
    CHECK_MESSAGE(sentence.starts_with(r.sentence), "expected: ", r.sentence, "\n got: ", sentence);
  }
}

// Rows that stand before the end of their prefix: by one row still right, by two no longer, and never wrong without a prefix.
TEST_CASE("a cascade refuses causal queries that a prefix reaches behind") {
  ValidCascade c;
  c.config.logits.mask = MaskMode::causal;
  c.last1[1] = 1;  // two queries, one key: the first query stands on the prefix's last key
  CHECK(refusal([&] { c.plan_and_run(); }) == "accepted");
  c.pages1 = {0, 1, 1, 2}, c.last1[1] = 0;
  CHECK(refusal([&] { c.plan_and_run(); }) ==
        "qo_len = 2 (request 1): must be at most 1 more than the request's keys on the last level (0): with mask causal its "
        "first query would see keys of a shared prefix that come after it");
  c.config.logits.mask = MaskMode::none;
  CHECK(refusal([&] { c.plan_and_run(); }) == "accepted");
  ValidCascade without;
  causal_with_long_queries(without);
  without.pages1 = {0, 1, 2, 2}, without.last1[2] = 0;  // the last request: two queries, no key at all
  CHECK(refusal([&] { without.plan_and_run(); }) == "accepted");
}

TEST_CASE("a cascade refuses limits of levels that differ in rows") {
  const ValidCascade c;
  const auto bytes = [&](std::vector<AttentionLimits> limits) {
    return refusal([&] { MultiLevelCascadeAttention::workspace_bytes(c.config, limits); });
  };
  const AttentionLimits of{.max_batch = 2, .max_pages = 9, .max_nnz_qo = 8};
  AttentionLimits other = of;
  other.max_nnz_qo = 7;
  CHECK(bytes({of, of}) == "accepted");
  CHECK(bytes({other, of}) == "levels[0].max_nnz_qo = 7: must be the same on all levels: they divide the same rows");
  CHECK(bytes({}) == "levels size = 0: must be at least 1");
  other.max_nnz_qo.reset();
  CHECK(bytes({other, of}) == "max_nnz_qo: must be given: the queries of all requests together");
}

TEST_CASE("a cascade runs only after a plan that was accepted") {
  ValidCascade c;
  std::vector<std::byte> memory(1 << 16);
  MultiLevelCascadeAttention cascade(2, c.config, {.device = memory});
  const std::vector<std::span<const std::int32_t>> ids{c.ids0, c.ids1};
  const auto run = [&] { return refusal([&] { cascade.run(c.q_tensor, c.kv, ids, {c.o_tensor, c.lse_log2}); }); };
  const std::string sentence = "run(): must come after plan(); none is in force, or the last one was refused";
  CHECK(run() == sentence);
  const std::vector<CascadeLevel> levels{{c.rows0, c.pages0, c.last0}, {c.rows1, c.pages1, c.last1}};
  cascade.plan(levels);
  CHECK(run() == "accepted");
  CHECK(refusal([&] { cascade.plan(std::span(levels).first(1)); }) != "accepted");
  CHECK(run() == sentence);
  CHECK(refusal([&] { cascade.current_plan(2); }) == "level = 2: must be 0 .. num_levels - 1");
  CHECK(cascade.explain() == "level 0: C4 on the CPU, with up to 1 threads\nlevel 1: C4 on the CPU, with up to 1 threads");
}
