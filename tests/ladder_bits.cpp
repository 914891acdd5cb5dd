// Every planned CPU rung, whatever its name: where it runs and beside whom changes no bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "tests/skewed_batch.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using reference::Schedule;

namespace {

std::vector<const Rung*> planned_rungs() {
  std::vector<const Rung*> planned;
  for (const Rung& rung : rungs()) {
    if (rung.device == Device::cpu && rung.parallel) planned.push_back(&rung);
  }
  REQUIRE(!planned.empty());
  return planned;
}

}  // namespace

TEST_CASE("every planned rung gives the same bits for any number of threads and whoever takes the work") {
  const Case c = draw_case(test::mixed_batch());
  for (const Rung* rung : planned_rungs()) {
    for (const auto policy : {planner::SplitPolicy::none, planner::SplitPolicy::fixed}) {  // whose cuts no machine moves
      INFO(rung->name, ", policy ", name_of(policy));
      RunResult first;
      for (int i = 0; i < 20; ++i) {
        const RunResult now = run_rung(*rung, c, {.threads = 1 + i % 5,
                                                  .schedule = i % 2 ? Schedule::fixed : Schedule::stealing,
                                                  .policy = policy, .chunk_size = 256});
        if (i == 0) first = now;
        CHECK(now.o == first.o);
        CHECK(now.lse_log2 == first.lse_log2);
      }
    }
  }
}

TEST_CASE("with a fixed chunk a request's bits do not depend on its neighbours") {
  const Settings settings{.threads = 2, .policy = planner::SplitPolicy::fixed, .chunk_size = 128};
  const Case batch = draw_case(test::skewed_batch());
  std::vector<RunResult> together;
  for (const Rung* rung : planned_rungs()) together.push_back(run_rung(*rung, batch, settings));
  for (std::int32_t b = 0; b < batch.spec.batch(); ++b) {
    Case alone = batch;  // the same pool and pages, one request
    alone.spec.kv_lens = {batch.spec.kv_lens[b]};
    alone.spec.qo_lens = {1};
    const std::int32_t pages_begin = batch.paged_kv_indptr[b], pages_end = batch.paged_kv_indptr[b + 1];
    alone.paged_kv_indptr = {0, pages_end - pages_begin};
    alone.paged_kv_indices.assign(batch.paged_kv_indices.begin() + pages_begin, batch.paged_kv_indices.begin() + pages_end);
    alone.paged_kv_last_page_len = {batch.paged_kv_last_page_len[b]};
    alone.qo_indptr = {0, 1};
    const std::size_t row_bytes = 6 * 64 * sizeof(float);
    alone.q = OwnedTensor(DType::f32, {1, 6, 64});
    std::copy_n(batch.q.bytes.begin() + static_cast<std::ptrdiff_t>(b * row_bytes), row_bytes, alone.q.bytes.begin());
    REQUIRE(batch.spec.dtype == DType::f32);
    for (std::size_t i = 0; i < together.size(); ++i) {
      INFO(planned_rungs()[i]->name);
      const RunResult single = run_rung(*planned_rungs()[i], alone, settings);
      CHECK(std::equal(single.o.begin(), single.o.end(), together[i].o.begin() + b * 6 * 64));
    }
  }
}
