// D2's attention on the CPU: gpu/decode/d2_lane_groups.cu with arrays of 32 for registers. fp16 caches, one query a request.
#pragma once

#include <vector>

#include "core/half.hpp"
#include "ladder/agree.hpp"
#include "walkthroughs/warp.hpp"

namespace flashladder::walkthroughs {

inline constexpr int block_warps = 4, in_flight = 4;  // of D2: warps in a block, tokens that a lane group asks for at once

// The keys' and values' features of the tokens that a warp's lane groups hold at `token` on; zeros from `end` on.
struct WarpTokens {
  std::vector<Features> keys, values;
  std::vector<Lanes<bool>> seen;
};
inline WarpTokens load(Warp& warp, const AttentionProblem& problem, int request, int kv_head, int token, int end, int count) {
  WarpTokens out;
  for (int u = 0; u < count; ++u) {
    Features key{}, value{};
    out.seen.push_back(each_lane([&](int lane) { return token + u * warp.tokens() + warp.token_of(lane) < end; }));
    for (int lane = 0; lane < warp_lanes; ++lane) {
      if (!out.seen[u][lane]) continue;
      const KvSlot slot = problem.page_table().locate(request, token + u * warp.tokens() + warp.token_of(lane));
      const std::int64_t k_at = problem.kv.k_strides.offset(slot, kv_head), v_at = problem.kv.v_strides.offset(slot, kv_head);
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

// D2 as it is: four warps take turns of in_flight tokens a lane group, merge in themselves, then through shared memory.
inline ladder::RunResult run_lanes(const ladder::Case& c) {
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = problem.params;
  ladder::RunResult run;
  for (int unit = 0; unit < problem.batch() * p.num_kv_heads; ++unit) {
    const int request = unit / p.num_kv_heads, kv_head = unit % p.num_kv_heads, group = p.group_size();
    const auto* q = static_cast<const Half*>(problem.q.data) + (request * p.num_qo_heads + kv_head * group) * p.head_dim_qk;
    std::vector<std::vector<LaneRow>> warps(block_warps, std::vector<LaneRow>(group));
    for (int w = 0; w < block_warps; ++w) {
      Warp warp(p.head_dim_qk);
      for (int r = 0; r < group; ++r) {
        for (int lane = 0; lane < warp_lanes; ++lane) {
          const Half* from = q + r * p.head_dim_qk + 8 * warp.lane_in_token(lane);
          for (int i = 0; i < 8; ++i) warps[w][r].q[lane][i] = static_cast<float>(from[i]);
        }
      }
      const int turn = in_flight * warp.tokens(), kv_len = problem.kv_len(request);
      for (int token = w * turn; token < kv_len; token += block_warps * turn) {
        absorb(warp, warps[w], load(warp, problem, request, kv_head, token, kv_len, in_flight),
               p.sm_scale * static_cast<float>(log2_e));
      }
      for (LaneRow& row : warps[w]) warp.merge_groups(row);
    }
    for (int r = 0; r < group; ++r) {
      SoftmaxState<float> state;
      std::vector<float> o(p.head_dim_vo);
      for (int w = 0; w < block_warps; ++w) {
        const MergeWeights<float> weights = merge(state, warps[w][r].state[0]);
        for (int i = 0; i < p.head_dim_vo; ++i) o[i] = o[i] * weights.a + warps[w][r].o[i / 8][i % 8] * weights.b;
      }
      for (const float value : o) run.o.push_back(value * state.inverse_d());
      run.lse_log2.push_back(state.lse_log2());
    }
  }
  return run;
}

}  // namespace flashladder::walkthroughs
