// Stamps of D6's CTAs, for the plans of two policies: balanced, and none, whose CTAs differ enough to test the cost model.
#include <algorithm>
#include <set>
#include <utility>

#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/expected.hpp"
#include "bench/gpu/timer.hpp"
#include "bench/gpu_bench.hpp"
#include "core/error.hpp"
#include "gpu/check.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/device_problem.hpp"

namespace flashladder::bench {
namespace {

constexpr int samples = 11;

// When each CTA began and ended, [num_ctas, 2] ns; zeros of one that found an empty queue.
struct Stamps {
  std::vector<std::uint64_t> ns;

  bool worked(std::size_t cta) const { return ns[2 * cta] != 0; }
  std::uint64_t first() const {
    std::uint64_t least = ~std::uint64_t{0};
    for (std::size_t cta = 0; cta < ns.size() / 2; ++cta) least = worked(cta) ? std::min(least, ns[2 * cta]) : least;
    return least;
  }
  std::uint64_t length() const { return *std::max_element(ns.begin(), ns.end()) - first(); }
};

// The run of median length among several with a cold L2; its output stays in `output`.
Stamps median_run(const Plan& plan, std::int32_t page_size, const gpu::AttentionCall& call, const GpuTimer& timer) {
  const gpu::PackedShape shape = gpu::shape_of(plan);
  std::vector<std::byte> packed(gpu::packed_bytes(shape));
  gpu::pack(plan, {page_size}, shape, packed);
  const gpu::DeviceBuffer on_device(packed.data(), packed.size());
  const gpu::DeviceBuffer partials(gpu::partial_bytes(shape, call.params.head_dim_vo));
  const std::vector<std::uint64_t> zeros(static_cast<std::size_t>(shape.num_ctas) * 2);
  const gpu::DeviceBuffer times(zeros.data(), zeros.size() * sizeof(std::uint64_t));
  std::vector<Stamps> runs;
  for (int i = 0; i < samples; ++i) {
    timer.flush();
    gpu::d6::attend(call, shape, on_device.data(), partials.data(), static_cast<cudaStream_t>(timer.stream()),
                    times.as<std::uint64_t>());
    timer.synchronise();
    runs.push_back({zeros});
    times.download(runs.back().ns.data());
  }
  std::nth_element(runs.begin(), runs.begin() + samples / 2, runs.end(),
                   [](const Stamps& a, const Stamps& b) { return a.length() < b.length(); });
  return runs[samples / 2];
}

CtaProfile profile(const Expected& expected, const gpu::DeviceProblem& problem, planner::SplitPolicy policy,
                   const GpuTimer& timer) {
  const ladder::CaseSpec& spec = expected.c.spec;
  ladder::RunResult result{.o = std::vector<float>(expected.below.o.size()),
                           .lse_log2 = std::vector<float>(expected.below.lse_log2.size())};
  gpu::DeviceBuffer o(result.o.size() * sizeof(float)), lse(result.lse_log2.size() * sizeof(float));
  o.poison();
  lse.poison();
  const AttentionOutput output{
      .o = contiguous(o.data(), DType::f32, {spec.nnz_qo(), spec.params.num_qo_heads, spec.params.head_dim_vo}),
      .lse_log2 = {lse.as<float>(), result.lse_log2.size()}};
  ApiDecode decode(spec, {.policy = policy});
  decode.plan(timer.stream());
  const Plan& plan = decode.current_plan();
  const Stamps stamps = median_run(plan, spec.page_size, gpu::attention_call(problem.view(), output), timer);
  o.download(result.o.data());
  lse.download(result.lse_log2.data());
  const ladder::Comparison comparison = expected.compare(result, spec.dtype);
  require(comparison.ok(), "D6", spec.name, comparison.message().c_str());

  CtaProfile p{.work = spec.name, .policy = name_of(policy), .predicted = {plan.cta_cost.begin(), plan.cta_cost.end()},
               .begin_us = {}, .end_us = {}, .backend = "flashladder D6"};
  for (std::size_t c = 0; c < p.predicted.size(); ++c) {
    for (const auto& [us, ns] : {std::pair{&p.begin_us, stamps.ns[2 * c]}, {&p.end_us, stamps.ns[2 * c + 1]}}) {
      us->push_back(stamps.worked(c) ? 1e-3 * static_cast<double>(ns - stamps.first()) : 0);
    }
  }
  return p;
}

}  // namespace

std::vector<CtaProfile> profile_ctas(std::vector<ladder::CaseSpec> specs, const GpuTimer& timer,
                                     const std::function<void(const std::string&)>& say) {
  if (specs.empty()) {
    for (const ladder::CaseSpec& spec : decode_cases()) {
      const bool chosen = spec.name == "B32 kv2048 32/8 p16" || spec.name == "B64 lognormal 32/8 p16" ||
                          spec.name == "mixed16 32/8 p16" || spec.name == "1 x 65536 + 31 x 4096 32/8 p16";
      if (chosen) specs.push_back(spec);
    }
  }
  std::vector<CtaProfile> profiles;
  std::set<DType> dtypes;  // D6 rounds P to the dtype of K and V
  for (const ladder::CaseSpec& spec : specs) dtypes.insert(spec.dtype);
  ExpectedAhead ahead(specs, {dtypes.begin(), dtypes.end()});
  for (const ladder::CaseSpec& spec : specs) {
    say("CTA times of " + spec.name);
    const Expected expected = ahead.next();
    const gpu::DeviceProblem problem(expected.c.problem());
    for (const planner::SplitPolicy policy : {planner::SplitPolicy::balanced, planner::SplitPolicy::none}) {
      profiles.push_back(profile(expected, problem, policy, timer));
    }
  }
  return profiles;
}

}  // namespace flashladder::bench
