// Family rope, and the short one of family graph: q and k in place, one launch, from a table of cosines and sines.
#include "bench/gpu/device_rows.hpp"
#include "bench/gpu/op_works.hpp"
#include "bench/gpu/rope_table.hpp"
#include "gpu/rope/rope.hpp"
#include "reference/rope_ops.hpp"

namespace flashladder::bench {
namespace {

constexpr std::int64_t head_dim = 128, q_width = 32 * head_dim, k_width = 8 * head_dim;

struct RopeRun final : OpRun {
  RopeCase c;
  gpu::DeviceBuffer q, k;  // [places, tokens, 32 or 8, 128]
  RopeTable table;
  std::vector<std::int64_t> rows;

  RopeRun(const RopeCase& c_, std::int32_t places)
      : c(c_), q(random_halves(q_width * c.tokens * places, 1)), k(random_halves(k_width * c.tokens * places, 2)),
        table(c.tokens, 3), rows(sampled_rows(c.tokens)) {}

  std::byte* q_at(std::int32_t place) const { return q.data() + place * q_width * c.tokens * 2; }
  std::byte* k_at(std::int32_t place) const { return k.data() + place * k_width * c.tokens * 2; }

  void launch(std::int32_t place, bool enable_pdl, void* stream) const override {
    gpu::apply_rope_with_cos_sin_cache_inplace(
        table.device_positions(), contiguous(q_at(place), DType::f16, {c.tokens, 32, head_dim}),
        contiguous(k_at(place), DType::f16, {c.tokens, 8, head_dim}), table.device_cache(), c.neox,
        static_cast<cudaStream_t>(stream), enable_pdl);
  }

  std::string checked() const override { return rows_text(rows, c.tokens); }

  std::string check(std::int32_t place, const GpuTimer& timer) const override {
    HostRows want_q(q_at(place), rows, q_width), want_k(k_at(place), rows, k_width);
    launch(place, false, timer.stream());
    timer.synchronise();
    const HostRows got_q(q_at(place), rows, q_width), got_k(k_at(place), rows, k_width);
    reference::apply_rope_with_cos_sin_cache_inplace(table.positions_of(rows), want_q.heads(head_dim),
                                                     want_k.heads(head_dim), table.host_cache(), c.neox);
    std::string wrong = compare_rows("q", got_q, want_q, rows, RopeTable::slack);
    return wrong.empty() ? compare_rows("k", got_k, want_k, rows, RopeTable::slack) : wrong;
  }
};

}  // namespace

std::vector<TimedWork> rope_works(bool in_graph, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const RopeCase& c : in_graph ? graph_rope_cases() : rope_cases()) {
    say("preparing rope " + c.name());
    const std::int32_t places = in_graph ? rotation_for(c.bytes()).caches : 1;
    const auto run = std::make_shared<const RopeRun>(c, places);
    if (in_graph) {
      add_graph_works(works, "rope " + c.name(), c.bytes(), run, timer);
    } else {
      add_event_work(works, Family::rope, c.name(), c.bytes(), run, timer);
    }
  }
  return works;
}

}  // namespace flashladder::bench
