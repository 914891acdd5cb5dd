// The cascade for graphs on the CPU, where a replay is another run(): planned again and again in one memory it gives what a
// fresh object gives, which is one flat attention, and leaves alone what is not the batch's.
#include <doctest/doctest.h>

#include "ladder/oracle.hpp"
#include "tests/cascade_case.hpp"
#include "tests/graph_rows.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

using CascadeGraph = CUDAGraphMultiLevelCascadeAttention;

// The smallest limits that all these batches are within.
std::vector<AttentionLimits> limits_of(const std::vector<CascadeCase>& batches) {
  std::vector<AttentionLimits> most = batches[0].limits();
  for (const CascadeCase& batch : batches) {
    for (std::size_t l = 0; l < most.size(); ++l) {
      const AttentionLimits of = batch.limits()[l];
      most[l].max_batch = std::max(most[l].max_batch, of.max_batch);
      most[l].max_pages = std::max(most[l].max_pages, of.max_pages);
      most[l].max_nnz_qo = std::max(most[l].max_nnz_qo, of.max_nnz_qo);
    }
  }
  return most;
}

Result plan_and_run(CascadeGraph& graph, const CascadeCase& batch, DType o_dtype, std::int64_t rows) {
  graph.plan(batch.lengths(), batch.page_ids());
  const GraphRows q(batch.c.q.view(), rows);
  return written_first(batch.c, o_dtype, rows, [&](const AttentionOutput& out) {
    graph.run(q.tensor, batch.c.problem().kv, out, nullptr, batch.c.sinks);
    graph.run(q.tensor, batch.c.problem().kv, out, nullptr, batch.c.sinks);
  });
}

Result by_fresh_graph(const CascadeCase& batch, const AttentionConfig& config, const std::vector<AttentionLimits>& limits) {
  Memory memory(CascadeGraph::workspace_bytes(config, limits));
  CascadeGraph graph(config, limits, memory.view());
  return plan_and_run(graph, batch, config.dtype_of_o(), *limits.back().max_nnz_qo);
}

Result by_eager_cascade(const CascadeCase& batch, const AttentionConfig& config) {
  Memory memory(MultiLevelCascadeAttention::workspace_bytes(config, batch.lengths()));
  MultiLevelCascadeAttention cascade(static_cast<std::int32_t>(batch.levels.size()), config, memory.view());
  cascade.plan(batch.lengths());
  return written(batch.c, config.dtype_of_o(), [&](const AttentionOutput& out) {
    cascade.run(batch.c.q.view(), batch.c.problem().kv, batch.page_ids(), out, nullptr, batch.c.sinks);
  });
}

// Batches of 7, 3 and 1 requests, of more and fewer rows and keys, with prefixes and without, with groups that have no rows,
// no pages, or neither; and one without any row. `levels`: 2 or 3.
std::vector<CascadeCase> batches_of(std::size_t levels, DType dtype, bool causal) {
  std::vector<CascadeCase> batches;
  const auto add = [&](std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens,
                       std::vector<std::vector<SharedGroup>> shared) {
    CaseSpec spec = cascade_spec(5, dtype);
    spec.seed += batches.size(), spec.qo_lens = std::move(qo_lens), spec.kv_lens = std::move(kv_lens);
    spec.params.sinks = true;
    if (causal) spec.params.mask = MaskMode::causal;
    shared.resize(levels - 1, shared.back());
    batches.emplace_back(spec, shared);
  };
  const CaseSpec large = cascade_spec(5);
  std::vector<std::int32_t> own = large.kv_lens;
  own[3] = 1;
  add(large.qo_lens, own, two_levels());
  add({2, 0, 1}, {9, 4, 700}, {{{1, 3}, {0, 0}, {2, 60}}});
  add({1}, {3}, {{{1, 0}}});
  add({5, 2, 0, 1, 1}, {6, 8, 0, 1, 2}, {{{2, 1}, {1, 0}, {0, 0}, {2, 8}}});
  add({0, 0}, {4, 4}, {{{2, 2}}});
  return batches;
}

}  // namespace

TEST_CASE("a cascade for graphs is planned again for each batch and equals one flat attention") {
  for (const std::size_t levels : {std::size_t{2}, std::size_t{3}}) {
    for (const bool causal : {false, true}) {
      for (const DType o_dtype : {DType::f32, DType::f16}) {
        const std::vector<CascadeCase> batches = batches_of(levels, DType::f16, causal);
        const std::vector<AttentionLimits> limits = limits_of(batches);
        AttentionConfig config = prefill_config(batches[0].c, o_dtype);
        Memory memory(CascadeGraph::workspace_bytes(config, limits));
        CascadeGraph graph(config, limits, memory.view());
        for (const std::size_t b : {0, 1, 2, 3, 4, 1, 0, 4, 3}) {
          INFO("batch ", b, ", ", levels, " levels, causal ", causal, ", o ", name_of(o_dtype));
          const Result result = plan_and_run(graph, batches[b], o_dtype, *limits[0].max_nnz_qo);
          CHECK(result == by_fresh_graph(batches[b], config, limits));
          CHECK(result == by_eager_cascade(batches[b], config));
          if (o_dtype != DType::f32) continue;
          const Comparison comparison = compare(batches[b].c, result.o, result.lse_log2, make_oracle(batches[b].c));
          CHECK_MESSAGE((comparison.ok() || batches[b].c.q.shape[0] == 0), comparison.message());
        }
      }
    }
  }
}

TEST_CASE("random cascades for graphs equal one flat attention in limits that are larger than they are") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    INFO("seed ", seed);
    const CascadeCase batch = random_cascade(seed, DType::f16);
    std::vector<AttentionLimits> limits = batch.limits();
    for (AttentionLimits& l : limits) l.max_batch += 2, l.max_pages += 9, *l.max_nnz_qo += 3;
    const AttentionConfig config = prefill_config(batch.c, DType::f32);
    const Result result = by_fresh_graph(batch, config, limits);
    if (batch.c.q.shape[0] == 0) continue;
    const Comparison comparison = compare(batch.c, result.o, result.lse_log2, make_oracle(batch.c));
    CHECK_MESSAGE(comparison.ok(), comparison.message());
  }
}

TEST_CASE("a cascade for graphs of one level is a prefill, and one without groups writes nothing") {
  CaseSpec spec = cascade_spec(4, DType::f16);
  spec.params.sinks = true;
  const CascadeCase one(spec, {});
  CHECK(by_fresh_graph(one, prefill_config(one.c, DType::f16), one.limits()) == by_page_lists(one.c, DType::f16));
  const CascadeCase two(cascade_spec(4), two_levels());
  const AttentionConfig config = prefill_config(two.c, DType::f32);
  Memory memory(CascadeGraph::workspace_bytes(config, two.limits()));
  CascadeGraph graph(config, two.limits(), memory.view());
  const std::vector<std::int32_t> begin{0};
  const std::vector<std::span<const std::int32_t>> no_ids(2);
  graph.plan(std::vector<CascadeLevel>(2, {begin, begin, {}}), no_ids);
  GuardedOutput out(9, 6, 64);
  std::vector<float> before(out.view().o.data_as<const float>(), out.view().o.data_as<const float>() + 9 * 6 * 64);
  graph.run(two.c.q.view(), two.c.problem().kv, out.view());
  CHECK(std::memcmp(before.data(), out.view().o.data, before.size() * sizeof(float)) == 0);
}

TEST_CASE("a cascade for graphs refuses what exceeds its limits and leaves each level's plan where it is") {
  const CascadeCase batch(cascade_spec(5), two_levels());
  const AttentionConfig config = prefill_config(batch.c, DType::f32);
  const std::vector<AttentionLimits> limits = batch.limits();
  Memory memory(CascadeGraph::workspace_bytes(config, limits));
  CascadeGraph graph(config, limits, memory.view());
  GuardedOutput out(9, 6, 64);
  const auto run = [&] { return refusal([&] { graph.run(batch.c.q.view(), batch.c.problem().kv, out.view()); }); };
  const std::string none = "run(): must come after plan(); none is in force, or the last one was refused";
  CHECK(run() == none);
  graph.plan(batch.lengths(), batch.page_ids());
  CHECK(run() == "accepted");

  // Level 0 is a batch within its limits, another one than before; the last level is none.
  CascadeCase other = batch;
  other.levels[0].qo_indptr = {0, 9}, other.levels[0].paged_kv_indptr = {0, 1}, other.levels[0].paged_kv_last_page_len = {2};
  const auto planned = [&](const CascadeCase& c) { return refusal([&] { graph.plan(c.lengths(), c.page_ids()); }); };
  const std::vector<std::int32_t> lens = graph.current_plan(0).kv_lens;
  CascadeCase wrong = other;
  wrong.levels[1].paged_kv_last_page_len[0] = 6;
  CHECK(planned(wrong) == "levels[1].paged_kv_last_page_len[0] = 6 (request 0): must be 1 .. page_size (5)");
  CHECK(graph.current_plan(0).kv_lens == lens);
  wrong = other;
  wrong.levels[1].paged_kv_indices.pop_back();
  CHECK(planned(wrong).starts_with("levels[1].paged_kv_indices size = "));
  wrong = other;
  wrong.levels[1].add(9, {}, 0);
  CHECK(planned(wrong) == "levels[1].batch = 8: exceeds what was captured: max_batch 7");
  CHECK(graph.current_plan(0).kv_lens == lens);
  CHECK(run() == none);
  CHECK(planned(other) == "accepted");
  CHECK(graph.current_plan(0).kv_lens != lens);
  CHECK(planned(batch) == "accepted");
  const auto ids = batch.page_ids();
  CHECK(refusal([&] { graph.plan(batch.lengths(), std::span(ids).first(1)); }) == "page_ids size = 1: must be num_levels (2)");
  CHECK(refusal([&] { graph.plan(std::vector<CascadeLevel>(1), ids); }) == "levels size = 1: must be num_levels (2)");
  CHECK(refusal([&] { graph.plan(batch.lengths(), ids, nullptr, Device::gpu); }) ==
        "levels[0].indices_on = gpu: must be cpu, as the object's device is");
}

TEST_CASE("a cascade for graphs refuses limits that do not fit together, too little memory and fewer rows") {
  const CascadeCase batch(cascade_spec(5), two_levels());
  AttentionConfig config = prefill_config(batch.c, DType::f32);
  std::vector<AttentionLimits> limits = batch.limits();
  const std::size_t bytes = CascadeGraph::workspace_bytes(config, limits).device;
  Memory memory({.device = bytes - 1});
  CHECK(refusal([&] { CascadeGraph(config, limits, memory.view()); }).starts_with("workspace.device bytes = "));
  limits[0].max_nnz_qo = 8;
  CHECK(refusal([&] { CascadeGraph::workspace_bytes(config, limits); }) ==
        "levels[0].max_nnz_qo = 8: must be the same on all levels: they divide the same rows");
  config.logits.mask = MaskMode::custom;
  CHECK(refusal([&] { CascadeGraph::workspace_bytes(config, batch.limits()); })
            .starts_with("mask = custom: is not for a cascade"));
  config.logits.mask = MaskMode::none;

  limits = batch.limits();
  for (AttentionLimits& l : limits) *l.max_nnz_qo += 1;
  Memory enough(CascadeGraph::workspace_bytes(config, limits));
  CascadeGraph graph(config, limits, enough.view());
  graph.plan(batch.lengths(), batch.page_ids());
  GuardedOutput out(9, 6, 64);
  CHECK(refusal([&] { graph.run(batch.c.q.view(), batch.c.problem().kv, out.view()); }) ==
        "q shape[0] = 9: must be max_nnz_qo of the graph (10)");
  CHECK(graph.num_levels() == 2);
  CHECK(refusal([&] { graph.current_plan(2); }) == "level = 2: must be 0 .. num_levels - 1");
  CHECK(graph.explain() == "level 0: C4 on the CPU, with up to 2 threads\nlevel 1: C4 on the CPU, with up to 2 threads");
}

TEST_CASE("a cascade for graphs moves, gives a natural lse, and none") {
  const CascadeCase batch(cascade_spec(5), three_levels());
  const AttentionConfig config = prefill_config(batch.c, DType::f32);
  const Result want = by_fresh_graph(batch, config, batch.limits());
  Memory memory(CascadeGraph::workspace_bytes(config, batch.limits()));
  CascadeGraph first(config, batch.limits(), memory.view());
  first.plan(batch.lengths(), batch.page_ids());
  CascadeGraph graph = std::move(first);
  std::vector<float> o(want.o.size()), natural(want.lse_log2.size());
  const Tensor out = contiguous(o.data(), DType::f32, {9, 6, 64});
  graph.run(batch.c.q.view(), batch.c.problem().kv, {.o = out, .lse_log2 = {}, .lse_natural = natural});
  CHECK(o == want.o);
  for (std::size_t i = 0; i < natural.size(); ++i) CHECK(natural[i] == lse_natural_from_log2(1.0f) * want.lse_log2[i]);
  o.assign(o.size(), 0);
  graph.run(batch.c.q.view(), batch.c.problem().kv, {.o = out});
  CHECK(o == want.o);
}
