// A rung: one implementation of the ladder's function, behind the one interface that tests, benchmarks, the command line
// and the walkthroughs iterate over. A new rung is one file, one line in registry.cpp, and an adapter where it needs a plan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "core/attention_problem.hpp"
#include "core/device.hpp"
#include "core/mla_problem.hpp"
#include "ladder/cases/case_spec.hpp"
#include "ladder/tolerance.hpp"
#include "planner/plan_inputs.hpp"
#include "reference/schedule.hpp"

namespace flashladder::ladder {


// Yes, or the reason why not: nothing is silently ignored.
struct Support {
  std::string reason;
  explicit operator bool() const { return reason.empty(); }
};

// How to run, as far as the caller may choose. Rungs that have no such choice ignore it.
struct Settings {
  int threads = 0;                                               // 0 = as many as the plan is worth
  reference::Schedule schedule = reference::Schedule::stealing;
  planner::SplitPolicy policy = planner::SplitPolicy::balanced;
  std::int32_t chunk_size = 512;                                 // keys; policy fixed only
  std::int32_t num_sms = 0;                                      // GPU rungs plan for so many; 0 = those of this GPU

  int thread_count() const;  // threads, or those of this machine
};

// What the harness allocated, poisoned and guarded, on the rung's device: a GPU rung gets device pointers throughout, the
// page table's too, and reads lengths from the spec.
struct Buffers {
  AttentionProblem problem;        // of op mla too: as multi-query attention, of one tensor of both parts
  AttentionOutput output;
  std::span<std::byte> workspace;  // at least workspace_bytes(spec, settings)
  MlaProblem mla{};                // of rungs of op mla; a GPU rung then has no problem, it need not be uploaded twice
};

// Enqueues one run on a stream (ignored by CPU rungs, which have finished when it returns). Nothing is allocated or planned
// here, so that a GPU rung's runner can be captured in a graph.
using Runner = std::function<void(void* stream)>;

struct Rung {
  std::string name;        // "C1"
  std::string idea;        // what is new against the rung below, in a few words
  std::string teaches;     // the chapter that explains it, "02"; "" if none
  Device device = Device::cpu;  // where the harness allocates the buffers
  std::string must_equal;  // the rung below; "" for the oracle
  std::int32_t longest_chain = whole_row;  // Rounding::chain: decides its tolerance (tolerance.hpp)
  bool parallel = false;   // uses Settings::threads; the others use one
  bool p_as_kv = false;    // rounds P, and q and K that RoPE rotated, to the dtype of q, as tensor cores want it (K and V
                           // have that too, or are converted to it from fp8): decides its tolerance
  bool one_query = false;  // a decode rung: takes one query of each request, or few
  Op op = Op::attention;   // mla: computes from Buffers::mla, and takes nothing else
  std::function<Support(const CaseSpec&)> supports;
  std::function<std::size_t(const CaseSpec&, const Settings&)> workspace_bytes;
  std::function<Runner(const Buffers&, const CaseSpec&, const Settings&)> prepare;  // may plan, copy, synchronise

  Rounding rounding(const CaseSpec& spec) const { return {p_as_kv ? spec.dtype : DType::f32, longest_chain}; }
};

// The rungs of attention, from the lowest up: CPU, then GPU, if built with CUDA. Without a GPU those support nothing and say
// why.
std::span<const Rung> rungs();
// Those of latent attention (op mla), of which the lowest stands on C0: attention's CPU rungs compute it too.
std::span<const Rung> mla_rungs();
// The rung of that name, of either ladder; an InputError lists the names.
const Rung& rung(const std::string& name);

// The nearest rung below that supports the case: where the rung it must equal does not, the one that must equal, and so on.
// nullptr: there is none, only the oracle.
const Rung* rung_below(const Rung& rung, const CaseSpec& spec);

// The plan that the planned CPU rung executes for a case, so that others can show it.
planner::PlanInputs cpu_plan_inputs(const CaseSpec& spec, const Settings& settings);

}  // namespace flashladder::ladder
