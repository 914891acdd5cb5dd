// The warp groups that compute. A: S = Q K^T, its softmax, and the left half of O += P V. B: the right half.
//
// What the tensor cores do, tile by tile, where tiles come fast enough:
//
//   A issues      S(n)  | ........... exponents | left(n)  | S(n + 1) | ........ exponents | ...
//   B issues            | right(n - 1)          |          |          | right(n)           |
//
// B has the multiplication of tile n - 1 wait until A has S(n): it fills the time of A's exponents, in which no other products
// are there. Where tiles come slowly, that would keep their memory from being filled again: then B does not wait (b_turn).
// That is so where a tile has not come when A wants it, and where the item's tiles come from memory for it alone. What is
// added in which order does not depend on it.
#pragma once

#include <cstdint>

#include "gpu/mla/l5_output.cuh"
#include "gpu/mla/l5_producer.cuh"
#include "gpu/mla/l5_shape.cuh"
#include "gpu/prefill/hopper_group.cuh"
#include "gpu/prefill/hopper_rows.cuh"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/prefill/stale_softmax.cuh"
#include "gpu/ptx/wgmma.cuh"

namespace flashladder::gpu::l5 {

__device__ inline std::uint32_t address(const unsigned char* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

// A tile that was copied past the copy engine is shown to wgmma as a whole: one fence.
__device__ inline void wait_for_threads(Shared& shared, const RingSlot<stages>& at) {
  for (const Mbarrier& part : shared.barriers.full[at.stage]) part.wait(at.parity);
  fence_proxy_async();
}

// s [64 rows, keys] = Q K^T, not awaited: part by part, as the copy engine brings them.
template <class Element>
__device__ void start_scores(float (&s)[keys / 2], Shared& shared, const RingSlot<stages>& at, bool by_threads) {
  constexpr int step_bytes = 32;
  Tile& tile = shared.tiles[at.stage];
  const std::uint64_t q = wgmma_operand(address(shared.q[0]), 0, atom_bytes);
  const auto multiply = [&](Part part, int first_panel, int panels) {
    if (!by_threads) shared.barriers.full[at.stage][part].wait(at.parity);
    wgmma_fence();
    const std::uint64_t k = wgmma_operand(address(tile.of(part)), 0, group_bytes(part));
#pragma unroll
    for (int step = 0; step < panels * 4; ++step) {
      Wgmma<Element, keys>::template multiply<false>(
          s, further(q, (first_panel + step / 4) * panel_bytes + step % 4 * step_bytes),
          further(k, step / 4 * atom_bytes + step % 4 * step_bytes), part != rope || step > 0);
    }
  };
  if (by_threads) wait_for_threads(shared, at);
  multiply(rope, rope_panel, 1);
  multiply(left, 0, half_atoms);
  multiply(right, half_atoms, half_atoms);
  wgmma_commit();
}

// o [64 rows, half_features] += P V, or, for an item's first tile, = P V; not awaited. p: P as A operands, 16 keys at a time.
template <class Element>
__device__ void start_output(float (&o)[half_values], const std::uint32_t (&p)[keys / 4], unsigned char* half, bool first) {
  const std::uint64_t v = wgmma_operand(address(half), atom_bytes, group_bytes(left));
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < keys / 16; ++step) {
    Wgmma<Element, half_features>::template multiply<true>(o, p + 4 * step, further(v, step * 2 * group_bytes(left)),
                                                           step > 0 || !first);
  }
  wgmma_commit();
}

// Unused slots of a page may hold NaN, which a weight of 0 does not take away: values of an item's last tile that lie behind
// the request's last key become zeros. All threads of a warp group. Scores of such keys may be anything: they are replaced.
__device__ inline void clear_unused(unsigned char* half, std::uint32_t first_key, std::int32_t kv_len, int group) {
  if (first_key + keys <= static_cast<std::uint32_t>(kv_len)) return;
  constexpr int chunks = half_features / 8;
  const int first = static_cast<int>(static_cast<std::uint32_t>(kv_len) - first_key);
  for (int i = first * chunks + threadIdx.x % group_threads; i < keys * chunks; i += group_threads) {
    *reinterpret_cast<uint4*>(half + chunk_at(i / chunks, i % chunks, row_atoms)) = uint4{};
  }
  fence_proxy_async();  // wgmma sees the zeros
  sync_group(group);    // of all threads
}

// Which keys a thread's two rows see, and which tiles all rows see whole. Rows that are not there count as the last.
struct SeenRows {
  Range row[2];
  Range inner;

  __device__ SeenRows(const KeyRules& rules, const Queries& queries, const PackedItem& item, const KeyTiles<keys>& tiles) {
    const auto query = [&](std::int32_t r) { return queries.place(item, min(r, item.rows.size() - 1)).query - item.query; };
    for (int i = 0; i < 2; ++i) row[i] = row_keys(rules, item, query(row_of_thread(i)));
    const Range all = keys_of_all(rules, item, query(0), query(rows));
    // By shuffles, so that the compiler knows them to be the same for the warp.
    inner = {__shfl_sync(all_lanes, div_up(all.begin - tiles.begin, keys), 0),
             __shfl_sync(all_lanes, (all.end - tiles.begin) / keys, 0)};
  }

  // Scores of keys that a row does not see become -inf.
  __device__ void mask(float (&s)[keys / 2], const KeyTiles<keys>& tiles, int n) const {
    if (inner.contains(n)) [[likely]] return;
    const std::uint32_t key = tiles.first_key(n) + threadIdx.x % 4 * 2;  // unsigned: a tile may end behind 2^31 - 1
    const auto from_key = [&](std::int32_t j) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(j) - key); };
    const std::int32_t begin[2] = {from_key(row[0].begin), from_key(row[1].begin)};
    const std::int32_t end[2] = {from_key(row[0].end), from_key(row[1].end)};
    hide(s, begin, end);
  }
};

// What A hands to B: P of a tile and the references that it is relative to, or, at the end of an item, the scales of O.
__device__ inline void send(Shared& shared, std::uint32_t& message, const std::uint32_t (&p)[keys / 4], float2 of_rows) {
  const int rank = threadIdx.x % group_threads;
  shared.barriers.p_empty.wait(parity_of(message++) ^ 1);
#pragma unroll
  for (int i = 0; i < 4; ++i) shared.p[i][rank] = {p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
  shared.of_rows[rank] = of_rows;
  shared.barriers.p_full.arrive();
}

template <class Element>
__device__ void compute_left(Shared& shared, const Queries& queries, const Latent& kv, const KeyRules& rules, float scale,
                             const PackedParams& plan) {
  Barriers& barriers = shared.barriers;
  const bool by_threads = !kv.boxes();
  float o[half_values], s[keys / 2];
  std::uint32_t p[keys / 4];
  std::uint32_t tile = 0, message = 0;  // the next
  for (std::uint32_t turn = 0;; ++turn) {
    barriers.q_full.wait(turn % 2);
    fence_proxy_async();  // the queries were copied past the copy engine
    const PackedItem& item = shared.items[turn % 2];
    if (item.rows.empty()) return;
    const KeyTiles<keys> tiles(item.keys, kv.first_key_mask);
    const SeenRows seen(rules, queries, item, tiles);
    const bool alone = queries.alone(item);
    const auto have_scores = [&](const RingSlot<stages>& at, int n) {
      release(barriers.empty[at.stage][rope]);
      if (n == 0) barriers.q_empty.arrive();
      seen.mask(s, tiles, n);
    };
    const RingSlot<stages> first(tile++);
    start_scores<Element>(s, shared, first, by_threads);
    wgmma_wait<0>();
    have_scores(first, tiles.count - 1);
    StaleSoftmax softmax;
    softmax.begin<Element, keys>(s, scale, p);
    send(shared, message, p, {softmax.reference[0], softmax.reference[1]});
    clear_unused(shared.tiles[first.stage].of(left), tiles.first_key(tiles.count - 1), item.request.kv_len, 1);
    for (int n = tiles.count - 2; n >= 0; --n) {
      const RingSlot<stages> before(tile - 1), at(tile++);
      start_output<Element>(o, p, shared.tiles[before.stage].of(left), n + 2 == tiles.count);
      const bool late = alone || !barriers.full[at.stage][left].ended(at.parity);
      if (late) {  // what is to be freed is freed now, and nothing waits for the tile but its own scores
        release(barriers.b_turn);
        wgmma_wait<0>();
        release(barriers.empty[before.stage][left]);
      }
      start_scores<Element>(s, shared, at, by_threads);
      wgmma_wait<1>();
      if (!late) release(barriers.empty[before.stage][left]);
      wgmma_wait<0>();
      if (!late) release(barriers.b_turn);
      have_scores(at, n);
      softmax.absorb<Element, keys>(s, scale, p, o, [](float) {}, [](float) {});
      send(shared, message, p, {softmax.reference[0], softmax.reference[1]});
    }
    const RingSlot<stages> last(tile - 1);
    start_output<Element>(o, p, shared.tiles[last.stage].of(left), tiles.count == 1);
    release(barriers.b_turn);
    const SoftmaxState<float> states[2] = {softmax.state(0), softmax.state(1)};
    const float2 ends{states[0].inverse_d(), states[1].inverse_d()};
    send(shared, message, p, ends);
    store_lse(states, queries, plan, item);
    wgmma_wait<0>();
    release(barriers.empty[last.stage][left]);
    store_half(o, ends, queries, plan, item, 0);
  }
}

// What B keeps of its rows.
struct RightRows {
  float2 reference;

  // o in units of the reference that P comes with.
  __device__ void follow(float2 now, float (&o)[half_values]) {
    if (__any_sync(all_lanes, now.x != reference.x || now.y != reference.y)) {
      const float factor[2] = {exp2_approx(reference.x - now.x), exp2_approx(reference.y - now.y)};
#pragma unroll
      for (int j = 0; j < half_values; ++j) o[j] *= factor[j / 2 % 2];
    }
    reference = now;
  }
};

template <class Element>
__device__ void compute_right(Shared& shared, const Queries& queries, const Latent& kv, const PackedParams& plan) {
  Barriers& barriers = shared.barriers;
  const bool by_threads = !kv.boxes();
  const int rank = threadIdx.x % group_threads;
  float o[half_values];
  std::uint32_t tile = 0, message = 0;  // the next
  for (std::uint32_t turn = 0;; ++turn) {
    barriers.q_full.wait(turn % 2);
    const PackedItem& item = shared.items[turn % 2];
    if (item.rows.empty()) return;
    barriers.q_empty.arrive();  // the record before has been read; this one stays until the same is said of it
    const KeyTiles<keys> tiles(item.keys, kv.first_key_mask);
    // The barrier of its half's bytes (BoxAt::copy). The left one may be of the next tile by now, if the copier has halves.
    const Part counted = !by_threads && queries.alone(item) ? left : right;
    RightRows mine;
    for (int n = tiles.count - 1; n >= 0; --n) {
      const bool first = n == tiles.count - 1;
      std::uint32_t p[keys / 4];
      barriers.p_full.wait(parity_of(message++));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint4 part = shared.p[i][rank];
        p[4 * i] = part.x, p[4 * i + 1] = part.y, p[4 * i + 2] = part.z, p[4 * i + 3] = part.w;
      }
      const float2 reference = shared.of_rows[rank];
      barriers.b_turn.wait(parity_of(tile));
      barriers.p_empty.arrive();  // behind the turn, lest A be two turns ahead
      if (first) mine.reference = reference;
      else mine.follow(reference, o);
      const RingSlot<stages> at(tile++);
      unsigned char* half = shared.tiles[at.stage].of(right);
      barriers.full[at.stage][counted].wait(at.parity);
      if (by_threads) fence_proxy_async();
      if (first) clear_unused(half, tiles.first_key(n), item.request.kv_len, 2);
      start_output<Element>(o, p, half, first);
      wgmma_wait<0>();
      release(barriers.empty[at.stage][right]);
    }
    barriers.p_full.wait(parity_of(message++));
    const float2 ends = shared.of_rows[rank];
    barriers.p_empty.arrive();
    store_half(o, ends, queries, plan, item, 1);
  }
}

}  // namespace flashladder::gpu::l5
