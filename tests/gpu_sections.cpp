// The order in which heads are claimed: sections whose keys and values the L2 cache holds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "gpu/attention/packed_plan.hpp"
#include "planner/planner.hpp"

using namespace flashladder;

TEST_CASE("the order of sections visits every item of every copy once, section after section") {
  // Width, and how many of it.
  constexpr std::int32_t sections[][2] = {{1, 0}, {1, 11}, {1, 4}, {2, 5}, {3, 3}, {3, 1}, {8, 1}, {12, 0}};
  for (const auto [section, narrow] : sections) {
    const gpu::PackedHeader header{.num_work = 5 * 12, .copies = 12, .section = section, .narrow = narrow};
    std::vector<int> seen(5 * 12);
    std::int32_t last = 0;
    for (std::int32_t w = 0; w < header.num_work; ++w) {
      const gpu::PackedHeader::Place at = header.in_sections(w);
      REQUIRE((at.item >= 0 && at.item < 5 && at.copy >= 0 && at.copy < 12));
      ++seen[static_cast<std::size_t>(at.item * 12 + at.copy)];
      CHECK(std::min(at.copy / section, narrow) >= last);
      last = std::min(at.copy / section, narrow);
    }
    for (const int times : seen) CHECK(times == 1);
  }
}

// 32 query heads, head_dim 128: K and V of a KV head are 4 MiB for 8192 tokens.
TEST_CASE("sections are as wide as the cache asks for, the last as work asks for, one where nothing is shared") {
  const auto header = [](std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens, MaskMode mask,
                         std::int32_t num_kv_heads = 8, std::int32_t pack = 1) {
    const Plan plan = planner::make_plan({.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = 32,
                                          .num_kv_heads = num_kv_heads, .head_dim_qk = 128, .head_dim_vo = 128, .mask = mask,
                                          .query_tile = 128, .pack = pack, .claimed = true,
                                          .policy = planner::SplitPolicy::none,
                                          .machine = {.num_sms = 132, .ctas_per_sm = 1}});
    const gpu::PackedShape shape = gpu::shape_of(plan);
    std::vector<std::byte> packed(gpu::packed_bytes(shape));
    gpu::pack(plan, {16}, shape, packed);
    return *gpu::view_of(shape, packed.data()).header;
  };
  const std::vector<std::int32_t> long2{8192, 8192}, short64(64, 16), keys64(64, 8192), one{16384}, half{8192};
  const gpu::PackedHeader causal = header(long2, long2, MaskMode::causal);  // 128 items: 8 heads have 7 works for each CTA
  CHECK((causal.section == 8 && causal.narrow == 3));
  const gpu::PackedHeader alone = header(half, half, MaskMode::causal, 32);  // 64 items: 15 heads have them
  CHECK((alone.section == 5 && alone.narrow == 3));
  const gpu::PackedHeader full = header(one, one, MaskMode::none);
  CHECK((full.section == 8 && full.narrow == 3));
  const gpu::PackedHeader packed = header(long2, long2, MaskMode::causal, 8, 4);  // a copy is a KV head
  CHECK((packed.section == 2 && packed.narrow == 3));
  // 8 items: not even all heads have 7 works for each CTA. Those that are alike to within a tenth need no wide last section.
  const std::vector<std::int32_t> few(2, 512);
  const gpu::PackedHeader alike = header(few, {4096, 3700}, MaskMode::none, 32);
  CHECK((alike.section == 6 && alike.narrow == 5));
  const gpu::PackedHeader unlike = header(few, {4096, 3600}, MaskMode::none, 32);
  CHECK((unlike.section == 6 && unlike.narrow == 0));
  const gpu::PackedHeader longer = header({4096, 4096}, {30000, 20000}, MaskMode::none, 32);  // 64 items of two sizes
  CHECK((longer.section == 1 && longer.narrow == 17));
  const gpu::PackedHeader appended = header(short64, keys64, MaskMode::causal);  // one tile a request
  CHECK((appended.section == 32 && appended.narrow == 0));
}
