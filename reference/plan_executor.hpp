// Executes a Plan item by item on several threads, then its merges: the CPU stand-in for a GPU's grid. All planned CPU rungs
// share it; a rung brings the one function that computes an item.
//
// The work is a list made beforehand, so ragged batches fill all workers; heads of a group are packed into one tile, so K
// and V are read once per group; partials go to a workspace whose size the plan knows. It knows no planner: whoever calls
// it brings the Plan. The result is the same bits for the same plan, whoever runs an item.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/attention_problem.hpp"
#include "core/plan.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::reference {

struct Accumulator;  // query_tile.hpp
struct ItemBuffers;  // item_buffers.hpp; both include Eigen, which takes long to compile: who runs a plan need not
struct QueryTile;
struct RowId;        // gather.hpp

// What a rung without a plan does.
using Attend = void(const AttentionProblem& problem, const AttentionOutput& output);

// What a planned rung does: absorbs all keys of `keys` that the tile sees into acc, which comes in reset to the tile's rows.
using AttendItem = void(const AttentionProblem& problem, const QueryTile& tile, std::int32_t kv_head, Range keys,
                        ItemBuffers& buffers, Accumulator& acc);

// Refuses a plan that was made for another problem: batch, heads, dims, rows or keys that the requests don't have.
void validate_plan(const Plan& plan, const AttentionProblem& problem);

// How many of `most` workers a plan is worth. Waking a thread takes some ten microseconds, and on a busy machine it may wait
// for milliseconds before it runs; so each worker shall have work for about a fifth of a millisecond.
int workers_worth(const Plan& plan, std::int32_t head_dim_qk, int most);

// What the items of a plan are made of: attention's tensors, or those of another operation with the same rows and keys.
class PlannedItems {
 public:
  virtual void load(std::int32_t request, std::span<const RowId> rows, std::int64_t mask_offset, QueryTile& tile) const = 0;
  virtual void attend(const QueryTile& tile, std::int32_t kv_head, Range keys, ItemBuffers& buffers,
                      Accumulator& acc) const = 0;

 protected:
  ~PlannedItems() = default;
};

class PlanRunner {
 public:
  enum class Workers : std::uint8_t { exactly, at_most };  // at_most: as many as workers_worth() says

  PlanRunner(int threads, Workers workers);
  ~PlanRunner();

  // As PlanExecutor::run, for a problem that the caller has validated: lengths, params and sinks are read here, tensors by
  // the items.
  int run_items(const PlannedItems& items, const AttentionProblem& problem, const Plan& plan, std::span<std::byte> workspace,
                Schedule schedule, const AttentionOutput& output, std::span<std::int64_t> work_ns = {});

 private:
  struct Scratch;  // a worker's memory
  struct Call;     // one run

  Workers workers_;
  ThreadPool pool_;
  std::vector<Scratch> scratch_;             // [threads]
  std::vector<std::int64_t> mask_offsets_;   // [batch + 1], of a custom mask
  std::vector<std::int32_t> order_, indptr_;  // a part's work, worker by worker; [workers + 1]
};

class PlanExecutor : public PlanRunner {
 public:
  PlanExecutor(AttendItem& attend, int threads, Workers workers) : PlanRunner(threads, workers), attend_(attend) {}

  // workspace: at least plan.workspace_bytes(), 4-byte aligned, contents don't matter. CTA c's queue goes to worker
  // c % workers, so that the plan's balance is kept; of a claimed part the workers claim the work. Returns the number of
  // workers. Allocates nothing once it has run work of this size. work_ns: empty, or [plan.num_work()], for what each work
  // took, all of part 0, then of part 1: for measurements.
  int run(const AttentionProblem& problem, const Plan& plan, std::span<std::byte> workspace, Schedule schedule,
          const AttentionOutput& output, std::span<std::int64_t> work_ns = {});

 private:
  AttendItem& attend_;
};

}  // namespace flashladder::reference
