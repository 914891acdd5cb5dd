// plan() of a prefill with lengths on the device, on the CPU: what plan() makes of the same lengths on the host, in memory for
// any lengths within the bounds; and what is refused, on every device. tests/api_gpu_prefill_lengths.cpp has the GPU's.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ladder/case_table.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

std::int32_t most(const std::vector<std::int32_t>& lens) { return lens.empty() ? 0 : *std::ranges::max_element(lens); }

// The case's q, and rows behind it that belong to no request.
struct MoreRows {
  std::vector<std::byte> bytes;
  Tensor q;

  MoreRows(const Case& c, std::int64_t rows) {
    const std::size_t row = static_cast<std::size_t>(c.q.shape[1] * c.q.shape[2]) * size_of(c.q.dtype);
    bytes.resize(static_cast<std::size_t>(rows) * row, std::byte{0xff});
    std::memcpy(bytes.data(), c.q.view().data, static_cast<std::size_t>(c.q.shape[0]) * row);
    q = contiguous(bytes.data(), c.q.dtype, {rows, c.q.shape[1], c.q.shape[2]});
  }
};

}  // namespace

TEST_CASE("a prefill's lengths on the device give the bits of lengths on the host with policy none") {
  int cases = 0;
  for (const CaseSpec& spec : case_table()) {
    const Case c = draw_case(spec);
    if (spec.params.mask == MaskMode::custom) continue;
    INFO("case: ", spec.name);
    const Dense dense(c);
    AttentionConfig config = prefill_config(c, DType::f32);
    config.execution.policy = SplitPolicy::none;
    const DeviceQueryLengths queries{c.qo_indptr, c.q.shape[0], most(spec.qo_lens)};
    const DeviceBlockTableLengths table{dense.lengths.seq_lens, dense.lengths.max_pages, most(spec.kv_lens)};
    const DevicePageListLengths pages{c.paged_kv_indptr, c.paged_kv_last_page_len, most(spec.kv_lens)};
    using Prefill = BatchPrefillWithPagedKVCache;
    Memory host_memory(Prefill::workspace_bytes(config, c.qo_indptr, dense.lengths));
    Memory table_memory(Prefill::workspace_bytes(config, queries, table));
    Memory pages_memory(Prefill::workspace_bytes(config, queries, pages));
    Prefill host(config, host_memory.view()), by_table(config, table_memory.view()), by_pages(config, pages_memory.view());
    host.plan(c.qo_indptr, dense.lengths);
    by_table.plan(queries, table);
    by_pages.plan(queries, pages);
    const auto run = [&](Prefill& prefill, std::span<const std::int32_t> page_ids) {
      return written(c, DType::f32, [&](const AttentionOutput& out) {
        prefill.run(c.q.view(), c.problem().kv, page_ids, out, nullptr, c.sinks, {}, c.problem().scales);
      });
    };
    const Result expected = run(host, dense.block_tables);
    CHECK(expected == run(by_table, dense.block_tables));
    CHECK(expected == run(by_pages, c.paged_kv_indices));
    ++cases;
  }
  CHECK(cases > 20);
}

TEST_CASE("a prefill's memory for bounds holds any lengths within them, and rows that are no request's stay as they are") {
  const Case c = causal_case(DType::f32);
  const Dense dense(c);
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  config.execution.policy = SplitPolicy::none;
  constexpr std::int64_t rows = 110;
  MoreRows more(c, rows);
  std::vector<std::int32_t> qo_indptr = c.qo_indptr, seq_lens = c.spec.kv_lens;
  const DeviceQueryLengths queries{qo_indptr, rows, 70};
  const DeviceBlockTableLengths lengths{seq_lens, dense.lengths.max_pages, 300};
  Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, queries, lengths)), other({.device = 1 << 20});
  BatchPrefillWithPagedKVCache prefill(config, memory.view()), host(config, other.view());
  Random random(5);
  for (int step = 0; step < 30; ++step) {
    for (std::size_t b = 0; b < seq_lens.size(); ++b) {
      const std::int32_t fewer = c.spec.qo_lens[b] > 0 ? c.spec.qo_lens[b] : 2;
      qo_indptr[b + 1] = qo_indptr[b] + static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(fewer) + 1));
      seq_lens[b] = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(c.spec.kv_lens[b]) + 1));
    }
    const auto nnz_qo = static_cast<std::size_t>(qo_indptr.back());
    GuardedOutput there(rows, 6, 64), here(qo_indptr.back(), 6, 64);
    const AttentionOutput out = there.view(), expected = here.view();
    prefill.plan(queries, lengths);
    prefill.run(more.q, c.problem().kv, dense.block_tables, out);
    host.plan(qo_indptr, BlockTableLengths{seq_lens, dense.lengths.max_pages});
    Tensor first = more.q;
    first.shape[0] = qo_indptr.back();
    host.run(first, c.problem().kv, dense.block_tables, expected);
    const std::size_t written_bytes = nnz_qo * 6 * 64 * sizeof(float);
    CHECK(std::memcmp(out.o.data, expected.o.data, written_bytes) == 0);
    CHECK(std::memcmp(out.lse_log2.data(), expected.lse_log2.data(), nnz_qo * 6 * sizeof(float)) == 0);
    const auto* o = static_cast<const float*>(out.o.data);
    CHECK(std::all_of(o + nnz_qo * 6 * 64, o + rows * 6 * 64, [](float x) { return std::isnan(x); }));
    CHECK(there.guards_intact());
  }
}

TEST_CASE("a prefill's lengths on the device: what is refused") {
  AttentionConfig config{.heads = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 8},
                         .cache = {.page_size = 4, .dtype = DType::f32},
                         .execution = {.policy = SplitPolicy::none, .threads = 1}};
  const std::vector<std::int32_t> qo_indptr{0, 3, 3, 5}, falling{0, 3, 2, 5};
  const std::vector<std::int32_t> seq_lens{7, 0, 9}, indptr{0, 2, 2, 5}, last{3, 0, 1};
  std::vector<std::byte> memory(1 << 16);
  const auto plan = [&](const DeviceQueryLengths& queries, const auto& lengths) {
    return refusal([&] {
      BatchPrefillWithPagedKVCache prefill(config, {.device = memory});
      prefill.plan(queries, lengths);
    });
  };
  const DeviceBlockTableLengths table{seq_lens, 3, 9};
  CHECK(plan({qo_indptr, 5, 3}, table) == "accepted");
  CHECK(plan({qo_indptr, 8, 5}, DevicePageListLengths{indptr, last, 9}) == "accepted");
  CHECK(plan({qo_indptr, 4, 3}, table) == "queries = 5: of all requests must be at most max_nnz_qo (4)");
  CHECK(plan({qo_indptr, 5, 2}, table) == "qo_len = 3 (request 0): must be at most max_qo_len (2)");
  CHECK(plan({falling, 5, 3}, table).starts_with("qo_indptr[2] = 2 (request 1)"));
  CHECK(plan({std::span(qo_indptr).first(3), 5, 3}, table) == "qo_indptr size = 3: must be batch + 1 (4)");
  CHECK(plan({qo_indptr, -1, 3}, table) == "max_nnz_qo = -1: must be 0 .. 2^31 - 1");
  CHECK(plan({qo_indptr, std::int64_t{1} << 31, 3}, table) == "max_nnz_qo = 2147483648: must be 0 .. 2^31 - 1");
  CHECK(plan({qo_indptr, 5, -1}, table) == "max_qo_len = -1: must not be negative");
  CHECK(plan({qo_indptr, 1 << 30, 1 << 30}, table) == "max_qo_len = 1073741824: times the group size must be below 2^31");
  CHECK(plan({qo_indptr, 5, 3}, DeviceBlockTableLengths{seq_lens, 3, 8}) ==
        "kv_len = 9 (request 2): must be at most max_seq_len (8)");
  CHECK(plan({qo_indptr, 5, 3}, DeviceBlockTableLengths{seq_lens, 3, 13}) ==
        "max_seq_len = 13: must be at most max_pages * page_size (12)");
  config.logits.mask = MaskMode::custom;
  CHECK(plan({qo_indptr, 5, 3}, table) ==
        "mask = custom: needs lengths on the host, which say where each request's bytes begin");
  config.logits.mask = MaskMode::causal;
  for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::count}) {
    config.execution.policy = policy;
    config.execution.chunk_size = 64;
    CHECK(plan({qo_indptr, 5, 3}, table) ==
          "policy = " + std::string(name_of(policy)) +
              ": must be none, since the lengths lie on the device: of a prefill its plan there cuts no tile's keys");
  }
  config.execution.policy = SplitPolicy::none;
  BatchPrefillWithPagedKVCache prefill(config, {.device = memory});
  prefill.plan(DeviceQueryLengths{qo_indptr, 8, 5}, table);
  std::vector<float> q(8 * 6 * 8), o(q.size()), cache(8 * 4 * 2 * 8);
  const std::vector<std::int32_t> tables(9);
  const Tensor k = contiguous(cache.data(), DType::f32, {8, 4, 2, 8});
  const auto run = [&](std::int64_t rows) {
    return refusal([&] {
      prefill.run(contiguous(q.data(), DType::f32, {rows, 6, 8}), paged_kv_cache(k, k, KvLayout::NHD), tables,
                  {.o = contiguous(o.data(), DType::f32, {rows, 6, 8})});
    });
  };
  CHECK(run(8) == "accepted");
  CHECK(run(5) == "q shape[0] = 5: must be max_nnz_qo of the plan (8)");
  prefill.plan(qo_indptr, BlockTableLengths{seq_lens, 3});  // lengths on the host say the rows themselves
  CHECK(run(8) == "q shape[0] = 8: must be the last entry of qo_indptr (5)");
  CHECK(run(5) == "accepted");
}
