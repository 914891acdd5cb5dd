// A cascade on the CPU against one flat attention over the same keys: the oracle of a case whose page lists name the shared
// pages again for every request.
#include <doctest/doctest.h>

#include <cmath>

#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/cascade_case.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

void plan_and_run(MultiLevelCascadeAttention& cascade, const CascadeCase& given, const AttentionOutput& out) {
  cascade.plan(given.lengths());
  cascade.run(given.c.q.view(), given.c.problem().kv, given.page_ids(), out, nullptr, given.c.sinks);
}

MultiLevelCascadeAttention make_cascade(const CascadeCase& given, const AttentionConfig& config, const Workspace& workspace) {
  return {static_cast<std::int32_t>(given.levels.size()), config, workspace};
}

Result by_cascade(const CascadeCase& given, DType o_dtype) {
  const AttentionConfig config = prefill_config(given.c, o_dtype);
  Memory memory(MultiLevelCascadeAttention::workspace_bytes(config, given.lengths()));
  MultiLevelCascadeAttention cascade = make_cascade(given, config, memory.view());
  return written(given.c, o_dtype, [&](const AttentionOutput& out) { plan_and_run(cascade, given, out); });
}

Comparison against_oracle(const CascadeCase& given, const Result& result) {
  const Oracle oracle = make_oracle(given.c);
  return compare(given.c, result.o, result.lse_log2, oracle);
}

void check_cascade(const CascadeCase& given) {
  const CaseSpec& spec = given.c.spec;
  INFO("seed ", spec.seed, ", ", given.levels.size(), " levels, page_size ", spec.page_size, ", ", name_of(spec.dtype));
  const Result exact = by_cascade(given, DType::f32);
  const Comparison comparison = against_oracle(given, exact);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  if (spec.dtype == DType::f32) return;
  const Result narrow = by_cascade(given, spec.dtype);
  CHECK(rounded(narrow.o, spec.dtype) == rounded(exact.o, spec.dtype));  // rounded once: after the merge
  CHECK(narrow.lse_log2 == exact.lse_log2);
}

// The ways in which the levels can be joined wrongly; `none` is what the class does.
enum class Fault { none, unweighted, sinks_twice, causal_prefix };

// A cascade by hand: a prefill for each level, and merge_states.
Result by_hand(const CascadeCase& given, Fault fault) {
  const Case& c = given.c;
  const std::size_t levels = given.levels.size();
  const std::int64_t n = c.q.shape[0], heads = c.spec.params.num_qo_heads, dim = c.spec.params.head_dim_vo;
  std::vector<float> v(static_cast<std::size_t>(n * std::ssize(given.levels) * heads * dim)), s(v.size() / dim);
  for (std::size_t l = 0; l < levels; ++l) {
    const bool last = l + 1 == levels;
    AttentionConfig config = prefill_config(c, DType::f32);
    if (!last) config.logits.mask = fault == Fault::causal_prefix ? MaskMode::causal : MaskMode::none;
    if (!last) config.logits.sinks = c.spec.params.sinks && fault == Fault::sinks_twice;
    const CascadeLevel level = given.levels[l];
    Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, level.qo_indptr, level.paged_kv_indptr,
                                                                level.paged_kv_last_page_len));
    BatchPrefillWithPagedKVCache prefill(config, memory.view());
    prefill.plan(level.qo_indptr, level.paged_kv_indptr, level.paged_kv_last_page_len);
    const Result state = written(c, DType::f32, [&](const AttentionOutput& out) {
      prefill.run(c.q.view(), c.problem().kv, given.page_ids()[l], out, nullptr,
                  config.logits.sinks ? std::span<const float>(c.sinks) : std::span<const float>{});
    });
    for (std::int64_t row = 0; row < n; ++row) {
      const std::int64_t to = row * std::ssize(given.levels) + static_cast<std::int64_t>(l);
      std::copy_n(state.o.begin() + row * heads * dim, heads * dim, v.begin() + to * heads * dim);
      std::copy_n(state.lse_log2.begin() + row * heads, heads, s.begin() + to * heads);
    }
  }
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    const std::int64_t states = std::ssize(given.levels);
    merge_states(contiguous(v.data(), DType::f32, {n, states, heads, dim}),
                 contiguous(s.data(), DType::f32, {n, states, heads}), out.o,
                 contiguous(out.lse_log2.data(), DType::f32, {n, heads}));
    if (fault != Fault::unweighted) return;
    float* o = out.o.data_as<float>();
    for (std::int64_t i = 0; i < n * heads * dim; ++i) {
      o[i] = 0;
      for (std::int64_t l = 0; l < states; ++l) {
        o[i] += v[static_cast<std::size_t>((i / (heads * dim) * states + l) * heads * dim + i % (heads * dim))] / states;
      }
    }
  });
}

}  // namespace

TEST_CASE("a cascade of two or three levels equals one flat attention") {
  for (const std::int32_t page_size : {1, 5, 16}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (const auto& shared : {two_levels(), three_levels()}) {
        CaseSpec spec = cascade_spec(page_size, dtype);
        check_cascade({spec, shared});
        spec.params.mask = MaskMode::causal, spec.params.sinks = true;
        spec.kv_lens[3] = 1;  // else all that the request has is a prefix, which may be empty
        check_cascade({spec, shared});
        spec.params.logits_soft_cap = 15;
        spec.kv_layout = KvLayout::HND, spec.combined_cache = false;
        check_cascade({spec, shared});
      }
    }
  }
}

TEST_CASE("random cascades equal one flat attention") {
  const int cases = options().cases_or(60);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  const DType dtypes[] = {DType::f32, DType::f16, DType::bf16};
  for (int i = 0; i < cases; ++i) check_cascade(random_cascade(options().seed + static_cast<std::uint64_t>(i), dtypes[i % 3]));
}

TEST_CASE("a cascade of one level is a prefill") {
  CaseSpec spec = cascade_spec(4, DType::f16);
  spec.params.sinks = true;
  const CascadeCase given(spec, {});
  CHECK(by_cascade(given, DType::f16) == by_page_lists(given.c, DType::f16));
}

TEST_CASE("levels that are joined wrongly are noticed") {
  CaseSpec spec = cascade_spec(5);
  spec.params.mask = MaskMode::causal, spec.params.sinks = true;
  spec.kv_lens[3] = 1;
  for (const auto& shared : {two_levels(), three_levels()}) {
    const CascadeCase given(spec, shared);
    CHECK(against_oracle(given, by_hand(given, Fault::none)).ok());
    CHECK(by_hand(given, Fault::none) == by_cascade(given, DType::f32));
    for (const Fault fault : {Fault::unweighted, Fault::sinks_twice, Fault::causal_prefix}) {
      INFO("fault ", static_cast<int>(fault));
      CHECK(against_oracle(given, by_hand(given, fault)).verdict() == Verdict::fail);
    }
  }
}

// Batches with more rows, a longer prefix or longer suffixes than the one before, in memory for the largest and somewhat
// more: parts of the workspace stay or move, and no bit may depend on it.
TEST_CASE("a cascade gives the same bits again and whatever was planned between") {
  for (const std::size_t room : {std::size_t{0}, std::size_t{1000}, std::size_t{1} << 20}) {
    std::vector<CascadeCase> batches;
    for (std::uint64_t seed = 1; batches.size() < 8; ++seed) {
      CaseSpec spec = cascade_spec(3, DType::f16);
      spec.seed = seed;
      for (std::size_t r = 0; r < spec.kv_lens.size(); ++r) {
        spec.qo_lens[r] += static_cast<std::int32_t>(seed % 3) * 4;
        spec.kv_lens[r] += seed % 2 ? static_cast<std::int32_t>(seed * r * 97 % 900) : 0;
      }
      batches.push_back({spec, {{{3, seed % 4 == 2 ? 300 : 2}, {4, seed % 4 == 0 ? 200 : 1}}}});
    }
    AttentionConfig config = prefill_config(batches[0].c, DType::f16);
    config.execution.policy = SplitPolicy::fixed;  // what a level takes grows with its keys
    std::size_t most = 0;
    for (const CascadeCase& batch : batches) {
      most = std::max(most, MultiLevelCascadeAttention::workspace_bytes(config, batch.lengths()).device);
    }
    Memory memory({.device = most + room});
    MultiLevelCascadeAttention cascade = make_cascade(batches[0], config, memory.view());
    std::vector<Result> first;
    for (int turn = 0; turn < 3; ++turn) {
      for (std::size_t i = 0; i < batches.size(); ++i) {
        const std::size_t b = turn == 1 ? batches.size() - 1 - i : i;
        const Result result = written(batches[b].c, DType::f16,
                                      [&](const AttentionOutput& out) { plan_and_run(cascade, batches[b], out); });
        if (turn == 0) first.push_back(result);
        CHECK(result == first[b]);
      }
    }
  }
}

TEST_CASE("the workspace of a cascade is exact and limits are enough for any batch within them") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed ", seed);
    const CascadeCase given = random_cascade(seed, DType::f16);
    AttentionConfig config = prefill_config(given.c, DType::f16);
    config.execution.policy = seed % 2 ? SplitPolicy::balanced : SplitPolicy::fixed;
    const WorkspaceBytes bytes = MultiLevelCascadeAttention::workspace_bytes(config, given.lengths());
    CHECK(MultiLevelCascadeAttention::workspace_bytes(config, given.limits()).device >= bytes.device);
    if (bytes.device == 0) continue;
    Memory memory({.device = bytes.device - 1});
    MultiLevelCascadeAttention cascade = make_cascade(given, config, memory.view());
    CHECK_THROWS_WITH_AS(cascade.plan(given.lengths()), doctest::Contains("workspace.device bytes = "), InputError);
  }
}

// By hand: o of two levels, lse_log2 of two levels and of the merged rows; 9 rows of 6 heads of 64 features, f32 everywhere
// and nothing cut.
TEST_CASE("the bytes of a cascade are the levels' states and what the levels take") {
  const CascadeCase given(cascade_spec(16), two_levels());
  AttentionConfig config = prefill_config(given.c, DType::f32);
  config.execution.policy = SplitPolicy::none;
  const std::size_t states = 9 * 6 * (2 * 64 + 3) * 4;
  CHECK(MultiLevelCascadeAttention::workspace_bytes(config, given.lengths()).device == (states + 127) / 128 * 128);
}

TEST_CASE("a cascade writes o over q and gives lse as asked for") {
  CaseSpec spec = cascade_spec(4);
  spec.params.sinks = true;
  CascadeCase given(spec, three_levels());
  const Result want = by_cascade(given, DType::f32);
  const AttentionConfig config = prefill_config(given.c, DType::f32);
  Memory memory(MultiLevelCascadeAttention::workspace_bytes(config, given.lengths()));
  MultiLevelCascadeAttention first = make_cascade(given, config, memory.view());
  first.plan(given.lengths());
  MultiLevelCascadeAttention cascade = std::move(first);
  const auto run = [&](const AttentionOutput& out) {
    cascade.run(given.c.q.view(), given.c.problem().kv, given.page_ids(), out, nullptr, given.c.sinks);
  };
  std::vector<float> natural(want.lse_log2.size());
  std::vector<float> o(want.o.size());
  run({.o = contiguous(o.data(), DType::f32, {9, 6, 64}), .lse_log2 = {}, .lse_natural = natural});
  CHECK(o == want.o);
  for (std::size_t i = 0; i < natural.size(); ++i) CHECK(natural[i] == lse_natural_from_log2(1.0f) * want.lse_log2[i]);
  run({.o = given.c.q.view()});
  CHECK(std::memcmp(given.c.q.view().data, want.o.data(), want.o.size() * sizeof(float)) == 0);
}

TEST_CASE("a cascade without rows or without requests writes nothing") {
  CaseSpec spec = cascade_spec(4);
  spec.qo_lens.assign(7, 0);
  const CascadeCase given(spec, two_levels());
  check_cascade(given);
  const std::vector<std::int32_t> begin{0}, none;
  const std::vector<CascadeLevel> levels(2, {begin, begin, none});
  const AttentionConfig config = prefill_config(given.c, DType::f32);
  Memory memory(MultiLevelCascadeAttention::workspace_bytes(config, levels));
  MultiLevelCascadeAttention cascade(2, config, memory.view());
  cascade.plan(levels);
  const std::vector<std::span<const std::int32_t>> ids(2);
  cascade.run(given.c.q.view(), given.c.problem().kv, ids, {.o = contiguous(nullptr, DType::f32, {0, 6, 64})});
}
