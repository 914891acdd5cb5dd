// A tile of query rows with all that decides its logits, and what finally becomes of its accumulators. Shared by C1 to C4.
#pragma once

#include <cstddef>
#include <vector>

#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "reference/gather.hpp"

namespace flashladder::reference {

// One row's logit rule: which keys it sees, and what turns its dot products into logits (log2 units).
struct QueryRow {
  RowId id;
  ScoreTransform<float> transform;
  Range visible;                   // hull; the mask decides inside of it
  const std::uint8_t* mask_row;    // [kv_len] bytes of a custom mask, or nullptr: the whole hull is visible
  std::int32_t origin;             // ALiBi is reckoned from this key (core/score_transform.hpp); read only with ALiBi

  bool sees(std::int32_t key) const { return visible.contains(key) && (mask_row == nullptr || mask_row[key] != 0); }
  bool sees_all(Range keys) const { return mask_row == nullptr && intersect(visible, keys) == keys; }

  // In: dots of this row with keys [first_key, first_key + size). Out: logits less the row's constant, -inf where the row
  // does not see the key.
  void to_logits(Eigen::Ref<Eigen::RowVectorXf> dots, std::int32_t first_key) const;
};

// The rule of row `id`. mask_offset: where the request's bytes begin in problem.custom_mask (mask_offsets()).
QueryRow query_row(const AttentionProblem& problem, std::int32_t request, RowId id, std::int64_t mask_offset);

struct QueryTile {
  std::int32_t request = 0;
  Buffer q;                    // [rows, head_dim_qk]
  std::vector<QueryRow> rows;
  Range keys;                  // hull of all rows: what the tile has to read

  std::int32_t size() const { return static_cast<std::int32_t>(rows.size()); }
};

// All of a tile but q. problem's q and cache are not looked at.
void name_query_tile(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows,
                     std::int64_t mask_offset, QueryTile& tile);
void load_query_tile(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows,
                     std::int64_t mask_offset, QueryTile& tile);

// The accumulators of a tile: unnormalised o and the softmax state by which it will be divided.
struct Accumulator {
  Buffer o;                                     // [rows, head_dim_vo]
  std::vector<SoftmaxState<float>> states;      // [rows]

  void reset(std::int32_t rows, std::int32_t head_dim_vo) {
    o.setZero(rows, head_dim_vo);
    states.assign(rows, {});
  }

  // Merges one row of a finished partial, normalised o [head_dim_vo] and its lse_log2, into row r of what is there so far.
  void absorb_partial(std::size_t r, Eigen::Ref<const Eigen::RowVectorXf> partial_o, float lse_log2);
};

// finish_row() of core, and the writing of o and lse: done once per row, by its final writer. problem's q and cache are not
// looked at.
void write_row(const AttentionProblem& problem, const AttentionOutput& output, std::int32_t request, const QueryRow& row,
               const SoftmaxState<float>& state, Eigen::Ref<const Eigen::RowVectorXf> o);
void write_tile(const AttentionProblem& problem, const AttentionOutput& output, const QueryTile& tile,
                const Accumulator& acc);

// Calls body(request, qo_head) for every pair of the batch: the grid of the rungs without a plan.
template <class Body>
void for_each_head(const AttentionProblem& problem, Body body) {
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    for (std::int32_t h = 0; h < problem.params.num_qo_heads; ++h) body(b, h);
  }
}

}  // namespace flashladder::reference
