#include "reference/c4_planned.hpp"

#include <algorithm>
#include <atomic>

#include "core/error.hpp"
#include "core/row.hpp"
#include "core/validate.hpp"
#include "reference/c4_lanes.hpp"

namespace flashladder::reference::c4 {
namespace {

// The plan's workspace as arrays: o [partial_rows, head_dim_vo], lse_log2 [partial_rows].
struct Workspace {
  float* o;
  float* lse_log2;
  std::int32_t dim;

  Workspace(const Plan& plan, std::span<std::byte> bytes)
      : o(reinterpret_cast<float*>(bytes.data())),
        lse_log2(o + plan.partial_rows * plan.head_dim_vo),
        dim(plan.head_dim_vo) {}
  Eigen::Map<Eigen::RowVectorXf> o_row(std::int64_t slot) const { return {o + slot * dim, dim}; }
};

// One worker's "shared memory" and "registers", kept from item to item.
struct Worker {
  std::vector<RowId> rows;
  LaneBuffers buffers;
  QueryTile tile;
  Accumulator acc;
};

void name_rows(std::int32_t head, Range rows, std::int32_t pack, std::vector<RowId>& named) {
  named.clear();
  for (std::int32_t r = rows.begin; r < rows.end; ++r) {
    const RowPlace place = row_of(head, r, pack);
    named.push_back({place.query, place.qo_head});
  }
}

struct Executor {
  const AttentionProblem& problem;
  const Plan& plan;
  const AttentionOutput& output;
  Workspace workspace;
  std::vector<std::int64_t> mask_offset;
  std::vector<Worker> workers;

  void run_item(const WorkItem& item, std::int32_t pack, Worker& w) const {
    name_rows(item.head, item.rows, pack, w.rows);
    load_query_tile(problem, item.request, w.rows, mask_offset[item.request], w.tile);
    w.acc.reset(w.tile.size(), plan.head_dim_vo);
    online_softmax(problem, w.tile, kv_head_of(item.head, pack, plan.group_size()), item.keys, w.buffers, w.acc);
    if (item.whole()) {
      write_tile(problem, output, w.tile, w.acc);
    } else {
      write_partial(w.acc, item.partial_slot);
    }
  }

  void write_partial(const Accumulator& acc, std::int64_t slot) const {
    for (std::size_t r = 0; r < acc.states.size(); ++r, ++slot) {
      workspace.o_row(slot) = acc.o.row(r) * acc.states[r].inverse_d();
      workspace.lse_log2[slot] = acc.states[r].lse_log2();
    }
  }

  // Slot order, not arrival order: float addition does not associate, and the same plan must give the same bits.
  void run_merge(const Merge& m, std::int32_t pack, Worker& w) const {
    name_rows(m.head, m.rows, pack, w.rows);
    w.acc.reset(m.rows.size(), plan.head_dim_vo);
    for (std::int32_t p = 0; p < m.num_partials; ++p) {
      for (std::int32_t r = 0; r < m.rows.size(); ++r) {
        const std::int64_t slot = m.first_slot + std::int64_t{p} * m.rows.size() + r;
        w.acc.absorb_partial(r, workspace.o_row(slot), workspace.lse_log2[slot]);
      }
    }
    for (std::int32_t r = 0; r < m.rows.size(); ++r) {
      const QueryRow row = query_row(problem, m.request, w.rows[r], mask_offset[m.request]);
      write_row(problem, output, m.request, row, w.acc.states[r], w.acc.o.row(r));
    }
  }
};

std::vector<std::vector<std::int32_t>> round_robin(std::size_t n, int workers) {
  std::vector<std::vector<std::int32_t>> queues(workers);
  for (std::size_t i = 0; i < n; ++i) queues[i % workers].push_back(static_cast<std::int32_t>(i));
  return queues;
}

}  // namespace

namespace {

// Every item and merge of a part, and what its queues name, lies inside of the problem and of the workspace.
void validate_part(const Plan& plan, const PlanPart& part, const AttentionProblem& problem) {
  require(part.pack == 1 || part.pack == plan.group_size(), "plan.parts.pack", part.pack, "must be 1 or the group size");
  const std::int64_t heads = plan.num_heads(part), other_copies = part.copies - 1;
  const auto inside = [&](std::int32_t request, std::int32_t head, Range rows) {
    return request >= 0 && request < plan.batch && head >= 0 && head + other_copies < heads && rows.begin >= 0 &&
           rows.end <= std::int64_t{problem.qo_len(request)} * part.pack;
  };
  const auto slots_fit = [&](std::int64_t first_slot, std::int64_t rows) {
    return first_slot >= 0 && first_slot + other_copies * part.partial_rows + rows <= plan.partial_rows;
  };
  for (const WorkItem& item : part.items) {
    require(inside(item.request, item.head, item.rows) && item.keys.begin >= 0 &&
                item.keys.end <= problem.kv_len(item.request),
            "plan.items", to_string(item), "reaches outside of the problem: no such request, head, row or key");
    require(item.whole() || slots_fit(item.partial_slot, item.rows.size()), "plan.items", to_string(item),
            "its partial slot lies outside of the workspace");
  }
  for (const Merge& m : part.merges) {
    const bool known = inside(m.request, m.head, m.rows) && m.num_partials >= 1 &&
                       slots_fit(m.first_slot, std::int64_t{m.num_partials} * m.rows.size());
    require(known, "plan.merges.request", m.request, "a merge reaches outside of the problem or of the workspace");
  }
  const bool rises = part.queue_indptr.size() == plan.cta_cost.size() + 1 && part.queue_indptr.front() == 0 &&
                     std::ranges::is_sorted(part.queue_indptr);
  require(rises && part.queue_indptr.back() == std::ssize(part.queue) && std::ssize(part.queue) == part.num_work(),
          "plan.queue_indptr", part.queue_indptr.size(), "must rise from 0 to the length of queue, which holds all work");
  for (const std::int32_t w : part.queue) require(w >= 0 && w < part.num_work(), "plan.queue", w, "must name a work item");
}

}  // namespace

void validate_plan(const Plan& plan, const AttentionProblem& problem) {
  const AttentionParams& p = problem.params;
  const auto batch = static_cast<std::size_t>(problem.batch());
  require(plan.qo_lens.size() == batch && plan.kv_lens.size() == batch && plan.batch == problem.batch(), "plan.batch",
          plan.batch, "must be the problem's: the plan was made for another batch");
  require(plan.num_qo_heads == p.num_qo_heads && plan.num_kv_heads == p.num_kv_heads, "plan.num_kv_heads",
          plan.num_kv_heads, "heads must be the problem's");
  require(plan.head_dim_vo == p.head_dim_vo, "plan.head_dim_vo", plan.head_dim_vo, "must be the problem's");
  for (std::int32_t b = 0; b < plan.batch; ++b) {
    const bool same = plan.qo_lens[b] == problem.qo_len(b) && plan.kv_lens[b] == problem.kv_len(b);
    require(same, "plan.kv_lens", plan.kv_lens[b], "lengths must be the request's: plan again when they change", b);
  }
  for (const PlanPart& part : plan.parts) validate_part(plan, part, problem);
}

std::vector<std::vector<std::int32_t>> queues_for_workers(const PlanPart& part, int workers) {
  std::vector<std::vector<std::int32_t>> queues(workers);
  for (std::size_t c = 0; c + 1 < part.queue_indptr.size(); ++c) {
    auto& queue = queues[c % workers];
    queue.insert(queue.end(), part.queue.begin() + part.queue_indptr[c], part.queue.begin() + part.queue_indptr[c + 1]);
  }
  return queues;
}

void attend(const AttentionProblem& problem, const Plan& plan, std::span<std::byte> workspace, ThreadPool& pool,
            Schedule schedule, const AttentionOutput& output) {
  validate(problem, output);
  validate_plan(plan, problem);
  require(workspace.size() >= plan.workspace_bytes(), "workspace bytes", workspace.size(),
          "must be at least plan.workspace_bytes()");
  Executor executor{
      problem, plan, output, Workspace(plan, workspace), mask_offsets(problem), std::vector<Worker>(pool.size())};
  for (const PlanPart& part : plan.parts) {
    const auto run = [&](std::int64_t w, int worker) {
      executor.run_item(part.work(w), part.pack, executor.workers[worker]);
    };
    if (!part.claimed) {
      pool.run(queues_for_workers(part, pool.size()), schedule, run);
      continue;
    }
    std::atomic<std::int64_t> next = 0;
    pool.run(round_robin(pool.size(), pool.size()), Schedule::fixed, [&](std::int32_t, int worker) {
      for (std::int64_t w; (w = next++) < part.num_work();) run(w, worker);
    });
  }
  // The end of run() is the grid-wide barrier: every partial is written before any is merged.
  for (const PlanPart& part : plan.parts) {
    pool.run(round_robin(part.num_merges(), pool.size()), schedule, [&](std::int32_t m, int worker) {
      executor.run_merge(part.merge(m), part.pack, executor.workers[worker]);
    });
  }
}

}  // namespace flashladder::reference::c4
