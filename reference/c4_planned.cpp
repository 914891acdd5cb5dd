#include "reference/c4_planned.hpp"

#include "core/error.hpp"
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
  LaneBuffers buffers;
  QueryTile tile;
  Accumulator acc;
};

struct Executor {
  const AttentionProblem& problem;
  const Plan& plan;
  const AttentionOutput& output;
  Workspace workspace;
  std::vector<std::int64_t> mask_offset;
  std::vector<Worker> workers;

  void run_item(const WorkItem& item, Worker& w) const {
    const auto rows = rows_of_group(item.kv_head, plan.group_size, item.rows);
    load_query_tile(problem, item.request, rows, mask_offset[item.request], w.tile);
    w.acc.reset(w.tile.size(), plan.head_dim_vo);
    online_softmax(problem, w.tile, item.kv_head, item.keys, w.buffers, w.acc);
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
  void run_merge(const Merge& m, Worker& w) const {
    const auto rows = rows_of_group(m.kv_head, plan.group_size, m.rows);
    w.acc.reset(m.rows.size(), plan.head_dim_vo);
    for (std::int32_t p = 0; p < m.num_partials; ++p) {
      for (std::int32_t r = 0; r < m.rows.size(); ++r) {
        const std::int64_t slot = m.first_slot + std::int64_t{p} * m.rows.size() + r;
        w.acc.absorb_partial(r, workspace.o_row(slot), workspace.lse_log2[slot]);
      }
    }
    for (std::int32_t r = 0; r < m.rows.size(); ++r) {
      const QueryRow row = query_row(problem, m.request, rows[r], mask_offset[m.request]);
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

void validate_plan(const Plan& plan, const AttentionProblem& problem) {
  const AttentionParams& p = problem.params;
  const auto batch = static_cast<std::size_t>(problem.batch());
  require(plan.qo_lens.size() == batch && plan.kv_lens.size() == batch && plan.batch == problem.batch(), "plan.batch",
          plan.batch, "must be the problem's: the plan was made for another batch");
  require(plan.group_size == p.group_size() && plan.num_kv_heads == p.num_kv_heads, "plan.num_kv_heads", plan.num_kv_heads,
          "heads must be the problem's");
  require(plan.head_dim_vo == p.head_dim_vo, "plan.head_dim_vo", plan.head_dim_vo, "must be the problem's");
  for (std::int32_t b = 0; b < plan.batch; ++b) {
    const bool same = plan.qo_lens[b] == problem.qo_len(b) && plan.kv_lens[b] == problem.kv_len(b);
    require(same, "plan.kv_lens", plan.kv_lens[b], "lengths must be the request's: plan again when they change", b);
  }
  for (const WorkItem& item : plan.items) {
    const bool known =
        item.request >= 0 && item.request < plan.batch && item.kv_head >= 0 && item.kv_head < plan.num_kv_heads;
    require(known, "plan.items", to_string(item), "names a request or KV head that the problem does not have");
    const bool inside = item.rows.begin >= 0 && item.rows.end <= problem.qo_len(item.request) * plan.group_size &&
                        item.keys.begin >= 0 && item.keys.end <= problem.kv_len(item.request);
    require(inside, "plan.items", to_string(item), "reaches outside of the request", item.request);
    require(item.partial_slot + (item.whole() ? 0 : item.rows.size()) <= plan.partial_rows, "plan.items", to_string(item),
            "its partial slot lies outside of the workspace");
  }
}

std::vector<std::vector<std::int32_t>> queues_for_workers(const Plan& plan, int workers) {
  std::vector<std::vector<std::int32_t>> queues(workers);
  for (std::int32_t c = 0; c < plan.num_ctas(); ++c) {
    auto& queue = queues[c % workers];
    queue.insert(queue.end(), plan.queue.begin() + plan.queue_indptr[c], plan.queue.begin() + plan.queue_indptr[c + 1]);
  }
  return queues;
}

std::vector<ThreadPool::Counts> attend(const AttentionProblem& problem, const Plan& plan, std::span<std::byte> workspace,
                                       ThreadPool& pool, Schedule schedule, const AttentionOutput& output) {
  validate(problem, output);
  validate_plan(plan, problem);
  require(workspace.size() >= plan.workspace_bytes(), "workspace bytes", workspace.size(),
          "must be at least plan.workspace_bytes()");
  Executor executor{
      problem, plan, output, Workspace(plan, workspace), mask_offsets(problem), std::vector<Worker>(pool.size())};
  const auto counts = pool.run(queues_for_workers(plan, pool.size()), schedule, [&](std::int32_t i, int worker) {
    executor.run_item(plan.items[i], executor.workers[worker]);
  });
  // The end of run() is the grid-wide barrier: every partial is written before any is merged.
  pool.run(round_robin(plan.merges.size(), pool.size()), schedule, [&](std::int32_t i, int worker) {
    executor.run_merge(plan.merges[i], executor.workers[worker]);
  });
  return counts;
}

}  // namespace flashladder::reference::c4
