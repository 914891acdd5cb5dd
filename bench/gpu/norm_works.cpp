// Family norm, and the short norms of family graph.
#include <utility>

#include "bench/gpu/device_rows.hpp"
#include "bench/gpu/op_works.hpp"
#include "gpu/norm/norm.hpp"
#include "reference/norm.hpp"

namespace flashladder::bench {
namespace {

constexpr float eps = 1e-6f;

gpu::DeviceBuffer to_device(const std::vector<Half>& host) { return {host.data(), host.size() * sizeof(Half)}; }

// x, and the second tensor: out, or the residual, [places, rows, hidden] each.
struct NormRun final : OpRun {
  NormCase c;
  gpu::DeviceBuffer x, second, weight;
  std::vector<std::int64_t> rows;  // of a place: which are compared

  NormRun(const NormCase& c_, std::int32_t places)
      : c(c_), x(random_halves(elements() * places, 1)), second(random_halves(elements() * places, 2)),
        weight(to_device(norm_weights(c.hidden, 3))), rows(sampled_rows(c.rows)) {}

  std::int64_t elements() const { return std::int64_t{1} * c.rows * c.hidden; }
  std::byte* at(const gpu::DeviceBuffer& b, std::int32_t place) const { return b.data() + place * elements() * 2; }

  void launch(std::int32_t place, bool enable_pdl, void* stream) const override {
    const auto tensor = [&](const gpu::DeviceBuffer& b) {
      return contiguous(at(b, place), DType::f16, {c.rows, c.hidden});
    };
    const Tensor w = contiguous(weight.data(), DType::f16, {c.hidden});
    const auto s = static_cast<cudaStream_t>(stream);
    if (c.fused_add) {
      gpu::fused_add_rmsnorm(tensor(x), tensor(second), w, eps, s, enable_pdl);
    } else {
      gpu::rmsnorm(tensor(x), w, tensor(second), eps, s, enable_pdl);
    }
  }

  std::string checked() const override { return rows_text(rows, c.rows); }

  std::string check(std::int32_t place, const GpuTimer& timer) const override {
    const std::int64_t one[] = {0};
    HostRows in(at(x, place), rows, c.hidden), residual(at(second, place), rows, c.hidden), w(weight.data(), one, c.hidden);
    launch(place, false, timer.stream());
    timer.synchronise();
    const HostRows x_now(at(x, place), rows, c.hidden), second_now(at(second, place), rows, c.hidden);
    const Tensor weights = contiguous(w.values.data(), DType::f16, {c.hidden});
    if (!c.fused_add) {
      HostRows out = in;
      reference::rmsnorm(in.tensor(), weights, out.tensor(), eps);
      return compare_rows("out", second_now, out, rows);
    }
    reference::fused_add_rmsnorm(in.tensor(), residual.tensor(), weights, eps);
    std::string wrong = same_rows("residual", second_now, residual, rows);
    return wrong.empty() ? compare_rows("input", x_now, in, rows) : wrong;
  }
};

}  // namespace

std::vector<TimedWork> norm_works(bool in_graph, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const NormCase& c : in_graph ? graph_norm_cases() : norm_cases()) {
    say("preparing " + c.name());
    const std::int32_t places = in_graph ? rotation_for(c.bytes()).caches : 1;
    const auto run = std::make_shared<const NormRun>(c, places);
    if (in_graph) {
      add_graph_works(works, c.name(), c.bytes(), run, timer);
    } else {
      add_event_work(works, Family::norm, c.name(), c.bytes(), run, timer);
    }
  }
  return works;
}

}  // namespace flashladder::bench
