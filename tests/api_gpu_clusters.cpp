// What a batch tells the choice between D6 and D7: its tiles, and the keys that are seen. Needs no GPU.
#include <doctest/doctest.h>

#include <set>

#include "api/gpu_call.hpp"
#include "gpu/decode/decode.hpp"

using namespace flashladder;
using namespace flashladder::api;

namespace {

AttentionConfig config_of(std::int32_t num_qo_heads, std::int32_t num_kv_heads, std::int32_t window_left = -1) {
  return {.heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = 128},
          .cache = {.page_size = 16, .dtype = DType::f16},
          .logits = {.mask = MaskMode::causal, .window_left = window_left}};
}

AttentionMachine machine_of(const AttentionConfig& config, const BatchSize& size) {
  return gpu_machine(GpuKernel::d6, config.params(), size, {.num_sms = 132, .clusters = 14});
}

}  // namespace

TEST_CASE("expected times depend on the bytes of a key, and a batch without tiles takes no cluster") {
  for (const std::int64_t tiles : {1, 3, 8, 14}) {
    for (const std::int64_t keys : {1, 700, 5000, 16384}) {
      const auto of = [&](std::int64_t most_keys, std::int32_t head_dim) {
        return gpu::d7::expected_times({.tiles = tiles, .most_keys = most_keys, .rows = 4, .head_dim = head_dim}, 14);
      };
      const gpu::d7::DecodeTimes wide = of(keys, 128), narrow = of(2 * keys, 64);
      CHECK(wide.d6 == narrow.d6);
      CHECK(wide.d7 == narrow.d7);
      CHECK(wide.clusters == narrow.clusters);
    }
  }
  const gpu::d7::DecodeTimes none = gpu::d7::expected_times({.tiles = 0, .most_keys = 100}, 14);
  CHECK((none.clusters == 0 && none.d7 == 0));
}

TEST_CASE("what an item costs is told in keys of one size, and of a cluster as of all its CTAs") {
  CHECK(gpu::d6::keys_per_item(64) == 2 * gpu::d6::keys_per_item(128));
  CHECK(gpu::d6::keys_per_item(256) == gpu::d6::keys_per_item(128));
  for (const std::int32_t head_dim : {64, 128, 256}) {
    CHECK(gpu::d7::keys_per_item(head_dim) == gpu::d7::ctas * gpu::d6::keys_per_item(head_dim));
  }
  const AttentionMachine clusters = machine_of(config_of(32, 8), {.batch = 1, .most_kv_len = 1024});
  REQUIRE(clusters.clusters > 0);
  CHECK(clusters.cost.per_item == gpu::d7::keys_per_item(128));
  CHECK(clusters.cost.per_many == 0);  // no groups: a cluster's rows meet one by one
  const AttentionMachine single = machine_of(config_of(32, 8), {.batch = 32, .most_kv_len = 1024});
  REQUIRE(single.clusters == 0);
  CHECK(single.cost.per_item == gpu::d6::keys_per_item(128));
  CHECK(single.cost.per_many == gpu::d6::keys_per_grouped_item(128));
}

TEST_CASE("a window of n keys beside the query's own shows n + 1 of them") {
  std::set<std::int32_t> choices;
  for (std::int32_t window_left = 0; window_left < 9000; ++window_left) {
    const std::int32_t wanted = gpu::d7::worth_clusters({.tiles = 8, .most_keys = window_left + 1, .rows = 4}, 14);
    REQUIRE(machine_of(config_of(32, 8, window_left), {.batch = 1, .most_kv_len = 100000}).clusters == wanted);
    choices.insert(wanted);
  }
  CHECK(choices.size() > 1);  // a key more or less decides somewhere
}

TEST_CASE("tiles are those of requests with queries, of every KV head, and of groups that take several") {
  CHECK(BatchSize{.nnz_qo = 0, .batch = 9}.with_queries() == 9);  // decode
  CHECK(BatchSize{.nnz_qo = 2, .batch = 9}.with_queries() == 2);
  CHECK(BatchSize{.nnz_qo = 500, .batch = 9}.with_queries() == 9);
  const BatchSize one_of_many{.nnz_qo = 1, .batch = 100, .most_qo_len = 1, .most_kv_len = 1024};
  CHECK(machine_of(config_of(32, 8), one_of_many).clusters == 8);
  const BatchSize one{.batch = 1, .most_kv_len = 1024};
  const std::int32_t most_rows = machine_of(config_of(8, 8), one).most_decode_rows;
  const AttentionMachine three = machine_of(config_of(3 * most_rows, 1), one);  // three tiles of a group
  CHECK(three.clusters == gpu::d7::worth_clusters({.tiles = 3, .most_keys = 1024, .rows = most_rows}, 14));
  CHECK(three.clusters % 3 == 0);
  CHECK(three.clusters > 0);
}

TEST_CASE("a batch whose longest request is not known, as that of limits, is none for clusters") {
  const AttentionMachine m = machine_of(config_of(32, 8), {.batch = 1});
  CHECK(m.clusters == 0);
  CHECK(m.shape.num_ctas() == 264);
}
