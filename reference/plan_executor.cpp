#include "reference/plan_executor.hpp"

#include <algorithm>
#include <chrono>

#include "core/error.hpp"
#include "core/row.hpp"
#include "core/validate.hpp"
#include "reference/item_buffers.hpp"

namespace flashladder::reference {
namespace {

using Clock = std::chrono::steady_clock;

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

void name_rows(std::int32_t head, Range rows, std::int32_t pack, std::vector<RowId>& named) {
  named.clear();
  for (std::int32_t r = rows.begin; r < rows.end; ++r) {
    const RowPlace place = row_of(head, r, pack);
    named.push_back({place.query, place.qo_head});
  }
}

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
  const auto require_of = [](const WorkItem& item, bool ok, const char* rule) {
    if (!ok) throw InputError("plan.items", to_string(item), rule, item.request);  // the text, only if it is needed
  };
  for (const WorkItem& item : part.items) {
    require_of(item, inside(item.request, item.head, item.rows) && item.keys.begin >= 0 &&
                         item.keys.end <= problem.kv_len(item.request),
               "reaches outside of the problem: no such request, head, row or key");
    require_of(item, item.whole() || slots_fit(item.partial_slot, item.rows.size()),
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

// CTA c's queue to worker c % workers.
void queue_for_workers(const PlanPart& part, int workers, std::vector<std::int32_t>& order,
                       std::vector<std::int32_t>& indptr) {
  order.clear();
  indptr.assign(1, 0);
  for (std::size_t worker = 0; worker < static_cast<std::size_t>(workers); ++worker) {
    for (std::size_t c = worker; c + 1 < part.queue_indptr.size(); c += static_cast<std::size_t>(workers)) {
      order.insert(order.end(), part.queue.begin() + part.queue_indptr[c], part.queue.begin() + part.queue_indptr[c + 1]);
    }
    indptr.push_back(static_cast<std::int32_t>(order.size()));
  }
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

int workers_worth(const Plan& plan, std::int32_t head_dim_qk, int most) {
  constexpr double multiplications_of_one = 1 << 21;  // a core does about ten in a nanosecond
  constexpr std::int32_t lanes = 4;                   // a row by itself takes as long as so many
  double pairs = 0;  // of rows and keys
  for (const PlanPart& part : plan.parts) {
    for (const WorkItem& item : part.items) {
      pairs += double{1} * part.copies * item.keys.size() * std::max(item.rows.size(), lanes);
    }
  }
  const double worth = pairs * (head_dim_qk + plan.head_dim_vo) / multiplications_of_one;
  return static_cast<int>(std::clamp(worth, 1.0, static_cast<double>(most)));
}

struct PlanRunner::Scratch {
  std::vector<RowId> rows;
  QueryTile tile;
  Accumulator acc;
  ItemBuffers buffers;
};

PlanRunner::PlanRunner(int threads, Workers workers)
    : workers_(workers), pool_(threads), scratch_(static_cast<std::size_t>(threads)) {}

PlanRunner::~PlanRunner() = default;

struct PlanRunner::Call {
  const PlannedItems& items;
  const AttentionProblem& problem;
  const Plan& plan;
  const AttentionOutput& output;
  Workspace workspace;
  std::span<const std::int64_t> mask_offsets;  // empty without a custom mask

  std::int64_t mask_offset(std::int32_t request) const { return mask_offsets.empty() ? 0 : mask_offsets[request]; }

  void run_item(const WorkItem& item, std::int32_t pack, Scratch& s) const {
    name_rows(item.head, item.rows, pack, s.rows);
    items.load(item.request, s.rows, mask_offset(item.request), s.tile);
    s.acc.reset(s.tile.size(), plan.head_dim_vo);
    items.attend(s.tile, kv_head_of(item.head, pack, plan.group_size()), item.keys, s.buffers, s.acc);
    if (item.whole()) {
      write_tile(problem, output, s.tile, s.acc);
    } else {
      write_partial(s.acc, item.partial_slot);
    }
  }

  void write_partial(const Accumulator& acc, std::int64_t slot) const {
    for (std::size_t r = 0; r < acc.states.size(); ++r, ++slot) {
      workspace.o_row(slot) = acc.o.row(r) * acc.states[r].inverse_d();
      workspace.lse_log2[slot] = acc.states[r].lse_log2();
    }
  }

  // Slot order, not arrival order: float addition does not associate, and the same plan must give the same bits.
  void run_merge(const Merge& m, std::int32_t pack, Scratch& s) const {
    name_rows(m.head, m.rows, pack, s.rows);
    s.acc.reset(m.rows.size(), plan.head_dim_vo);
    for (std::int32_t p = 0; p < m.num_partials; ++p) {
      for (std::int32_t r = 0; r < m.rows.size(); ++r) {
        const std::int64_t slot = m.first_slot + std::int64_t{p} * m.rows.size() + r;
        s.acc.absorb_partial(r, workspace.o_row(slot), workspace.lse_log2[slot]);
      }
    }
    for (std::int32_t r = 0; r < m.rows.size(); ++r) {
      const QueryRow row = query_row(problem, m.request, s.rows[r], mask_offset(m.request));
      write_row(problem, output, m.request, row, s.acc.states[r], s.acc.o.row(r));
    }
  }
};

int PlanRunner::run_items(const PlannedItems& items, const AttentionProblem& problem, const Plan& plan,
                          std::span<std::byte> workspace, Schedule schedule, const AttentionOutput& output,
                          std::span<std::int64_t> work_ns) {
  validate_plan(plan, problem);
  require(workspace.size() >= plan.workspace_bytes(), "workspace bytes", workspace.size(),
          "must be at least plan.workspace_bytes()");
  require(work_ns.empty() || std::ssize(work_ns) == plan.num_work(), "work_ns", work_ns.size(),
          "must be empty or one for each work of the plan");
  const bool masked = problem.params.mask == MaskMode::custom;
  if (masked) mask_offsets(problem, mask_offsets_);
  const Call call{items, problem, plan, output, Workspace(plan, workspace),
                  masked ? std::span<const std::int64_t>(mask_offsets_) : std::span<const std::int64_t>()};
  const int workers =
      workers_ == Workers::exactly ? pool_.size() : workers_worth(plan, problem.params.head_dim_qk, pool_.size());
  for (const PlanPart& part : plan.parts) {
    if (part.items.empty()) continue;
    const std::span<std::int64_t> times = work_ns.first(work_ns.empty() ? 0 : static_cast<std::size_t>(part.num_work()));
    work_ns = work_ns.subspan(times.size());
    const auto run_work = [&](std::int32_t w, int worker) {
      const auto begin = times.empty() ? Clock::time_point() : Clock::now();
      call.run_item(part.work(w), part.pack, scratch_[worker]);
      if (!times.empty()) times[w] = std::chrono::nanoseconds(Clock::now() - begin).count();
    };
    if (part.claimed) {
      pool_.claim(part.num_work(), workers, run_work);
    } else {
      queue_for_workers(part, workers, order_, indptr_);
      pool_.run(order_, indptr_, schedule, run_work);
    }
  }
  // The end of a run is the grid-wide barrier: every partial is written before any is merged.
  for (const PlanPart& part : plan.parts) {
    if (part.merges.empty()) continue;
    const auto run_merge = [&](std::int32_t m, int worker) { call.run_merge(part.merge(m), part.pack, scratch_[worker]); };
    pool_.claim(part.num_merges(), workers, run_merge);
  }
  return workers;
}

namespace {

struct AttentionItems final : PlannedItems {
  const AttentionProblem& problem;
  AttendItem& attend_item;

  AttentionItems(const AttentionProblem& p, AttendItem& a) : problem(p), attend_item(a) {}
  void load(std::int32_t request, std::span<const RowId> rows, std::int64_t mask_offset, QueryTile& tile) const override {
    load_query_tile(problem, request, rows, mask_offset, tile);
  }
  void attend(const QueryTile& tile, std::int32_t kv_head, Range keys, ItemBuffers& buffers, Accumulator& acc) const override {
    attend_item(problem, tile, kv_head, keys, buffers, acc);
  }
};

}  // namespace

int PlanExecutor::run(const AttentionProblem& problem, const Plan& plan, std::span<std::byte> workspace, Schedule schedule,
                      const AttentionOutput& output, std::span<std::int64_t> work_ns) {
  validate(problem, output);
  return run_items(AttentionItems(problem, attend_), problem, plan, workspace, schedule, output, work_ns);
}

}  // namespace flashladder::reference
