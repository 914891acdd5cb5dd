// plan() with lengths on the device, on the CPU: what plan() makes of the same lengths on the host, with policy even where it
// is balanced, in memory for any lengths up to max_seq_len; and what is refused, on every device. tests/api_gpu_lengths.cpp has the GPU's.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "api/attention_session.hpp"
#include "ladder/case_table.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

std::int32_t longest(const Case& c) {
  return c.spec.kv_lens.empty() ? 0 : *std::ranges::max_element(c.spec.kv_lens);
}

AttentionConfig with_policy_of_the_device(AttentionConfig config) {
  if (config.execution.policy == SplitPolicy::balanced) config.execution.policy = SplitPolicy::even;
  return config;
}

}  // namespace

TEST_CASE("lengths on the device give the bits of lengths on the host, in memory for the longest") {
  for (const CaseSpec& table_spec : case_table()) {
    const Case c = draw_case(one_query_each(table_spec));
    INFO("case: ", c.spec.name);
    const Dense dense(c);
    const AttentionConfig config = prefill_config(c, DType::f32);
    const DeviceBlockTableLengths table{dense.lengths.seq_lens, dense.lengths.max_pages, longest(c)};
    const DevicePageListLengths pages{c.paged_kv_indptr, c.paged_kv_last_page_len, longest(c)};
    Memory host_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, dense.lengths));
    Memory table_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, table));
    Memory pages_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, pages));
    BatchDecodeWithPagedKVCache host(with_policy_of_the_device(config), host_memory.view());
    BatchDecodeWithPagedKVCache by_table(config, table_memory.view());
    BatchDecodeWithPagedKVCache by_pages(config, pages_memory.view());
    const PagedKvCache kv = c.problem().kv;
    const auto run = [&](BatchDecodeWithPagedKVCache& decode, std::span<const std::int32_t> page_ids) {
      return written(c, DType::f32, [&](const AttentionOutput& out) {
        decode.run(c.q.view(), kv, page_ids, out, nullptr, c.sinks, {}, c.problem().scales);
      });
    };
    host.plan(dense.lengths);
    by_table.plan(table);
    by_pages.plan(pages);
    CHECK(refusal([&] { run(by_pages, {}); }).starts_with("paged_kv_indices"));  // none is not the identity
    const Result expected = run(host, dense.block_tables);
    CHECK(expected == run(by_table, dense.block_tables));
    CHECK(expected == run(by_pages, c.paged_kv_indices));
  }
}

TEST_CASE("the memory for max_seq_len holds any shorter lengths, planned again as they change in place") {
  CaseSpec spec{.name = "pool", .seed = 3, .qo_lens = {1, 1, 1, 1}, .kv_lens = {700, 411, 64, 128}, .dtype = DType::f32};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.125f};
  const Case c = draw_case(spec);
  const Dense dense(c);
  const PagedKvCache kv = c.problem().kv;
  for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::none}) {
    AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
    config.execution.policy = policy;
    config.execution.chunk_size = 64;
    std::vector<std::int32_t> seq_lens = c.spec.kv_lens;
    const DeviceBlockTableLengths lengths{seq_lens, dense.lengths.max_pages, 700};
    Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths)), other_memory({.device = 1 << 20});
    BatchDecodeWithPagedKVCache decode(config, memory.view());
    BatchDecodeWithPagedKVCache host(with_policy_of_the_device(config), other_memory.view());
    Random random(5);
    for (int step = 0; step < 30; ++step) {
      for (std::size_t b = 0; b < seq_lens.size(); ++b) {
        seq_lens[b] = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(c.spec.kv_lens[b]) + 1));
      }
      decode.plan(lengths);
      host.plan(BlockTableLengths{seq_lens, dense.lengths.max_pages});
      const auto run = [&](BatchDecodeWithPagedKVCache& object) {
        return written(c, DType::f32, [&](const AttentionOutput& out) {
          object.run(c.q.view(), kv, dense.block_tables, out);
        });
      };
      CHECK(run(decode) == run(host));
    }
  }
}

TEST_CASE("policy balanced means even for lengths on the device, and balanced again for lengths on the host") {
  const std::vector<std::int32_t> seq_lens{4096, 100, 700, 0, 2050};
  AttentionConfig config{.heads = {.num_qo_heads = 2, .num_kv_heads = 2, .head_dim_qk = 8},
                         .cache = {.page_size = 16, .dtype = DType::f32}, .execution = {.threads = 14}};
  std::vector<std::byte> memory(1 << 20);
  const auto planned = [&](SplitPolicy policy, const auto&... lengths) {
    config.execution.policy = policy;
    BatchDecodeWithPagedKVCache decode(config, {.device = memory});
    (decode.plan(lengths), ...);
    return decode.current_plan();
  };
  const BlockTableLengths host{seq_lens, 256};
  const DeviceBlockTableLengths device{seq_lens, 256, 4096};
  const Plan even = planned(SplitPolicy::even, host), balanced = planned(SplitPolicy::balanced, host);
  CHECK_FALSE((even == balanced));  // else it shows nothing
  CHECK((planned(SplitPolicy::balanced, device) == even));
  CHECK((planned(SplitPolicy::even, device) == even));
  CHECK((planned(SplitPolicy::balanced, device, host) == balanced));
  CHECK((planned(SplitPolicy::balanced, host, device) == even));
}

// The decode of several queries that the serving calls have, with as many lanes as a GPU, which cut what there is to cut.
TEST_CASE("the memory for max_seq_len is enough for several queries a request") {
  for (const std::int32_t queries : {1, 3, 20}) {
    CaseSpec spec{.name = "drafts", .seed = 3, .qo_lens = {queries, queries}, .kv_lens = {200, 193}, .dtype = DType::f32};
    spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.125f,
                   .mask = queries > 1 ? MaskMode::causal : MaskMode::none};
    const Case c = draw_case(spec);
    const Dense dense(c);
    AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
    config.execution.threads = 64;
    AttentionSession session(config, {.queries = queries});
    const BatchLengths lengths{.block_table = dense.lengths, .max_seq_len = 200};
    Memory memory(session.bytes_for(lengths));
    session.attach(memory.view());
    session.plan(lengths, {}, Device::cpu, nullptr);
    const Result result = written(c, DType::f32, [&](const AttentionOutput& out) {
      session.run({.q = c.q.view(), .kv = c.problem().kv, .page_ids = dense.block_tables, .output = out, .sinks = {}},
                  nullptr);
    });
    const Comparison comparison = compare(c, result.o, result.lse_log2, make_oracle(c));
    CHECK_MESSAGE(comparison.ok(), queries, " queries: ", comparison.message());
    CHECK(session.current_plan().num_merges() > 0);
  }
}

TEST_CASE("lengths on the device: after a plan that was refused there is none") {
  CaseSpec spec{.name = "pool", .seed = 3, .qo_lens = {1, 1}, .kv_lens = {70, 41}, .dtype = DType::f32};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.125f};
  const Case c = draw_case(spec);
  const Dense dense(c);
  const AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  const DeviceBlockTableLengths lengths{c.spec.kv_lens, dense.lengths.max_pages, 70};
  Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  GuardedOutput out(2, 6, 64);
  const auto run = [&] {
    return refusal([&] { decode.run(c.q.view(), c.problem().kv, dense.block_tables, out.view()); });
  };
  DeviceBlockTableLengths negative = lengths, short_by_one = lengths, no_lens = lengths;
  negative.max_seq_len = -1, short_by_one.max_seq_len = 69;
  no_lens.seq_lens = std::span(static_cast<const std::int32_t*>(nullptr), 2);
  for (const DeviceBlockTableLengths& wrong : {negative, short_by_one, no_lens}) {
    decode.plan(lengths);
    CHECK(run() == "accepted");
    CHECK(refusal([&] { decode.plan(wrong); }) != "accepted");
    CHECK(run() == "run(): must come after plan(); none is in force, or the last one was refused");
  }
}

TEST_CASE("lengths on the device: what is refused") {
  AttentionConfig config{.heads = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8},
                         .cache = {.page_size = 4, .dtype = DType::f32}, .execution = {.threads = 1}};
  const std::vector<std::int32_t> seq_lens{7, 0, 9}, indptr{0, 2, 2, 5}, last{3, 0, 1};
  std::vector<std::byte> memory(1 << 16);
  const auto plan = [&](const auto& lengths) {
    return refusal([&] {
      BatchDecodeWithPagedKVCache decode(config, {.device = memory});
      decode.plan(lengths);
    });
  };
  CHECK(plan(DeviceBlockTableLengths{seq_lens, 3, 9}) == "accepted");
  CHECK(plan(DevicePageListLengths{indptr, last, 9}) == "accepted");
  CHECK(plan(DeviceBlockTableLengths{seq_lens, 3, 8}) == "kv_len = 9 (request 2): must be at most max_seq_len (8)");
  CHECK(plan(DevicePageListLengths{indptr, last, 8}) == "kv_len = 9 (request 2): must be at most max_seq_len (8)");
  CHECK(plan(DeviceBlockTableLengths{seq_lens, 3, 13}) == "max_seq_len = 13: must be at most max_pages * page_size (12)");
  CHECK(plan(DeviceBlockTableLengths{seq_lens, 3, -1}) == "max_seq_len = -1: must not be negative");
  CHECK(plan(DeviceBlockTableLengths{seq_lens, -1, 0}) == "max_pages = -1: must not be negative");
  CHECK(plan(DevicePageListLengths{std::span(indptr).first(3), last, 9}) ==
        "paged_kv_indptr size = 3: must be batch + 1 (4)");
  CHECK(plan(DeviceBlockTableLengths{{static_cast<const std::int32_t*>(nullptr), 3}, 3, 9}).starts_with("seq_lens"));
  CHECK(plan(DeviceBlockTableLengths{std::vector<std::int32_t>{-1}, 3, 9}).starts_with("seq_lens[0] = -1 (request 0)"));
  for (const AttentionSession::Kind& kind :
       {AttentionSession::Kind{.graph = AttentionLimits{3, 9}}, AttentionSession::Kind{.decode = false, .mixed = true}}) {
    AttentionSession session(config, kind);
    CHECK(refusal([&] { session.plan({.block_table = {{seq_lens, 3}}, .max_seq_len = 9}, {}, Device::cpu, nullptr); }) ==
          "lengths = on the device: are taken by the plain classes of decode and of prefill over pages alone");
  }
  config.execution.policy = SplitPolicy::count;
  CHECK(plan(DeviceBlockTableLengths{seq_lens, 3, 9}) ==
        "policy = count: must be balanced, even, fixed or none, since the lengths lie on the device");
  config.execution.policy = SplitPolicy::balanced;
  config.logits.mask = MaskMode::custom;
  CHECK(plan(DeviceBlockTableLengths{seq_lens, 3, 9}) ==
        "mask = custom: needs lengths on the host, which say where each request's bytes begin");
  config.logits.mask = MaskMode::none;
  config.execution.policy = SplitPolicy::fixed;
  config.execution.chunk_size = 64;
  CHECK(refusal([&] {
          const std::vector<std::int32_t> many(1 << 12);
          BatchDecodeWithPagedKVCache::workspace_bytes(config, DeviceBlockTableLengths{many, 1 << 18, 1 << 20});
        }).starts_with("work items = "));
}
