// For which batches of few queries a request P11 is faster than D6, which takes them else. Numbers alone, without CUDA.
//
// D6 has two CTAs an SM and P11 one, so a batch with about a tile for each SM is cut by D6's plan, every tile of it, and its
// pieces are merged; P11 runs each tile as it is. Where the tiles have two fragments of 8 rows P11 is the faster for it
// (docs/measurements/h200-features.md, 16 requests with 2 queries of 64 heads on 8). With tiles to cut P11 needs a merge
// kernel, and is the slower; so it is with tiles that come in two waves, whose second one ends unevenly.
#pragma once

#include <cstdint>

namespace flashladder::gpu::p11 {

// A batch whose requests have tiles of one for each KV head, with all their rows.
struct FewQueries {
  std::int64_t tiles = 0;      // of all requests that have queries
  std::int32_t rows = 1;       // of the largest
  std::int64_t most_keys = 0;  // of a tile
  std::int64_t keys = 0;       // of all tiles
};

// One wave of whole tiles: no more than SMs, and so alike that equal shares would be shorter by no more than a cut costs: a
// piece's fixed 64 keys and the shortest piece, 64 keys too. (Where D6 and P11 break even there are twice as many keys.)
inline constexpr std::int64_t keys_of_cut = 128;
constexpr bool one_wave(const FewQueries& batch, std::int64_t num_sms) {
  return batch.rows > 8 && batch.tiles <= num_sms && num_sms * batch.most_keys - batch.keys <= num_sms * keys_of_cut;
}

}  // namespace flashladder::gpu::p11
