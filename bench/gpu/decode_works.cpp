// Families decode and graph: decode rungs on cases of the ladder, by events around one run, and in a graph of launches.
#include <cstring>
#include <utility>

#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/expected.hpp"
#include "bench/gpu/families.hpp"
#include "core/visibility.hpp"
#include "gpu/device_problem.hpp"

namespace flashladder::bench {
namespace {

using gpu::DeviceBuffer;
using ladder::CaseSpec;
using ladder::RunResult;
using ladder::Rung;
using ladder::Settings;

constexpr const char* api_executes = "D6";  // the rung behind the public class

using Caches = std::shared_ptr<const std::vector<gpu::DeviceProblem>>;  // the same data, in memory of their own

// K and V that some query sees, which is what the peers count: q and o are 0.2 % of them on the smallest case.
double compulsory_bytes(const CaseSpec& s) {
  const AttentionParams& p = s.params;
  std::int64_t keys = 0;
  for (std::int32_t b = 0; b < s.batch(); ++b) keys += visible_keys(p, s.qo_lens[b], s.kv_lens[b], {0, s.qo_lens[b]}).size();
  return static_cast<double>(keys) * p.num_kv_heads * (p.head_dim_qk + p.head_dim_vo) *
         static_cast<double>(size_of(s.cache_dtype()));
}

bool has_plan(const Rung& rung, const CaseSpec& spec) {  // the others know no settings
  return rung.workspace_bytes(spec, {.policy = planner::SplitPolicy::fixed, .chunk_size = 64}) > 0;
}

// A case's decode on every one of its caches: outputs and workspace between guard bands, NaN at first.
struct DecodeRun {
  Caches caches;
  DeviceBuffer o, lse_log2, workspace;
  std::unique_ptr<ApiDecode> api;  // or none: a rung
  std::vector<Launch> launches;    // one for each cache
  RunResult checked;
  OutputError error;               // of what was checked, and the next one too
  Nearest nearest;

  DecodeRun(const CaseSpec& spec, Caches caches_, std::size_t workspace_bytes)
      : caches(std::move(caches_)), o(rows(spec) * spec.params.head_dim_vo * sizeof(float), DeviceBuffer::guard_band),
        lse_log2(rows(spec) * sizeof(float), DeviceBuffer::guard_band),
        workspace(workspace_bytes, DeviceBuffer::guard_band) {
    workspace.poison();
  }

  AttentionOutput output(const CaseSpec& spec) const {
    return {.o = contiguous(o.data(), DType::f32, {spec.nnz_qo(), spec.params.num_qo_heads, spec.params.head_dim_vo}),
            .lse_log2 = {lse_log2.as<float>(), rows(spec)}};
  }

  static std::size_t rows(const CaseSpec& spec) {
    return static_cast<std::size_t>(spec.nnz_qo()) * static_cast<std::size_t>(spec.params.num_qo_heads);
  }

  void poison() {
    o.poison();
    lse_log2.poison();
  }

  RunResult result() const {
    RunResult r{.o = std::vector<float>(o.size() / sizeof(float)),
                .lse_log2 = std::vector<float>(lse_log2.size() / sizeof(float))};
    o.download(r.o.data());
    lse_log2.download(r.lse_log2.data());
    r.guards_intact = o.guards_intact() && lse_log2.guards_intact() && workspace.guards_intact();
    return r;
  }

  // Of the run that came last: "" if it gave the bits that were checked.
  std::string difference() const {
    const RunResult now = result();
    if (!now.guards_intact) return "wrote outside of its output";
    const bool same = std::memcmp(now.o.data(), checked.o.data(), o.size()) == 0 &&
                      std::memcmp(now.lse_log2.data(), checked.lse_log2.data(), lse_log2.size()) == 0;
    return same ? "" : "other bits than in the run that was checked";
  }
};

std::shared_ptr<DecodeRun> rung_run(const Rung& rung, const CaseSpec& spec, const Settings& settings, const Caches& caches) {
  auto run = std::make_shared<DecodeRun>(spec, caches, rung.workspace_bytes(spec, settings));
  for (const gpu::DeviceProblem& problem : *caches) {
    run->launches.push_back(rung.prepare(
        {problem.view(), run->output(spec), {run->workspace.data(), run->workspace.size()}}, spec, settings));
  }
  return run;
}

// The public class: one plan for all caches, as for the layers of a model, and programmatic dependent launch.
std::shared_ptr<DecodeRun> api_run(const CaseSpec& spec, const Settings& settings, const Caches& caches,
                                   const GpuTimer& timer) {
  auto run = std::make_shared<DecodeRun>(spec, caches, 0);
  run->api = std::make_unique<ApiDecode>(
      spec, ApiDecode::Options{.enable_pdl = true, .policy = settings.policy, .chunk_size = settings.chunk_size});
  run->api->plan(timer.stream());
  for (const gpu::DeviceProblem& problem : *caches) {
    const AttentionProblem& p = problem.view();
    run->launches.push_back(run->api->launch(p.q, p.kv, p.paged_kv_indices, run->output(spec)));
  }
  return run;
}

// One run on each cache: the first is compared, the others have to give the same bits.
std::string check(DecodeRun& run, const Expected& expected, ladder::Rounding rounding, const GpuTimer& timer) {
  for (const Launch& launch : run.launches) {
    run.poison();
    timer.synchronise();
    launch(timer.stream());
    timer.synchronise();
    if (!run.checked.o.empty()) {
      if (std::string difference = run.difference(); !difference.empty()) return difference;
      continue;
    }
    run.checked = run.result();
    const ladder::Comparison comparison = expected.compare(run.checked, rounding);
    if (!comparison.ok()) return comparison.message();
    run.nearest = {comparison.worst().error, comparison.worst().tolerance};
    run.error = expected.off_double(run.checked);
  }
  return "";
}

Caches upload(const ladder::Case& c, std::int32_t count) {
  auto caches = std::make_shared<std::vector<gpu::DeviceProblem>>();
  caches->reserve(static_cast<std::size_t>(count));
  for (std::int32_t i = 0; i < count; ++i) caches->emplace_back(c.problem());
  return caches;
}

TimedWork work_of(Family family, const CaseSpec& spec, const char* suffix, const std::string& backend,
                  const Expected& expected, const DecodeRun& run, const std::string& failure) {
  return {.line = {.family = name_of(family), .work = spec.name + suffix, .backend = "flashladder" + backend,
                   .error = run.error, .nearest = run.nearest},
          .bytes = compulsory_bytes(spec), .checked = expected.text(), .failure = failure, .time_us = {}};
}

// A run in a graph of launches, cold and warm.
void add_graph_works(std::vector<TimedWork>& works, const std::string& backend, const std::shared_ptr<DecodeRun>& run,
                     const Expected& expected, ladder::Rounding rounding, const Timer& timer) {
  const CaseSpec& spec = expected.c.spec;
  const std::string failure = check(*run, expected, rounding, *timer);
  std::vector<Launch> rotating;
  for (std::int32_t turn = 0; turn < rotation_for(compulsory_bytes(spec)).turns; ++turn) {
    rotating.insert(rotating.end(), run->launches.begin(), run->launches.end());
  }
  const std::vector<Launch> same(20, run->launches[0]);
  for (const bool cold : {true, false}) {
    const auto graph = std::make_shared<CapturedGraph>(cold ? rotating : same, timer->stream());
    const char* suffix = cold ? " cold" : " warm";
    TimedWork& work = works.emplace_back(work_of(Family::graph, spec, suffix, backend, expected, *run, failure));
    if (cold) work.floor = Floor::read_in_graph;
    work.time_us = [=] { return timer->graph_us(*graph); };
    work.recheck = [run] { return run->difference(); };
  }
}

void for_each_case(const std::vector<CaseSpec>& specs, const GpuWorkOptions& options, const Say& say,
                   const std::function<void(const Expected&)>& use) {
  ExpectedAhead ahead(specs, roundings_of(options.rungs, specs));
  for (const CaseSpec& spec : specs) {
    if (options.late()) break;
    say("drawing " + spec.name);
    use(ahead.next());
  }
}

// Every rung that supports the case, with every plan that it can have.
void for_each_plan(const CaseSpec& spec, const GpuWorkOptions& options, const Say& say,
                   const std::function<void(const Rung&, const Settings&)>& use) {
  for (const Rung* rung : options.rungs) {
    if (!rung->supports(spec)) continue;
    say("checking " + rung->name + " on " + spec.name);
    for (const Settings& settings : options.settings) {
      use(*rung, settings);
      if (!has_plan(*rung, spec)) break;
    }
  }
}

}  // namespace

std::string policy_suffix(const Settings& s) {
  if (s.policy == planner::SplitPolicy::balanced) return "";
  const bool fixed = s.policy == planner::SplitPolicy::fixed;
  return std::string(" ") + name_of(s.policy) + (fixed ? " " + std::to_string(s.chunk_size) : "");
}

std::vector<TimedWork> decode_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  const auto use = [&](const Expected& expected) {
    const CaseSpec& spec = expected.c.spec;
    const Caches cache = upload(expected.c, 1);
    for_each_plan(spec, options, say, [&](const Rung& rung, const Settings& settings) {
      const std::shared_ptr<DecodeRun> run = rung_run(rung, spec, settings, cache);
      const std::string failure = check(*run, expected, rung.rounding(spec), *timer);
      const std::string backend = " " + rung.name + policy_suffix(settings);
      TimedWork& work = works.emplace_back(work_of(Family::decode, spec, "", backend, expected, *run, failure));
      work.floor = Floor::read;
      work.time_us = [=] { return timer->event_us(run->launches[0]); };
      work.recheck = [run] { return run->difference(); };
    });
  };
  for_each_case(options.specs.empty() ? decode_cases() : options.specs, options, say, use);
  return works;
}

std::vector<TimedWork> decode_graph_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  const auto use = [&](const Expected& expected) {
    const CaseSpec& spec = expected.c.spec;
    const Caches caches = upload(expected.c, rotation_for(compulsory_bytes(spec)).caches);
    for_each_plan(spec, options, say, [&](const Rung& rung, const Settings& settings) {
      const auto add = [&](const std::string& backend, const std::shared_ptr<DecodeRun>& run) {
        add_graph_works(works, backend + policy_suffix(settings), run, expected, rung.rounding(spec), timer);
      };
      add(" " + rung.name, rung_run(rung, spec, settings, caches));
      if (rung.name == api_executes) add(" pdl", api_run(spec, settings, caches, *timer));
    });
  };
  for_each_case(options.specs.empty() ? graph_cases() : options.specs, options, say, use);
  return works;
}

}  // namespace flashladder::bench
