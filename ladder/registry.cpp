// The ladder, rung by rung: one line each.
#include <utility>
#include <vector>

#include "api/placement.hpp"
#include "core/error.hpp"
#include "ladder/adapters.hpp"
#ifdef FLASHLADDER_CUDA
#include "ladder/gpu_adapters.hpp"
#endif
#include "ladder/rung.hpp"
#include "reference/c1_online_softmax.hpp"
#include "reference/c2_split_merge.hpp"
#include "reference/c3_paged.hpp"
#include "reference/c4_lanes.hpp"
#include "reference/mla/l0_naive.hpp"
#include "reference/mla/l1_tiled.hpp"
#include "reference/mla/l2_split_merge.hpp"

// The CPU rungs' functions: Attend is a function of (problem, output), AttendItem one of a work item (plan_executor.hpp).
namespace flashladder::reference {
namespace c0 { Attend attend; }
namespace c1 { Attend attend; }
namespace c4 { AttendItem attend_item; }
}  // namespace flashladder::reference

namespace flashladder::ladder {
namespace {

namespace ref = reference;

// With as many pieces as they take by themselves.
void c2_attend(const AttentionProblem& problem, const AttentionOutput& output) { ref::c2::attend(problem, output); }
void c3_attend(const AttentionProblem& problem, const AttentionOutput& output) { ref::c3::attend(problem, output); }

constexpr std::int32_t in_double = 0;  // no chain of float additions

const std::vector<Rung>& registry() {
  static const std::vector<Rung> rungs = [] {
    std::vector<Rung> all{
        direct("C0", "naive softmax(Q K^T) V, Eigen, double: the oracle", "01", "", ref::c0::attend, in_double),
        direct("C1", "tiled online softmax: no score matrix, float", "02", "C0", ref::c1::attend, ref::c1::key_tile),
        direct("C2", "split-K: pieces of the keys, merged by their lse", "03", "C1", c2_attend, ref::c1::key_tile),
        direct("C3", "paged: K and V read through the page table", "04", "C2", c3_attend, ref::c1::key_tile),
        planned("C4", "planned: work items on all cores, GQA packed", "05", "C3", ref::c4::attend_item,
                ref::c4::longest_chain),
    };
#ifdef FLASHLADDER_CUDA
    for (Rung& rung : gpu_rungs()) all.push_back(std::move(rung));
#endif
    return all;
  }();
  return rungs;
}

void l2_attend(const MlaProblem& problem, const AttentionOutput& output) { ref::l2::attend(problem, output); }

const std::vector<Rung>& mla_registry() {
  static const std::vector<Rung> rungs = [] {
    std::vector<Rung> all{
        direct_mla("L0", "naive latent attention: q and the cache in two parts, V is C, double", "19", "C0", ref::l0::attend,
                   in_double),
        direct_mla("L1", "tiled: a latent row is read once, as key and value of all heads", "19", "L0", ref::l1::attend,
                   ref::c1::key_tile),
        direct_mla("L2", "split-K: pieces of the latent rows, merged by their lse", "19", "L1", l2_attend, ref::c1::key_tile),
        planned_mla("L3", "planned: work items on all cores, all heads packed", "19", "L2", ref::c4::longest_chain),
    };
#ifdef FLASHLADDER_CUDA
    for (Rung& rung : gpu_mla_rungs()) all.push_back(std::move(rung));
#endif
    return all;
  }();
  return rungs;
}

}  // namespace

std::span<const Rung> rungs() { return registry(); }
std::span<const Rung> mla_rungs() { return mla_registry(); }

const Rung& rung(const std::string& name) {
  std::string names;
  for (const auto* ladder : {&registry(), &mla_registry()}) {
    for (const Rung& r : *ladder) {
      if (r.name == name) return r;
      names += (names.empty() ? "" : ", ") + r.name;
    }
  }
  const bool only_cpu = registry().back().device == Device::cpu;
  throw InputError("rung", name, "is none of " + names + (only_cpu ? "; " + api::why_no_gpu() : ""));
}

const Rung* rung_below(const Rung& above, const CaseSpec& spec) {
  std::string name = above.must_equal;
  while (!name.empty() && !rung(name).supports(spec)) name = rung(name).must_equal;
  return name.empty() ? nullptr : &rung(name);
}

}  // namespace flashladder::ladder
