// Pages that the fastest prefill kernel can't read: the rule when K and V are copied together first, on the CPU alone, and
// what plan(), workspace_bytes() and graphs make of it, with a backend that only counts.
#include <doctest/doctest.h>

#include "api/attention_session.hpp"
#include "core/visibility.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using flashladder::ladder::Random;
using flashladder::test::refusal;

namespace {

AttentionParams with_heads(std::int32_t num_qo_heads, std::int32_t num_kv_heads, std::int32_t head_dim = 128) {
  return {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = head_dim, .head_dim_vo = head_dim};
}

// A copy takes 10 bytes a token; without one a plan takes 1000 bytes, with one 1500, and one of decode's kernel what it is
// told.
class Counting final : public AttentionBackend {
 public:
  Counting(PageCopies copies, std::size_t decode_bytes, std::optional<std::int64_t>& planned_rows)
      : copies_(copies), decode_bytes_(decode_bytes), planned_rows_(planned_rows) {}
  AttentionMachine machine(const BatchSize& size, std::optional<std::int64_t> copied_rows) const override {
    AttentionMachine machine{.shape = {132, 1}, .most_decode_rows = 16, .prefill_rows = 128};
    machine.decode_queries = copies_ == PageCopies::where_it_pays && size.most_qo_len <= 1;
    if (!machine.decodes()) machine.copied_rows = copied_rows;
    return machine;
  }
  std::string explain(PageUse use, const AttentionMachine& machine) const override {
    return is_copied(use) ? "on a copy" : machine.decodes() ? "as decode" : why_in_place(use);
  }
  PageCopies page_copies() const override { return copies_; }
  WorkspaceBytes bytes(const Sizes&, const AttentionMachine& machine) const override {
    if (machine.decodes()) return {.device = decode_bytes_, .staging = 16};
    if (!machine.copied_rows) return {.device = 1000, .staging = 64};
    return {.device = 1500 + 10 * static_cast<std::size_t>(*machine.copied_rows), .staging = 32};
  }
  void attach(const Workspace&) override {}
  void require_plannable(Stream) const override {}
  void plan(const PlannedBatch&, const Sizes&, const AttentionMachine& machine, std::span<const std::int32_t>, Device,
            Stream) override {
    planned_rows_ = machine.copied_rows;
  }
  void run(const PlannedBatch&, const AttentionArguments&, Stream) override {}

 private:
  PageCopies copies_;
  std::size_t decode_bytes_;
  std::optional<std::int64_t>& planned_rows_;
};

// Pages of 4 tokens, 8 query heads on 2 KV heads.
AttentionConfig pages_of_four(SplitPolicy policy = SplitPolicy::balanced) {
  return {.heads = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128}, .cache = {.page_size = 4},
          .execution = {.policy = policy, .chunk_size = 64}};
}

// Two requests: `queries` of 400 keys, and 1 of 10.
struct TwoRequests {
  std::vector<std::int32_t> qo_indptr, kv_indptr{0, 100, 103}, last{4, 2};
  explicit TwoRequests(std::int32_t queries) : qo_indptr{0, queries, queries + 1} {}
  BatchLengths lengths() const {
    return {.qo_indptr = qo_indptr, .paged_kv_indptr = kv_indptr, .paged_kv_last_page_len = last};
  }
};

struct CountingObject {
  std::optional<std::int64_t> planned_rows;
  std::vector<std::byte> device, staging;
  AttentionSession session;

  explicit CountingObject(const AttentionConfig& config, PageCopies copies = PageCopies::where_it_pays,
                          std::optional<AttentionLimits> graph = {}, std::size_t decode_bytes = 900)
      : session(config, {.decode = false, .graph = graph},
                std::make_unique<Counting>(copies, decode_bytes, planned_rows)) {}
  void attach(std::size_t bytes) {
    device.resize(bytes), staging.resize(64);
    session.attach({device, staging});
  }
  void plan(const TwoRequests& batch) { session.plan(batch.lengths(), {}, Device::cpu, nullptr); }
};

bool has_bytes(const WorkspaceBytes& bytes, std::size_t device, std::size_t staging, std::size_t least_device) {
  return bytes.device == device && bytes.staging == staging && bytes.least_device == least_device;
}

}  // namespace

TEST_CASE("keys and pairs that are seen are those of the visibility rule") {
  Random random(3);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random.below(n)); };
  for (int trial = 0; trial < 3000; ++trial) {
    AttentionParams p = with_heads(4, 2);
    p.mask = below(2) ? MaskMode::causal : MaskMode::none;
    p.window_left = below(2) ? below(40) : -1;
    const std::vector<std::int32_t> qo_lens{below(30), below(30)}, kv_lens{below(60), below(60)};
    double pairs = 0, keys = 0;
    for (std::size_t b = 0; b < 2; ++b) {
      std::vector<bool> seen(static_cast<std::size_t>(kv_lens[b]));
      const Range hull = visible_keys(p, qo_lens[b], kv_lens[b], Range{0, qo_lens[b]});
      for (std::int32_t i = 0; i < qo_lens[b]; ++i) pairs += visible_keys(p, qo_lens[b], kv_lens[b], i).size();
      keys += hull.size();
      CHECK((qo_lens[b] == 0 || hull.end == kv_lens[b]));  // so that behind a request's first copied token all are
    }
    const SeenKeys counted = seen_keys(p, qo_lens, kv_lens);
    INFO("queries ", qo_lens[0], " ", qo_lens[1], " keys ", kv_lens[0], " ", kv_lens[1], " window ", p.window_left);
    CHECK(counted.pairs == pairs);
    CHECK(counted.keys == keys);
  }
}

TEST_CASE("a copy pays from 338 packed rows a key on, whatever the head dims and lengths") {
  for (const std::int32_t head_dim : {64, 128, 256}) {
    for (const std::int32_t kv_len : {100, 16384}) {
      const auto pays = [&](std::int32_t group, std::int32_t queries) {
        const std::vector<std::int32_t> qo_lens{queries}, kv_lens{kv_len};
        const AttentionParams p = with_heads(2 * group, 2, head_dim);
        return worth_copying(p, seen_keys(p, qo_lens, kv_lens));
      };
      CHECK_FALSE(pays(1, 337));
      CHECK(pays(1, 338));
      CHECK_FALSE(pays(4, 84));
      CHECK(pays(4, 85));
      CHECK_FALSE(pays(16, 21));
      CHECK(pays(16, 22));
    }
  }
  const std::vector<std::int32_t> whole{170}, none{0};
  AttentionParams causal = with_heads(8, 2);
  CHECK(worth_copying(causal, seen_keys(causal, whole, whole)));
  causal.mask = MaskMode::causal;
  CHECK(worth_copying(causal, seen_keys(causal, whole, whole)));  // 85.5 queries a key
  causal.window_left = 60;
  CHECK_FALSE(worth_copying(causal, seen_keys(causal, whole, whole)));
  CHECK_FALSE(worth_copying(causal, seen_keys(causal, none, whole)));
  CHECK_FALSE(worth_copying(causal, {}));
}

TEST_CASE("no batch within limits has more queries a key than may_be_worth_copying takes for possible") {
  const AttentionParams p = with_heads(8, 2);
  CHECK_FALSE(may_be_worth_copying(p, 84));
  CHECK(may_be_worth_copying(p, 85));
  const SeenKeys even = seen_keys(p, {.max_batch = 4, .max_pages = 100, .max_nnz_qo = 800}, 4);
  CHECK(even.keys == 400);
  CHECK(even.pairs == 4 * 200 * 100);
  CHECK(seen_keys(p, {.max_batch = 0, .max_pages = 100, .max_nnz_qo = 0}, 4).pairs == 0);
  // max_qo_len: fewer queries than max_nnz_qo allows.
  CHECK(seen_keys(p, {.max_batch = 4, .max_pages = 100, .max_nnz_qo = 800, .max_qo_len = 10}, 4).pairs == 4 * 10 * 100);
  CHECK(seen_keys(p, {.max_batch = 4, .max_pages = 100, .max_nnz_qo = 800, .max_qo_len = 900}, 4).pairs == 4 * 200 * 100);
}

TEST_CASE("plan() copies where it pays and where there is room, and says why not") {
  const TwoRequests many(200), few(20);
  CountingObject asks(pages_of_four());
  CHECK(asks.session.explain().starts_with("plan() decides"));
  CHECK(has_bytes(asks.session.bytes_for(many.lengths()), 1500 + 4100, 64, 1000));
  CHECK(has_bytes(asks.session.bytes_for(few.lengths()), 1000, 64, 1000));

  CountingObject object(pages_of_four());
  object.attach(1500 + 4100);
  object.plan(many);
  CHECK(object.planned_rows == 410);
  CHECK(object.session.explain() == "on a copy");
  object.plan(few);
  CHECK_FALSE(object.planned_rows.has_value());
  CHECK(object.session.explain().find("too few") != std::string::npos);
  object.plan(many);
  CHECK(object.planned_rows == 410);

  CountingObject small(pages_of_four());
  small.attach(1500 + 4099);
  small.plan(many);
  CHECK_FALSE(small.planned_rows.has_value());
  CHECK(small.session.explain().find("no room") != std::string::npos);

  CountingObject too_small(pages_of_four());
  too_small.attach(999);
  CHECK(refusal([&] { too_small.plan(many); }) ==
        "workspace.device bytes = 999: must be at least 1000 for this: ask workspace_bytes()");
}

TEST_CASE("a request's bits do not depend on its neighbours: policies fixed and none never copy unasked") {
  for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::none}) {
    CountingObject object(pages_of_four(policy));
    CHECK(has_bytes(object.session.bytes_for(TwoRequests(200).lengths()), 1000, 64, 1000));
    CHECK(has_bytes(object.session.bytes_for({.max_batch = 2, .max_pages = 103, .max_nnz_qo = 201}), 1000, 64, 1000));
    object.attach(1 << 20);
    object.plan(TwoRequests(200));
    CHECK_FALSE(object.planned_rows.has_value());
    CHECK(object.session.explain().find("neighbours") != std::string::npos);
  }
}

TEST_CASE("backend fa3 copies always, and refuses a workspace that is too small") {
  CountingObject object(pages_of_four(SplitPolicy::fixed), PageCopies::always);
  CHECK(has_bytes(object.session.bytes_for(TwoRequests(1).lengths()), 1500 + 4100, 32, 1500 + 4100));
  object.attach(5599);
  CHECK(refusal([&] { object.plan(TwoRequests(1)); }) ==
        "workspace.device bytes = 5599: must be at least 5600 for this, with the copy of K and V that it computes on: "
        "ask workspace_bytes()");
  object.attach(5600);
  object.plan(TwoRequests(1));
  CHECK(object.planned_rows == 410);
}

TEST_CASE("workspace bytes for limits hold for every batch within them") {
  CountingObject object(pages_of_four());
  CHECK(has_bytes(object.session.bytes_for({.max_batch = 2, .max_pages = 103, .max_nnz_qo = 201}), 1500 + 4120, 64, 1000));
  CHECK(has_bytes(object.session.bytes_for({.max_batch = 2, .max_pages = 103, .max_nnz_qo = 84}), 1000, 64, 1000));
  // More tokens than any copy has.
  const WorkspaceBytes most = object.session.bytes_for({.max_batch = 2, .max_pages = 2147483647, .max_nnz_qo = 201});
  CHECK(has_bytes(most, 1500 + std::size_t{10} * 2147483647, 64, 1000));
  const CountingObject never(pages_of_four(), PageCopies::never);
  CHECK(has_bytes(never.session.bytes_for({.max_batch = 2, .max_pages = 9, .max_nnz_qo = 900}), 1000, 64, 1000));
}

TEST_CASE("single queries are decode's, whose kernel reads pages of any size: nothing is copied for them") {
  const TwoRequests single(1), many(200);
  CountingObject object(pages_of_four());
  CHECK(has_bytes(object.session.bytes_for(single.lengths()), 900, 16, 900));
  object.attach(1500 + 4100);
  object.plan(many);
  CHECK(object.session.explain() == "on a copy");
  object.plan(single);
  CHECK_FALSE(object.planned_rows.has_value());
  CHECK(object.session.explain() == "as decode");

  // Even where so many heads share a KV head that a copy would pay for one query.
  AttentionConfig wide = pages_of_four();
  wide.heads = {.num_qo_heads = 400, .num_kv_heads = 1, .head_dim_qk = 128};
  CountingObject of_wide(wide);
  CHECK(of_wide.session.bytes_for(single.lengths()).device == 900);
  of_wide.attach(1500 + 4100);
  of_wide.plan(single);
  CHECK(of_wide.session.explain() == "as decode");
  const AttentionLimits one{.max_batch = 2, .max_pages = 103, .max_nnz_qo = 2, .max_qo_len = 1};
  CHECK(has_bytes(CountingObject(wide).session.bytes_for(one), 1000, 64, 1000));
  CountingObject graph(wide, PageCopies::where_it_pays, one);
  CHECK(graph.session.explain() == "as decode");
  CHECK(has_bytes(graph.session.bytes_for(one), 900, 16, 900));
}

TEST_CASE("workspace bytes for limits hold for decode's kernel too, and so does the least of them") {
  const AttentionLimits limits{.max_batch = 2, .max_pages = 103, .max_nnz_qo = 201};
  const auto bytes = [&](std::size_t decode_bytes) {
    return CountingObject(pages_of_four(), PageCopies::where_it_pays, {}, decode_bytes).session.bytes_for(limits);
  };
  CHECK(has_bytes(bytes(900), 1500 + 4120, 64, 1000));
  CHECK(has_bytes(bytes(1200), 1500 + 4120, 64, 1200));
  CHECK(has_bytes(bytes(9000), 9000, 64, 9000));
  AttentionLimits few_each = limits;
  few_each.max_qo_len = 84;  // no copy pays
  CHECK(has_bytes(CountingObject(pages_of_four()).session.bytes_for(few_each), 1000, 64, 1000));
}

TEST_CASE("a graph's pages are used as config, limits and workspace say, whatever the batch") {
  const AttentionLimits many{.max_batch = 2, .max_pages = 103, .max_nnz_qo = 402}, few{2, 103, 21};
  for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) {
    CountingObject object(pages_of_four(policy), PageCopies::where_it_pays, many);
    CHECK(object.session.explain() == "on a copy");
    CHECK(has_bytes(object.session.bytes_for(many), 1500 + 4120, 64, 1000));
    object.attach(5620);
    for (const std::int32_t queries : {200, 1}) {
      const TwoRequests batch(queries);
      const std::vector<std::int32_t> ids(103);
      object.session.plan(batch.lengths(), ids, Device::cpu, nullptr);
      CHECK(object.planned_rows == 412);
    }
    CountingObject small(pages_of_four(policy), PageCopies::where_it_pays, many);
    small.attach(5619);
    CHECK(small.session.explain().find("no room") != std::string::npos);
  }
  CountingObject object(pages_of_four(), PageCopies::where_it_pays, few);
  CHECK(object.session.explain().find("too few") != std::string::npos);
  CHECK(has_bytes(object.session.bytes_for(few), 1000, 64, 1000));
  CHECK(refusal([&] { object.attach(999); }).starts_with("workspace.device bytes = 999: must be at least 1000"));

  const AttentionLimits huge{.max_batch = 2, .max_pages = 536870912, .max_nnz_qo = 402};
  const CountingObject in_place(pages_of_four(), PageCopies::where_it_pays, huge);
  CHECK(in_place.session.explain().find("2^31") != std::string::npos);
  CHECK(refusal([&] { CountingObject(pages_of_four(), PageCopies::always, huge); }) ==
        "tokens = 2147483648: of all requests must be at most 2^31 - 1, to be copied: for backend fa3 on such pages, an fp8 "
        "cache, or RoPE inside attention");
}
