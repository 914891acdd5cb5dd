// What the items of a plan leave behind, on the CPU: rows of o where an item holds its whole tile, partials where the tile
// was cut, and the merge that joins those in slot order. The chapters' loops differ in how they compute an item and in who
// merges when; this is what they have in common.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "core/plan.hpp"
#include "core/row.hpp"
#include "core/softmax_state.hpp"
#include "ladder/agree.hpp"

namespace flashladder::walkthroughs {

struct FinishedRow {
  SoftmaxState<float> state;
  std::vector<float> o;  // [head_dim], not normalised

  // The keys of another row of the same query join it.
  void absorb(const FinishedRow& other) {
    if (o.empty()) o.resize(other.o.size());
    const MergeWeights<float> weights = merge(state, other.state);
    for (std::size_t i = 0; i < o.size(); ++i) o[i] = o[i] * weights.a + other.o[i] * weights.b;
  }
};

// The plan's first part. Items and merges write to places of their own, so that several threads may call at once.
class PlanRun {
 public:
  PlanRun(const ladder::Case& c, const Plan& plan)
      : params_(c.spec.params), qo_indptr_(c.qo_indptr), pack_(plan.parts.front().pack), partials_(plan.partial_rows, not_written(c.spec.params.head_dim_vo)),
        result_{.o = std::vector<float>(c.spec.nnz_qo() * params_.num_qo_heads * params_.head_dim_vo),
                .lse_log2 = std::vector<float>(c.spec.nnz_qo() * params_.num_qo_heads)} {}

  void store(const WorkItem& item, const std::vector<FinishedRow>& rows) {  // [item.rows]
    for (int r = 0; r < item.rows.size(); ++r) store_row(item, r, rows[r]);
  }
  void store_row(const WorkItem& item, int r, const FinishedRow& row) {
    if (item.whole()) return write(item.request, item.head, item.rows.begin + r, row);
    FinishedRow& partial = partials_[item.partial_slot + r];
    partial.state = row.state;
    std::ranges::copy(row.o, partial.o.begin());
  }

  // When all its partials are stored: one that is not is NaN, and so is the row.
  void join(const Merge& m) {
    for (int r = 0; r < m.rows.size(); ++r) join_row(m, r);
  }
  void join_row(const Merge& m, int r) {  // one of them, when its partials are stored
    FinishedRow row;
    for (int p = 0; p < m.num_partials; ++p) row.absorb(partials_[m.first_slot + p * m.rows.size() + r]);
    write(m.request, m.head, m.rows.begin + r, row);
  }

  const ladder::RunResult& result() const { return result_; }

 private:
  static FinishedRow not_written(int dim) {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    return {{nan, nan}, std::vector<float>(dim, nan)};
  }
  void write(int request, int head, int packed_row, const FinishedRow& row) {
    const RowPlace place = row_of(head, packed_row, pack_);
    const std::size_t at = static_cast<std::size_t>(qo_indptr_[request] + place.query) * params_.num_qo_heads + place.qo_head;
    for (std::size_t i = 0; i < row.o.size(); ++i) result_.o[at * row.o.size() + i] = row.o[i] * row.state.inverse_d();
    result_.lse_log2[at] = row.state.lse_log2();
  }

  AttentionParams params_;
  std::vector<std::int32_t> qo_indptr_;
  std::int32_t pack_;
  std::vector<FinishedRow> partials_;
  ladder::RunResult result_;
};

// The whole plan on one thread: attend(problem, item) gives the FinishedRows of an item.
template <class Attend>
ladder::RunResult run_items(const ladder::Case& c, const Plan& plan, Attend attend) {
  const AttentionProblem problem = c.problem();
  PlanRun run(c, plan);
  const PlanPart& part = plan.parts.front();
  for_each_work(part, [&](std::int32_t w) { run.store(part.work(w), attend(problem, part.work(w))); });
  for (std::int64_t m = 0; m < part.num_merges(); ++m) run.join(part.merge(m));
  return run.result();
}

}  // namespace flashladder::walkthroughs
