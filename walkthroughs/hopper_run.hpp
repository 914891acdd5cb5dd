// P11 on a CPU: pages come as boxes into swizzled tiles, products read them by wgmma's descriptions, rows keep a stale
// reference. One row at a time where the GPU has 64, and no warps.
#pragma once

#include <vector>

#include "core/attention_problem.hpp"
#include "core/visibility.hpp"
#include "ladder/agree.hpp"
#include "walkthroughs/box_model.hpp"
#include "walkthroughs/stale_row.hpp"
#include "walkthroughs/wgmma_operand.hpp"

namespace flashladder::walkthroughs {

// The tiles of a KV head, of one request, in shared memory: K at 0, V behind it.
class HopperTiles {
 public:
  HopperTiles(const AttentionProblem& problem, std::int32_t tile)
      : problem_(problem), tile_(tile), dim_(problem.params.head_dim_qk),
        box_rows_(common_rows(problem.kv.page_size, tile)), shared_(static_cast<std::size_t>(2 * tile * dim_)) {}

  // Tokens [first, first + tile) of a request; what lies behind its last token is zeros.
  void bring(std::int32_t request, std::int32_t head, std::int32_t first) {
    const PagedKvCache& kv = problem_.kv;
    const std::int32_t kv_len = problem_.kv_len(request);
    for (const bool values : {false, true}) {
      const CacheShape cache{values ? kv.v_strides : kv.k_strides, kv.num_kv_heads, dim_};
      const BoxMap map = pages_map(cache, kv.page_size, kv.num_pages, box_rows_);
      BoxPlace last = map.dims;
      for (auto& d : last) --d;
      const std::span tensor(static_cast<const std::uint16_t*>(values ? kv.v : kv.k), map.address(last) / 2 + 1);
      for (std::int32_t token = first; token < first + tile_; token += box_rows_) {
        const KvSlot slot = token < kv_len ? problem_.page_table().locate(request, token) : KvSlot{kv.num_pages, 0};
        copy_box(map, tensor, place_on_pages(cache, slot, head, 0), shared_,
                 (values ? v() : 0) + std::int64_t{token - first} * dim_ * 2);
      }
      const int row_bytes = 128, atoms = dim_ / row_features;
      for (int t = std::max(kv_len - first, 0); values && t < tile_; ++t) {  // 0 x NaN is NaN
        for (int a = 0; a < atoms; ++a) {
          const int row = v() + (t / 8 * atoms + a) * atom_bytes + t % 8 * row_bytes;
          std::fill_n(shared_.begin() + row / 2, row_bytes / 2, std::uint16_t{0});
        }
      }
    }
  }

  float dot(const Half* q, int token) const {
    float sum = 0;
    for (int f = 0; f < dim_; ++f) {
      sum += static_cast<float>(q[f]) * at(key_byte(key_operand(0, dim_, f / 16), f % 16, token));
    }
    return sum;
  }
  float value(int token, int f) const {
    return at(value_byte(value_operand(static_cast<std::uint32_t>(v()), dim_, token / 16), token % 16, f));
  }

 private:
  int v() const { return tile_ * dim_ * 2; }
  float at(int byte) const {
    Half h;
    h.bits = shared_[static_cast<std::size_t>(byte / 2)];
    return static_cast<float>(h);
  }

  const AttentionProblem& problem_;
  std::int32_t tile_, dim_, box_rows_;
  std::vector<std::uint16_t> shared_;
};

inline ladder::RunResult run_hopper(const ladder::Case& c, std::int32_t tile) {
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = problem.params;
  const int dim = p.head_dim_qk;
  ladder::RunResult out{.o = std::vector<float>(c.spec.nnz_qo() * p.num_qo_heads * dim),
                        .lse_log2 = std::vector<float>(c.spec.nnz_qo() * p.num_qo_heads)};
  HopperTiles tiles(problem, tile);
  std::vector<float> x(static_cast<std::size_t>(tile));
  for (std::int32_t r = 0; r < problem.batch(); ++r) {
    const std::int32_t kv_len = problem.kv_len(r), qo_len = problem.qo_len(r), count = std::max(div_up(kv_len, tile), 1);
    for (std::int32_t head = 0; head < p.num_qo_heads; ++head) {
      std::vector<StaleRow> rows(static_cast<std::size_t>(qo_len));
      for (std::int32_t n = count - 1; n >= 0; --n) {  // from the last tile to the first
        tiles.bring(r, head / p.group_size(), n * tile);
        for (std::int32_t i = 0; i < qo_len; ++i) {
          const std::int32_t row = (problem.queries(r).begin + i) * p.num_qo_heads + head;
          const auto* q = static_cast<const Half*>(problem.q.data) + row * dim;
          const Range seen = visible_keys(p, qo_len, kv_len, i);
          for (std::int32_t j = 0; j < tile; ++j) {
            x[j] = seen.contains(n * tile + j) ? tiles.dot(q, j) * (p.sm_scale * static_cast<float>(log2_e))
                                               : SoftmaxState<float>::nothing;
          }
          rows[i].absorb(x, dim, [&](int key, int f) { return tiles.value(key, f); });
        }
      }
      for (std::int32_t i = 0; i < qo_len; ++i) {
        const auto row = static_cast<std::size_t>((problem.queries(r).begin + i) * p.num_qo_heads + head);
        for (int f = 0; f < dim; ++f) out.o[row * dim + f] = rows[i].result(f);
        out.lse_log2[row] = rows[i].state().lse_log2();
      }
    }
  }
  return out;
}

}  // namespace flashladder::walkthroughs
