// K and V as C4's inner loop takes them: tile by tile, a pointer to each row. Rows that are plain floats and are read once
// (decode) stay where they lie in their pages; others are gathered, because a buffer that several panels of rows read from
// the cache pays for the copy, and because fp16 must be converted and RoPE applied.
#pragma once

#include <span>
#include <vector>

#include "core/attention_problem.hpp"
#include "reference/matrix.hpp"

namespace flashladder::reference {

// The CPU's cp.async. Memory has more to give than loads ask for (on Zen 4 8 GB/s a core without, 15 with it), if rows start
// early on their way into the L2 cache and a few at a time, between multiplications. One line of each of eight rows and not
// one row after the other: rows may lie in pages of their own, and then eight TLB misses are served at the same time.
struct Prefetcher {
  static constexpr int rows_at_once = 8, floats_in_line = 64 / sizeof(float), floats_at_once = rows_at_once * floats_in_line;

  std::span<const float* const> rows;  // in the order of their use
  std::int32_t dim;                    // floats of a row
  std::int32_t column = 0;

  void fetch() {
    if (rows.size() < rows_at_once) return;
    for (int i = 0; i < rows_at_once; ++i) __builtin_prefetch(rows[i] + column, 0, 2);
    column += floats_in_line;
    if (column < dim) return;
    column = 0;
    rows = rows.subspan(rows_at_once);
  }
};

struct KeyTile {
  Range keys;
  const float* const* k;  // [keys.size()]  rows of head_dim_qk floats
  const float* const* v;  // [keys.size()]  rows of head_dim_vo floats
  Prefetcher ahead;       // what is used some rows after k[0]; nothing if the tile is gathered
};

// What the inner loop asks for the next tile.
class KeyTiles {
 public:
  virtual bool next(KeyTile& tile) = 0;  // at most KeyStream::gathered_tile keys; false: there are no more

 protected:
  ~KeyTiles() = default;
};

class KeyStream final : public KeyTiles {
 public:
  static constexpr std::int32_t gathered_tile = 128, in_place_tile = 32;  // keys; in place few: 32 KB at head_dim 128
  // Memory that a worker keeps from stream to stream.
  struct Buffers {
    Buffer k, v;                     // [gathered_tile, dim]
    std::vector<const float*> rows;  // in the order of their use: a tile's K, its V, and in place also the next tile's
  };

  KeyStream(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head, Range keys, bool read_once,
            Buffers& buffers);
  bool next(KeyTile& tile) override;

 private:
  std::int32_t row_floats() const;
  void append_rows();
  void gather(Range keys);

  const AttentionProblem& problem_;
  std::int32_t request_, kv_head_;
  Range keys_;  // that are left
  bool in_place_;
  std::int32_t done_ = 0;  // rows at the front of buffers_.rows that belong to the tile before
  Buffers& buffers_;
};

}  // namespace flashladder::reference
