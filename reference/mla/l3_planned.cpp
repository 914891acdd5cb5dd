#include "reference/mla/l3_planned.hpp"

#include "reference/c4_lanes.hpp"
#include "reference/item_buffers.hpp"
#include "reference/mla/latents.hpp"

namespace flashladder::reference::l3 {
namespace {

// Latent rows as keys and values: gathered once, with one list of addresses for both.
class LatentStream final : public KeyTiles {
 public:
  LatentStream(const MlaProblem& problem, std::int32_t request, Range keys, KeyStream::Buffers& buffers)
      : problem_(problem), request_(request), keys_(keys), buffers_(buffers) {}

  bool next(KeyTile& tile) override {
    if (keys_.empty()) return false;
    const Range now = first_of(keys_, KeyStream::gathered_tile);
    keys_.begin = now.end;
    load_latents(problem_, request_, now, buffers_.k);
    buffers_.rows.clear();
    for (std::int32_t j = 0; j < now.size(); ++j) buffers_.rows.push_back(buffers_.k.row(j).data());
    tile = {now, buffers_.rows.data(), buffers_.rows.data(), {}};
    return true;
  }

 private:
  const MlaProblem& problem_;
  std::int32_t request_;
  Range keys_;  // that are left
  KeyStream::Buffers& buffers_;
};

struct LatentItems final : PlannedItems {
  const MlaProblem& problem;
  const AttentionProblem& frame;

  LatentItems(const MlaProblem& p, const AttentionProblem& f) : problem(p), frame(f) {}
  void load(std::int32_t request, std::span<const RowId> rows, std::int64_t mask_offset, QueryTile& tile) const override {
    name_query_tile(frame, request, rows, mask_offset, tile);
    load_mla_queries(problem, request, rows, tile.q);
  }
  void attend(const QueryTile& tile, std::int32_t, Range keys, ItemBuffers& buffers, Accumulator& acc) const override {
    LatentStream stream(problem, tile.request, intersect(keys, tile.keys), buffers.keys);
    c4::attend_tiles(frame.params, tile, stream, buffers, acc);
  }
};

}  // namespace

int Executor::run(const MlaProblem& problem, const Plan& plan, std::span<std::byte> workspace, Schedule schedule,
                  const AttentionOutput& output) {
  validate(problem, output);
  const AttentionProblem frame = problem.frame();
  return run_items(LatentItems(problem, frame), frame, plan, workspace, schedule, output);
}

}  // namespace flashladder::reference::l3
