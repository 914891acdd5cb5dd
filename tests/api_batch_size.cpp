// What a session tells its backend of a batch, by which kernel and plan are chosen; with a backend that only listens.
#include <doctest/doctest.h>

#include <algorithm>

#include "api/attention_session.hpp"

using namespace flashladder;
using namespace flashladder::api;

namespace {

class Listening final : public AttentionBackend {
 public:
  explicit Listening(BatchSize& heard) : heard_(heard) {}
  AttentionMachine machine(const BatchSize& size, std::optional<std::int64_t>) const override {
    heard_ = size;
    return {.shape = {132, 1}, .most_decode_rows = 16, .prefill_rows = 128};
  }
  std::string explain(PageUse, const AttentionMachine&) const override { return ""; }
  WorkspaceBytes bytes(const Sizes&, const AttentionMachine&) const override { return {}; }
  void attach(const Workspace&) override {}
  void require_plannable(Stream) const override {}
  void plan(const PlannedBatch&, const Sizes&, const AttentionMachine&, std::span<const std::int32_t>, Device,
            Stream) override {}
  void run(const PlannedBatch&, const AttentionArguments&, Stream) override {}

 private:
  BatchSize& heard_;
};

// Three requests of 400, 10 and 4000 keys on pages of 4.
BatchSize told(std::vector<std::int32_t> qo_indptr, const LogitsConfig& logits = {}, Plan* plan = nullptr) {
  const std::vector<std::int32_t> kv_indptr{0, 100, 103, 1103}, last{4, 2, 4};
  BatchSize heard;
  const AttentionConfig config{.heads = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128},
                               .cache = {.page_size = 4}, .logits = logits};
  AttentionSession session(config, {.decode = qo_indptr.empty()}, std::make_unique<Listening>(heard));
  session.plan({.qo_indptr = qo_indptr, .paged_kv_indptr = kv_indptr, .paged_kv_last_page_len = last}, {}, Device::cpu,
               nullptr);
  if (plan != nullptr) *plan = session.current_plan();
  return heard;
}

BatchSize told(const AttentionLimits& limits, bool decode) {
  BatchSize heard;
  const AttentionConfig config{.heads = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128},
                               .cache = {.page_size = 4}};
  const AttentionSession session(config, {.decode = decode, .graph = limits}, std::make_unique<Listening>(heard));
  return heard;
}

}  // namespace

TEST_CASE("the longest request of a batch is one that has queries, and of a decode each has one") {
  const BatchSize decode = told({});
  CHECK((decode.nnz_qo == 0 && decode.batch == 3 && decode.most_kv_len == 4000));
  const BatchSize all = told({0, 5, 6, 9});
  CHECK((all.nnz_qo == 9 && all.batch == 3 && all.most_qo_len == 5 && all.most_kv_len == 4000));
  const BatchSize without_the_last = told({0, 5, 6, 6});
  CHECK((without_the_last.nnz_qo == 6 && without_the_last.batch == 3 && without_the_last.most_kv_len == 400));
  CHECK(told({0, 0, 0, 0}).most_kv_len == 0);
}

TEST_CASE("requests of one query and of more are counted apart, with the keys that they see") {
  const BatchSize full = told({0, 1, 4, 5});
  CHECK((full.decode_keys == 400 + 4000 && full.prefill_pairs == 3 * 10));
  CHECK((full.prefill_queries == 3 && full.prefill_requests == 1 && full.prefill_keys == 10));
  const BatchSize windowed = told({0, 1, 4, 5}, {.window_left = 99});  // the query's own key, and 99 before it
  CHECK((windowed.decode_keys == 100 + 100 && windowed.prefill_pairs == 3 * 10));
  const BatchSize causal = told({0, 100, 100, 102}, {.mask = MaskMode::causal});
  CHECK((causal.decode_keys == 0 && causal.prefill_pairs == 100 * (400 - 50) + 2 * (4000 - 1)));
  CHECK((causal.prefill_queries == 102 && causal.prefill_requests == 2 && causal.prefill_keys == 400 + 4000));
}

TEST_CASE("a plan has no key that the window or the causal mask hides from all of a tile's queries") {
  constexpr std::int32_t kv_lens[] = {400, 10, 4000};
  Plan plan;
  for (const bool decode : {true, false}) {
    told(decode ? std::vector<std::int32_t>{} : std::vector<std::int32_t>{0, 1, 2, 3}, {.window_left = 99}, &plan);
    for (const WorkItem& item : plan.parts[0].items) {
      CHECK(item.keys.begin >= kv_lens[item.request] - 100);
      CHECK(item.keys.end <= kv_lens[item.request]);
    }
  }
  told({0, 400, 400, 400}, {.mask = MaskMode::causal}, &plan);
  std::int32_t most = 0, least = 400;
  for (const WorkItem& item : plan.parts[0].items) {
    most = std::max(most, item.keys.end), least = std::min(least, item.keys.end);
  }
  CHECK((most == 400 && least < 400));
}

TEST_CASE("a graph's batch is as large as its limits, and a request may have all pages") {
  const BatchSize decode = told({.max_batch = 7, .max_pages = 100}, true);
  CHECK((decode.nnz_qo == 0 && decode.batch == 7 && decode.most_kv_len == 400));
  const BatchSize prefill = told({.max_batch = 7, .max_pages = 100, .max_nnz_qo = 50, .max_qo_len = 20}, false);
  CHECK((prefill.nnz_qo == 50 && prefill.batch == 7 && prefill.most_qo_len == 20 && prefill.most_kv_len == 400));
}
