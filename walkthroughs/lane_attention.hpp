// D2's, D3's and D4's attention on the CPU: gpu/decode/ with arrays of 32 for registers, and a ring of arrays for shared
// memory. fp16 caches, one query a request.
#pragma once

#include <algorithm>
#include <vector>

#include "core/half.hpp"
#include "walkthroughs/plan_run.hpp"
#include "walkthroughs/warp.hpp"

namespace flashladder::walkthroughs {

inline constexpr int block_warps = 4, in_flight = 4;  // of D2: warps in a block, tokens that a lane group asks for at once

// The keys' and values' features of the tokens that a warp's lane groups hold at `token` on; zeros from `end` on.
struct WarpTokens {
  std::vector<Features> keys, values;
  std::vector<Lanes<bool>> seen;
};
inline WarpTokens load(Warp& warp, const AttentionProblem& problem, int request, int kv_head, int token, int end,
                       int count) {
  WarpTokens out;
  for (int u = 0; u < count; ++u) {
    Features key{}, value{};
    out.seen.push_back(each_lane([&](int lane) { return token + u * warp.tokens() + warp.token_of(lane) < end; }));
    for (int lane = 0; lane < warp_lanes; ++lane) {
      if (!out.seen[u][lane]) continue;
      const KvSlot slot = problem.page_table().locate(request, token + u * warp.tokens() + warp.token_of(lane));
      const std::int64_t k_at = problem.kv.k_strides.offset(slot, kv_head);
      const std::int64_t v_at = problem.kv.v_strides.offset(slot, kv_head);
      for (int i = 0, from = 8 * warp.lane_in_token(lane); i < 8; ++i) {
        key[lane][i] = static_cast<float>(static_cast<const Half*>(problem.kv.k)[k_at + from + i]);
        value[lane][i] = static_cast<float>(static_cast<const Half*>(problem.kv.v)[v_at + from + i]);
      }
    }
    warp.load(), warp.load();
    out.keys.push_back(key), out.values.push_back(value);
  }
  return out;
}

// What those tokens do to every row: the body of D2's loop.
inline void absorb(Warp& warp, std::vector<LaneRow>& rows, const WarpTokens& tokens, float scale) {
  for (LaneRow& row : rows) {
    std::vector<Lanes<float>> x;
    for (std::size_t u = 0; u < tokens.keys.size(); ++u) {
      const Lanes<float> dot = warp.dot(row, tokens.keys[u]);
      x.push_back(each_lane([&](int l) { return tokens.seen[u][l] ? dot[l] * scale : SoftmaxState<float>::nothing; }));
    }
    warp.absorb(row, x, tokens.values);
  }
}

// What a warp issues for a group of heads and one pass of the loop, counted by running it; tokens: of that pass. With more
// than 4 heads a lane's registers hold two tokens at once, not four.
struct CountedPass {
  Issued issued;
  int tokens;
  double for_a_token(int instructions) const { return static_cast<double>(instructions) / tokens; }
};
inline CountedPass count_pass(const AttentionProblem& problem, int group) {
  Warp warp(problem.params.head_dim_qk);
  const int at_once = group <= 4 ? in_flight : std::max(1, in_flight / 2), tokens = at_once * warp.tokens();
  std::vector<LaneRow> rows(group);
  absorb(warp, rows, load(warp, problem, 0, 0, 0, tokens, at_once), 1);
  return {warp.issued(), tokens};
}

// Where a warp of the block begins to load: turns of `turn` tokens go round the warps; a step is what it asks for at once.
inline std::vector<int> steps_of_warp(Range keys, int warp, int step_tokens, int turn) {
  std::vector<int> steps;
  for (int first = keys.begin + warp * turn; first < keys.end; first += block_warps * turn) {
    for (int at = 0; at < turn; at += step_tokens) steps.push_back(first + at);
  }
  return steps;
}

// How a block's warps go through an item's keys. D2, D3: {1, 0}. D4: {4, 32}.
struct LoopShape {
  int stages = 1;  // places in the ring: so many steps less one are asked for ahead
  int turn = 0;    // tokens of a warp's turn; 0: one step
};

// One work item, a row of FinishedRow for each packed query row.
inline std::vector<FinishedRow> attend_item(const AttentionProblem& problem, const WorkItem& item, const LoopShape& shape) {
  const AttentionParams& p = problem.params;
  const int head = item.head * p.group_size() + item.rows.begin, rows = item.rows.size();
  const auto* q = static_cast<const Half*>(problem.q.data) + (item.request * p.num_qo_heads + head) * p.head_dim_qk;
  std::vector<FinishedRow> out(rows);
  for (int w = 0; w < block_warps; ++w) {
    Warp warp(p.head_dim_qk);
    std::vector<LaneRow> mine(rows);
    for (int r = 0; r < rows; ++r) {
      for (int lane = 0; lane < warp_lanes; ++lane) {
        const Half* from = q + r * p.head_dim_qk + 8 * warp.lane_in_token(lane);
        for (int i = 0; i < 8; ++i) mine[r].q[lane][i] = static_cast<float>(from[i]);
      }
    }
    const int step_tokens = in_flight * warp.tokens(), ahead = shape.stages - 1;
    const std::vector<int> steps = steps_of_warp(item.keys, w, step_tokens, shape.turn > 0 ? shape.turn : step_tokens);
    std::vector<WarpTokens> ring(shape.stages);
    const auto copy = [&](int step) {
      if (step < std::ssize(steps)) {
        ring[step % shape.stages] = load(warp, problem, item.request, item.head, steps[step], item.keys.end, in_flight);
      }
    };
    for (int step = 0; step < ahead; ++step) copy(step);
    for (int step = 0; step < std::ssize(steps); ++step) {
      copy(step + ahead);
      absorb(warp, mine, ring[step % shape.stages], p.sm_scale * static_cast<float>(log2_e));
    }
    for (int r = 0; r < rows; ++r) {
      warp.merge_groups(mine[r]);
      FinishedRow row{mine[r].state[0], std::vector<float>(p.head_dim_vo)};
      for (int i = 0; i < p.head_dim_vo; ++i) row.o[i] = mine[r].o[i / 8][i % 8];
      out[r].absorb(row);
    }
  }
  return out;
}

// D3 and D4; with a plan that cuts nothing, D2.
inline ladder::RunResult run_lanes(const ladder::Case& c, const Plan& plan, const LoopShape& shape) {
  return run_items(c, plan, [&](const AttentionProblem& problem, const WorkItem& item) {
    return attend_item(problem, item, shape);
  });
}

}  // namespace flashladder::walkthroughs
