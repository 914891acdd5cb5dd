// The list by which K and V are copied together (gpu/prefill/compact_pages.hpp): which tokens go where. Needs no GPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "core/error.hpp"
#include "core/visibility.hpp"
#include "gpu/prefill/compact_pages.hpp"
#include "planner/planner.hpp"

using namespace flashladder;

namespace {

constexpr std::int32_t page_size = 3;

struct CopiedBatch {
  std::vector<std::int32_t> qo_lens, kv_lens;
  AttentionParams params{.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 192, .head_dim_vo = 128};

  Plan plan() const {
    planner::PlanInputs in{.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 192,
                           .head_dim_vo = 128, .page_size = page_size, .mask = params.mask,
                           .window_left = params.window_left};
    return planner::make_plan(in);
  }
  std::int64_t tokens() const {
    std::int64_t sum = 0;
    for (const std::int32_t len : kv_lens) sum += len;
    return sum;
  }
};

// A copied token: where it comes from, and its row.
struct Copied {
  std::int32_t page = 0, entry = 0, row = 0;
  friend bool operator==(const Copied&, const Copied&) = default;
};

// As the kernel walks the list, but one request after the other.
std::vector<Copied> walk(const std::vector<gpu::CompactedRequest>& list) {
  std::vector<Copied> all;
  for (std::size_t b = 0; b + 1 < list.size(); ++b) {
    for (std::int32_t copy = list[b].first_copy; copy < list[b + 1].first_copy; ++copy) {
      const std::int32_t token = list[b].begin + copy - list[b].first_copy;
      const KvSlot slot = PageList{nullptr, page_size}.locate_from(list[b].first_page, token);
      all.push_back({static_cast<std::int32_t>(slot.page), slot.entry, list[b].first_row + token});
    }
  }
  return all;
}

// max_pages: of a block table; 0: page lists.
void check_list(const CopiedBatch& batch, std::int32_t max_pages, std::int32_t spare) {
  const auto requests = static_cast<std::int32_t>(batch.kv_lens.size());
  const gpu::CompactedShape capacity{requests + spare, batch.tokens() + spare};
  std::vector<gpu::CompactedRequest> list(static_cast<std::size_t>(requests + spare + 1));
  REQUIRE(gpu::compaction_list_bytes(capacity) == list.size() * sizeof(list[0]));
  gpu::pack_compaction(batch.plan(), batch.params, {page_size, max_pages}, capacity,
                       std::as_writable_bytes(std::span(list)));
  std::vector<Copied> wanted;
  std::int32_t first_row = 0, first_page = 0;
  for (std::int32_t b = 0; b < requests; ++b) {
    const std::int32_t qo_len = batch.qo_lens[b], kv_len = batch.kv_lens[b];
    if (max_pages > 0) first_page = b * max_pages;
    for (std::int32_t token = 0; token < kv_len; ++token) {
      bool seen = false;
      for (std::int32_t i = 0; i < qo_len; ++i) seen = seen || visible(batch.params, qo_len, kv_len, i, token, nullptr);
      if (seen) wanted.push_back({first_page + token / page_size, token % page_size, first_row + token});
    }
    first_row += kv_len;
    first_page += pages_for(kv_len, page_size);
  }
  CHECK(walk(list) == wanted);
  CHECK(list.back().first_copy == static_cast<std::int32_t>(wanted.size()));
}

}  // namespace

TEST_CASE("each token that a query sees is copied once, to the row of a ragged cache") {
  CopiedBatch batch{{5, 0, 1, 70, 3, 0, 9}, {50, 20, 0, 70, 1, 0, 4}};
  for (const MaskMode mask : {MaskMode::none, MaskMode::causal}) {
    for (const std::int32_t window : {-1, 0, 7, 200}) {
      batch.params.mask = mask, batch.params.window_left = window;
      for (const std::int32_t max_pages : {0, 25}) {
        check_list(batch, max_pages, 0);
        check_list(batch, max_pages, 5);
      }
    }
  }
  check_list({{}, {}}, 0, 0);
  check_list({{}, {}}, 0, 3);
}

// A tile may begin before the item's last key and end anywhere behind it: what it finds between is multiplied by 0.
TEST_CASE("every token from an item's first key to the request's last is copied") {
  CopiedBatch batch{{60, 130, 3}, {600, 131, 900}};
  batch.params.mask = MaskMode::causal;
  for (const std::int32_t window : {-1, 0, 90}) {
    batch.params.window_left = window;
    const Plan plan = batch.plan();
    std::vector<gpu::CompactedRequest> list(4);
    gpu::pack_compaction(plan, batch.params, {page_size, 0}, {3, batch.tokens()}, std::as_writable_bytes(std::span(list)));
    for (const WorkItem& item : plan.parts.front().items) {
      const gpu::CompactedRequest &r = list[static_cast<std::size_t>(item.request)], &next = (&r)[1];
      CHECK(item.keys.begin >= r.begin);
      CHECK(r.begin + next.first_copy - r.first_copy == plan.kv_lens[item.request]);
    }
  }
}

// What the rotated copy reads of the list: for each query where it stands, for each request in turn.
TEST_CASE("with RoPE the list says behind the keys where each query stands") {
  const CopiedBatch batch{{5, 0, 1, 70, 3, 0, 9}, {50, 20, 0, 70, 1, 0, 4}};  // some requests have more queries than keys
  for (const std::int32_t spare : {0, 1, 4}) {
    const gpu::CompactedShape plain{7 + spare, 145 + spare}, capacity{7 + spare, 145 + spare, 88 + spare};
    std::vector<std::byte> bytes(gpu::compaction_list_bytes(capacity)), without(gpu::compaction_list_bytes(plain));
    CHECK(bytes.size() % 16 == 0);
    gpu::pack_compaction(batch.plan(), batch.params, {page_size, 0}, capacity, bytes);
    gpu::pack_compaction(batch.plan(), batch.params, {page_size, 0}, plain, without);
    CHECK(std::equal(without.begin(), without.end(), bytes.begin()));  // the same keys
    const auto* queries = reinterpret_cast<const gpu::RotatedQueries*>(bytes.data() + without.size());
    REQUIRE(without.size() + static_cast<std::size_t>(8 + spare) * sizeof(*queries) <= bytes.size());
    std::int32_t query = 0;
    for (std::size_t b = 0; b < 7; ++b) {
      CHECK(queries[b].first_query == query);
      CHECK(queries[b].position == batch.kv_lens[b] - batch.qo_lens[b]);
      query += batch.qo_lens[b];
    }
    CHECK(query == 88);
    for (std::int32_t b = 7; b <= 7 + spare; ++b) CHECK(queries[b].first_query == query);
    CHECK_THROWS_WITH_AS(gpu::pack_compaction(batch.plan(), batch.params, {page_size, 0}, {7 + spare, 145, 87}, bytes),
                         doctest::Contains("queries = 88"), InputError);
  }
}

TEST_CASE("a rotated copy has K and q, and V unless that lies in rows already") {
  const AttentionParams p{.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 192, .head_dim_vo = 128};
  gpu::CompactedShape shape{2, 12, 5};
  gpu::CopyLayout at = gpu::copy_layout(shape, p, DType::f16);
  CHECK(at.k == 0);
  CHECK(at.v == 12 * 2 * 192 * 2);
  CHECK(at.q == at.v + 12 * 2 * 128 * 2);
  CHECK(at.end == at.q + 5 * 4 * 192 * 2);
  shape.values = false;
  at = gpu::copy_layout(shape, p, DType::f16);
  CHECK(at.q == at.v);
  CHECK(gpu::compacted_bytes(shape, p, DType::f16) == 12 * 2 * 192 * 2 + 5 * 4 * 192 * 2);
}

TEST_CASE("the bytes of a copy are those of K and V; a batch beyond the capacity is refused") {
  const CopiedBatch batch{{2, 2}, {5, 7}};
  CHECK(gpu::compacted_bytes({2, 12}, batch.params, DType::bf16) == 12 * 2 * (192 + 128) * 2);
  CHECK(gpu::compacted_bytes({2, 2147483647}, batch.params, DType::f16) == std::size_t{2147483647} * 1280);
  std::vector<gpu::CompactedRequest> list(3);
  const auto pack = [&](const gpu::CompactedShape& capacity, std::size_t records) {
    gpu::pack_compaction(batch.plan(), batch.params, {page_size, 0}, capacity,
                         std::as_writable_bytes(std::span(list).first(records)));
  };
  pack({2, 12}, 3);
  CHECK_THROWS_WITH_AS(pack({1, 12}, 3), doctest::Contains("batch = 2"), InputError);
  CHECK_THROWS_WITH_AS(pack({2, 11}, 3), doctest::Contains("tokens = 12"), InputError);
  CHECK_THROWS_WITH_AS(pack({2, 12}, 2), doctest::Contains("compaction list bytes"), InputError);
  CHECK_THROWS_WITH_AS(pack({2, std::int64_t{1} << 31}, 3), doctest::Contains("more than 2^31 - 1"), InputError);
}
