// What `flashladder bench` is asked for, and its two halves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "cli/plugin_timing.hpp"

namespace flashladder::cli {

struct BenchOptions {
  std::vector<std::string> families;  // empty: on the CPU
  CaseOptions shape;
  ThreadOption threads;
  TimedPlugins plugins;
  std::vector<std::string> rungs, policies{"balanced"};
  std::string table, jsonl, commit, html;
  std::optional<std::int32_t> rounds;  // none: the half's own default
  std::int32_t run = 1;
  std::int32_t chunk_size = 512;
  bool csv = false, json = false, no_plan = false, list = false;
};

// The cases of --cases and --kv; none: the half's own.
std::vector<ladder::CaseSpec> asked_cases(const BenchOptions& options);

int bench_on_cpu(const BenchOptions& options);
int bench_plans_on_cpu(const BenchOptions& options);
int bench_on_gpu(const BenchOptions& options);

}  // namespace flashladder::cli
