// What a session tells its backend of a batch, by which kernel and plan are chosen; with a backend that only listens.
#include <doctest/doctest.h>

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
BatchSize told(std::vector<std::int32_t> qo_indptr) {
  const std::vector<std::int32_t> kv_indptr{0, 100, 103, 1103}, last{4, 2, 4};
  BatchSize heard;
  const AttentionConfig config{.heads = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128},
                               .cache = {.page_size = 4}};
  AttentionSession session(config, {.decode = qo_indptr.empty()}, std::make_unique<Listening>(heard));
  session.plan({.qo_indptr = qo_indptr, .paged_kv_indptr = kv_indptr, .paged_kv_last_page_len = last}, {}, Device::cpu,
               nullptr);
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

TEST_CASE("a graph's batch is as large as its limits, and a request may have all pages") {
  const BatchSize decode = told({.max_batch = 7, .max_pages = 100}, true);
  CHECK((decode.nnz_qo == 0 && decode.batch == 7 && decode.most_kv_len == 400));
  const BatchSize prefill = told({.max_batch = 7, .max_pages = 100, .max_nnz_qo = 50, .max_qo_len = 20}, false);
  CHECK((prefill.nnz_qo == 50 && prefill.batch == 7 && prefill.most_qo_len == 20 && prefill.most_kv_len == 400));
}
