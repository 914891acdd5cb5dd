// Where the rows of a custom mask lie, in each of its forms, as a kernel finds it beside a packed plan. No GPU needed.
#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "core/error.hpp"
#include "gpu/attention/mask_bits.hpp"

using namespace flashladder;

namespace {

Plan plan_of(std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens) {
  Plan plan;
  plan.batch = static_cast<std::int32_t>(qo_lens.size());
  plan.qo_lens = std::move(qo_lens), plan.kv_lens = std::move(kv_lens);
  return plan;
}

std::vector<gpu::MaskedRequest> list_of(const Plan& plan, const gpu::MaskShape& capacity) {
  std::vector<gpu::MaskedRequest> list(gpu::mask_list_bytes(capacity) / sizeof(gpu::MaskedRequest));
  gpu::pack_mask_list(plan, capacity, std::as_writable_bytes(std::span(list)));
  return list;
}

void check_record(const gpu::MaskedRequest& r, std::int64_t byte, std::int64_t packed_byte, std::int64_t word,
                  std::int32_t first_query, std::int32_t kv_len) {
  CHECK(r.byte == byte);
  CHECK(r.packed_byte == packed_byte);
  CHECK(r.word() == word);
  CHECK(r.first_query == first_query);
  CHECK(r.kv_len == kv_len);
}

}  // namespace

TEST_CASE("each request begins where the one before ends, as bytes, as FlashInfer's bits and as words") {
  const auto list = list_of(plan_of({3, 0, 2, 1}, {9, 50, 70, 0}), {.requests = 6, .words = 11});
  REQUIRE(list.size() == 7);
  check_record(list[0], 0, 0, 0, 0, 9);
  check_record(list[1], 27, 4, 3, 3, 50);  // 27 bits are 4 bytes; 3 rows of a word
  check_record(list[2], 27, 4, 3, 3, 70);
  check_record(list[3], 167, 22, 10, 5, 0);  // 140 bits more; 2 rows of 3 words, and a word that is nobody's
  for (int end = 4; end < 7; ++end) check_record(list[end], 167, 22, 11, 6, 70);  // with the longest kv_len
}

TEST_CASE("no request: an end and no more") {
  const auto list = list_of(plan_of({}, {}), {.requests = 0, .words = 0});
  REQUIRE(list.size() == 1);
  check_record(list[0], 0, 0, 0, 0, 0);
}

TEST_CASE("offsets go past 2^31 bytes and words") {
  const auto list = list_of(plan_of({1 << 20, 1 << 20}, {1 << 20, 64}), {.requests = 2, .words = std::int64_t{1} << 40});
  check_record(list[1], std::int64_t{1} << 40, std::int64_t{1} << 37, (std::int64_t{1} << 35) + (31 << 15), 1 << 20, 64);
}

TEST_CASE("what does not fit is refused") {
  const Plan plan = plan_of({3, 2}, {33, 64});  // 227 pairs, 5 queries
  CHECK_NOTHROW(list_of(plan, {.requests = 2, .words = 11}));
  CHECK_THROWS_WITH_AS(list_of(plan, {.requests = 1, .words = 11}),
                       "batch = 2: has more requests than the list of masked requests", InputError);
  CHECK_THROWS_WITH_AS(list_of(plan, {.requests = 2, .words = 10}),
                       "mask words = 11: are more than the workspace has room for", InputError);
  std::vector<std::byte> little(63);
  CHECK_THROWS_AS(gpu::pack_mask_list(plan, {.requests = 2, .words = 11}, little), InputError);
}

TEST_CASE("behind the last row there is room for a tile that begins at its end") {
  CHECK(gpu::mask_words_bytes({.requests = 1, .words = 0}) >= 4 * 4);
  for (std::int64_t words = 0; words < 9; ++words) {
    const std::size_t bytes = gpu::mask_words_bytes({.requests = 1, .words = words});
    CHECK(bytes % 16 == 0);
    CHECK(bytes >= static_cast<std::size_t>(words + 4) * 4);
  }
}
