// What each family prepares (bench/gpu_bench.hpp): one file each.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/gpu/timer.hpp"
#include "bench/gpu_bench.hpp"

namespace flashladder::bench {

using Say = std::function<void(const std::string&)>;
using Timer = std::shared_ptr<const GpuTimer>;

// Behind a backend's name: "" for the default plan, " fixed 512" for another.
std::string policy_suffix(const ladder::Settings& settings);

std::vector<TimedWork> decode_works(const GpuWorkOptions& options, const Timer& timer, const Say& say);
std::vector<TimedWork> decode_graph_works(const GpuWorkOptions& options, const Timer& timer, const Say& say);
std::vector<TimedWork> chain_works(const Timer& timer, const Say& say);
std::vector<TimedWork> prefill_works(const GpuWorkOptions& options, const Timer& timer, const Say& say);
std::vector<TimedWork> prefill_ladder_works(const GpuWorkOptions& options, const Timer& timer, const Say& say);
std::vector<TimedWork> mla_works(const GpuWorkOptions& options, const Timer& timer, const Say& say);
std::vector<TimedWork> cascade_works(const Timer& timer, const Say& say);
std::vector<TimedWork> lengths_works(const Timer& timer, const Say& say);
std::vector<TimedWork> append_works(const Timer& timer, const Say& say);
// in_graph: the short cases, in a graph, cold and warm; else every case by events.
std::vector<TimedWork> norm_works(bool in_graph, const Timer& timer, const Say& say);
std::vector<TimedWork> rope_works(bool in_graph, const Timer& timer, const Say& say);
std::vector<TimedWork> plan_works(const GpuWorkOptions& options, const Timer& timer, const Say& say);

}  // namespace flashladder::bench
