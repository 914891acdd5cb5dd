// Chapter 11: tiles of queries (P1, P2, P3). What a key costs, and for how many rows; packed rows; which keys a row sees,
// inner tiles and edge tiles; a softmax that goes on from tile to tile; the accumulator of S is the operand of P; rows that
// see nothing. Ends with P3's items on the CPU.
#include <cmath>

#include "draw/tile_pictures.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/intensity.hpp"
#include "walkthroughs/prefill_tile.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

// Of one prompt of `tokens`, causal, 32/8 heads: (row, key) pairs that are seen, and keys that all
// tiles of `rows` packed rows ask for.
double seen_pairs(double tokens) { return 32 * tokens * (tokens + 1) / 2; }
double keys_asked_for(std::int32_t tokens, std::int32_t rows, std::int32_t pack) {
  double keys = 0;
  for (std::int32_t first = 0; first < tokens * pack; first += rows) {
    const std::int32_t last = std::min(first + rows, tokens * pack) - 1;
    keys += last / pack + 1;
  }
  return keys * 32 / pack;
}

void a_key(Narrator& n) {
  n.section("What a key costs, and for how many rows");
  constexpr std::int32_t tokens = 8192;
  constexpr double key_bytes = 512;
  const Gpu gpu;
  const double pairs = seen_pairs(tokens), p1 = pairs * key_bytes, flop = 4 * 128 * pairs;
  n.step("A key and its value are 2 x 128 numbers of 2 bytes: 512 bytes. They cost a row 4 x 128 = 512 FLOP. In P1 each "
         "row asks for them alone, so that it has 1 FLOP for each byte. A tile of 64 rows asks once: 64 FLOP for each "
         "byte. A prompt of %d tokens, causal, 32/8 heads, has %.2f billion pairs of a row and a key that it sees. What is "
         "asked for, counted tile by tile:", tokens, pairs / 1e9);
  std::vector<std::vector<std::string>> rows{{"P1", "1", text("%.1f", key_bytes), text("%.0f", p1 / 1e9),
                                              text("%.1f", 1e3 * p1 / gpu.bytes_per_s)}};
  for (const auto& [name, tile] : {std::pair{"P2, P3, P4", 64}, {"P5", 128}}) {
    const double bytes = keys_asked_for(tokens, tile, 4) * key_bytes;
    rows.push_back({name, text("%d", tile), text("%.1f", key_bytes / tile), text("%.1f", bytes / 1e9),
                    text("%.1f", 1e3 * bytes / gpu.bytes_per_s)});
  }
  n.table({"", "rows for a load", "bytes a pair", "GB asked for", "ms at 4.8 TB/s"}, rows);
  n.say("The arithmetic is %.2f TFLOP, %.2f ms at the tensor cores' %.0f TFLOP/s (data sheets, H200). The caches answer "
        "most of what is asked for: P1's L1 cache a part, the L2 cache the rest. But they do not answer %.0f GB in a "
        "millisecond.",
        flop / 1e12, 1e3 * flop / gpu.flop_per_s, gpu.flop_per_s / 1e12, p1 / 1e9);
}

void registers(Narrator& n) {
  n.step("The same again, one floor up. Shared memory serves eight lanes of 16 bytes a clock, 128 bytes (chapter 08). How "
         "many multiply-adds do these 128 bytes feed?");
  const auto line = [](const char* what, int bytes, int products) {
    return std::vector<std::string>{what, text("%d", bytes), text("%d", products), text("%.4g", 1.0 * bytes / products),
                                    text("%d", 128 * products / bytes)};
  };
  n.table({"", "bytes", "multiply-adds", "bytes for one", "for 128 bytes"},
          {line("one row, one key, 8 features", 2 * 16, 8),
           line("P2, a lane: 4 rows x 4 keys, 8 features", (4 + 4) * 16, 4 * 4 * 8),
           line("P3, P4, a warp: 16 rows x 8 keys, 16 features", 8 * 16 * 2, 16 * 8 * 16),
           line("P5, a warp: 32 rows x 8 keys, 16 features", 8 * 16 * 2, 32 * 8 * 16)});
  n.say("A CUDA core does one a clock, an SM has 128 of them: P2's block is just large enough. Tensor cores do 2048 a "
        "clock (989 TFLOP/s: 132 SMs at 1.83 GHz). In P3 and P4 q is in registers, and a fragment of K serves 16 rows: "
        "1024. In P5 it serves 32 rows (what else shared memory has to do there, chapter 12 counts).");
}

void packed(Narrator& n) {
  n.section("Rows are packed");
  n.step("The chapter's tile: 8 queries, the last of 44 tokens, 2 query heads on 1 KV head. Both heads need the same keys, "
         "so their rows lie side by side (core/row.hpp): row r is query r / 2, head r %% 2. One tile of 16 rows:");
  const Tile tile(8, 44);
  std::vector<std::vector<std::string>> cells{{"query"}, {"head"}};
  std::vector<std::string> header{"row"};
  for (int r = 0; r < warp_rows; ++r) {
    header.push_back(text("%d", r));
    cells[0].push_back(text("%d", tile.rows.place(r).query)), cells[1].push_back(text("%d", tile.rows.place(r).qo_head));
  }
  n.table(header, cells);
  n.step("How much packing saves depends on how many queries there are. 32/8 heads on 8192 keys, no mask, tiles of 64 "
         "rows; MB of K and V that all tiles ask for:");
  std::vector<std::vector<std::string>> rows;
  for (const int queries : {1, 4, 16, 64, 1024}) {
    const auto tiles = [&](int pack) { return div_up(queries * pack, 64) * (32 / pack); };
    const auto used = [&](int pack) { return 100.0 * queries * 32 / (tiles(pack) * 64); };
    const auto mb = [&](int pack) { return tiles(pack) * 8192.0 * 512 / 1e6; };
    rows.push_back({text("%d", queries), text("%.0f", mb(1)), text("%.0f", used(1)), text("%.0f", mb(4)),
                    text("%.0f", used(4))});
  }
  n.table({"queries", "MB, pack 1", "rows used %", "MB, pack 4", "rows used %"}, rows);
}

void who_sees(Narrator& n) {
  n.section("Which keys a row sees");
  n.step("Causal: query i stands on key i + 44 - 8 and sees the keys up to it. So each row has a range of keys, and two "
         "numbers a row are the whole mask (row_keys.cuh). Tiles of %d keys here; x is seen, a dot is not:", tile_keys);
  const Tile causal(8, 44), window(8, 44, 31);
  n.block(drawn(causal));
  n.say("All rows see keys 0 to 36. A tile that lies within that is an inner tile: nobody needs to ask. The others are "
        "edge tiles: each row asks of each key. Tile 2 is one, and it is so twice over: keys 44 to 47 of it do not exist.");
  n.step("With a window, here window_left = 31, ranges have two ends that move. The item begins with key 5, the first that "
         "row 0 sees, and its tiles are counted from there:");
  n.block(drawn(window));
  std::vector<std::vector<std::string>> rows{{"causal"}, {"causal, window"}};
  for (const std::string& kind : kinds(causal)) rows[0].push_back(kind);
  for (const std::string& kind : kinds(window)) rows[1].push_back(kind);
  n.table({"", "tile 0", "tile 1", "tile 2"}, rows);
  bool right = true;
  for (const Tile* tile : {&causal, &window}) {
    const SeenTiles tiles = seen_tiles(tile->rows, 0, warp_rows - 1, tile_keys);
    for (int t = 0; t < 3; ++t) {
      int seen = 0;
      for (int i = 0; i < warp_rows * tile_keys; ++i) {
        seen += tile->rows.seen(i / tile_keys).contains(tile->item.keys.begin + t * tile_keys + i % tile_keys);
      }
      right = right && tiles.some.contains(t) == (seen > 0) && tiles.all.contains(t) == (seen == warp_rows * tile_keys);
    }
  }
  n.check_that("asked key by key, the tiles are of the same kinds", right);
  std::int64_t inner = 0, edge = 0, pairs = 0;
  for (int q = 0; q < 8192; q += 16) {  // 64 packed rows of four heads: 16 queries
    const int tiles = div_up(q + 16, 64), of_all = (q + 1) / 64;
    inner += of_all, edge += tiles - of_all, pairs += std::int64_t{tiles} * 64 * 64;
  }
  n.step("The prompt of 8192 tokens again, 64 packed rows of 4 heads against 64 keys. Each KV head has %lld inner tiles "
         "and %lld edge tiles, %.1f %% of all; those that no row sees are in no item, since the planner trims an item's "
         "keys. Of the scores that are computed %.1f %% are seen. P2 to P4 ask in every tile; P5 in edge tiles only.",
         static_cast<long long>(inner), static_cast<long long>(edge), 100.0 * edge / (inner + edge),
         100 * seen_pairs(8192) / 8 / static_cast<double>(pairs));
}

void from_tile_to_tile(Narrator& n) {
  n.section("From tile to tile");
  const Tile tile(8, 44);
  n.step("The softmax goes on from tile to tile by the rescale of chapter 02; P2 and P3 differ only in where the numbers "
         "are. Rows 0 and 15 of the tile, after each tile of keys:");
  std::vector<std::vector<std::string>> rows;
  std::array before{SoftmaxState<float>{}, SoftmaxState<float>{}};
  const WarpRows warp = p3_warp(tile.rows, 0, tile_keys, [&](int t, const WarpRows& mine) {
    std::vector<std::string> cells{text("%d", t)};
    for (int i = 0; i < 2; ++i) {
      const SoftmaxState<float> now = mine.state(15 * i);
      cells.push_back(text("%.3f", SoftmaxState<float>::weight(before[i].m, now.m)));
      cells.push_back(text("%.3f", now.m)), cells.push_back(text("%.3f", now.d));
      before[i] = now;
    }
    rows.push_back(cells);
  });
  n.table({"tile", "row 0: rescale", "m", "d", "row 15: rescale", "m", "d"}, rows);
  const ladder::RunResult c4 = run_rung(ladder::rung("C4"), tile.c);
  n.say("Row 0 ends with lse_log2 = m + log2(d) = %.4f, row 15 with %.4f; C4 says %.4f and %.4f.", warp.state(0).lse_log2(),
        warp.state(15).lse_log2(), c4.lse_log2[0], c4.lse_log2[15]);
  const int q = 64 * 17 * 16, p = 64 * 65 * 4;
  n.step("P2 keeps tiles of 64 rows of q, of K and of V in shared memory, %d bytes each (a chunk of padding after each "
         "row), the scores, 64 x 65 floats, %d bytes, and a scale a row: %d bytes. For the scores of a tile, %d KB are "
         "written, read, written as weights, and read by the 16 threads that share a row of o. Between these steps all "
         "threads must meet: four barriers a tile.", q, p, 3 * q + p + 64 * 4, 64 * 64 * 4 / 1024);
}

void operand(Narrator& n) {
  n.section("The accumulator is the operand");
  n.step("P3: mma.m16n8k16 with queries on M. A warp has 16 rows; the scores of a tile of 16 keys are two accumulators, "
         "side by side. O += P V wants P, 16 rows x 16 keys, as left operand. Lane 5:");
  std::vector<std::vector<std::string>> rows{{"in S, accumulators"}, {"in P, left operand"}};
  std::vector<std::string> header{"element"};
  const auto in_s = [](std::int32_t lane, std::int32_t i) {
    const FragmentElement e = mma_c_element(lane, i % 4);
    return FragmentElement{e.row, e.col + i / 4 * 8};
  };
  bool same = true;
  for (int i = 0; i < mma_a_elements; ++i) {
    header.push_back(text("%d", i));
    rows[0].push_back(text("(%d, %d)", in_s(5, i).row, in_s(5, i).col));
    rows[1].push_back(text("(%d, %d)", mma_a_element(5, i).row, mma_a_element(5, i).col));
    for (int lane = 0; lane < warp_lanes; ++lane) same = same && in_s(lane, i) == mma_a_element(lane, i);
  }
  n.table(header, rows);
  n.say("(row, key). The left accumulator has elements 0 to 3, the right one 4 to 7. The places are the same, so two "
        "numbers are rounded to 16 bits, packed into one register, and that is all.");
  n.check_that("in all lanes two accumulators of S are a left operand of P V", same);
  n.figure("operand", draw::fragment_picture(16, 16, 32, 8, in_s, {"S of 16 rows and 16 keys: two accumulators",
           "and, rounded to 16 bits, the left operand P"}), "The accumulators of S, and the left operand P");
  n.step("A row lies in the four lanes 4 n to 4 n + 3. Its maximum needs two shuffles, distances 1 and 2. d needs none in "
         "the loop: each lane adds its own keys, and the four meet after the last tile. The rescale of o is where m is, "
         "since o is an accumulator with the same rows. Between the two products there is no barrier and no shared memory.");
}

void nothing_seen(Narrator& n) {
  n.section("A row that sees nothing");
  const Tile tile(8, 5);
  n.step("Queries are the last tokens of the sequence. With 8 queries and 5 keys query i stands on key i - 3: rows 0 to 5 "
         "see nothing, and all of their scores are -inf. 2^(-inf - -inf) is NaN, so the kernel subtracts 0 while m is "
         "-inf. Row 0 and row 6:");
  std::vector<std::vector<std::string>> table;
  const float scale = scale_of(tile.problem.params);
  const auto add = [&](const char* name, bool guarded, float hidden) {
    WarpRows mine(tile.rows, 0);
    const KeyTile keys(tile.rows, 0, tile_keys);
    Scores s = mine.scores(tile_keys, [&](int k, int i) { return keys.of_k(k, i); });
    mask(s, tile.rows, 0, 0, hidden);
    mine.softmax(s, scale, guarded);
    mine.weigh_values(s, [&](int i, int v) { return keys.of_v(i, v); });
    const auto cells = [&](int row) {
      const auto done = mine.finish(row);
      return std::array{number_text(done.o[0] * done.state.inverse_d(), "%.4f"),
                        number_text(done.state.lse_log2(), "%.4g")};
    };
    table.push_back({name, cells(0)[0], cells(0)[1], cells(6)[0], cells(6)[1]});
  };
  constexpr float nothing = SoftmaxState<float>::nothing;
  add("right", true, nothing);
  add("without the guard", false, nothing);
  add("-5e4 for -inf", true, -5e4f);
  add("-1e30 for -inf", true, -1e30f);
  n.table({"", "row 0: o[0]", "lse_log2", "row 6: o[0]", "lse_log2"}, table);
  n.say("With -5e4 for -inf row 0 is the mean of the tile's 16 values, zeros for the 11 keys that do not exist: it looks "
        "like an answer. With -1e30 it is not even that: m is -1e30 * scale, rounded, and fmaf subtracts it from the "
        "product that is not. They differ by %.0e, and 2 to that power is inf. In a later tile a row that sees nothing of "
        "it changes nothing: its weights are 0, its m and d stay.", static_cast<double>(std::fma(-1e30f, scale,
        1e30f * scale)));
  n.check_that("right: o = 0 and lse_log2 = -inf, as everywhere",
               number_text(-INFINITY, "%.4g") == table[0][2] && table[0][1] == number_text(0, "%.4f"));
}

void the_rung(Narrator& n) {
  n.section("The rung: P3, on a CPU");
  n.step("P3's items with these instructions: 64 rows, 64 keys a tile, 4 warps of 16 rows. A ragged batch, cut every 128 "
         "keys; P is rounded to fp16, and the oracle's tolerance knows it.");
  for (const int pack : {1, 3}) {
    const ladder::Case c = ladder::draw_case({.name = "prefill", .seed = 11, .qo_lens = {70, 7, 0, 20},
        .kv_lens = {170, 3, 5, 64}, .params = {.num_qo_heads = 3, .num_kv_heads = 1, .sm_scale = 0.125f,
        .mask = MaskMode::causal, .window_left = 100}, .dtype = DType::f16});
    const Plan plan = planner::make_plan({.qo_lens = c.spec.qo_lens, .kv_lens = c.spec.kv_lens, .num_qo_heads = 3,
        .num_kv_heads = 1, .mask = MaskMode::causal, .window_left = 100, .query_tile = 64, .pack = pack,
        .policy = planner::SplitPolicy::fixed, .chunk_size = 128});
    const ladder::RunResult below = run_rung(ladder::rung("C4"), c);
    const ladder::RunResult ours = run_items(c, plan, [&](const AttentionProblem& problem, const WorkItem& item) {
      return p3_item(problem, item, pack);
    });
    const ladder::Comparison worst = agree(c, ours, &below, ladder::make_oracle(c, DType::f16));
    n.check_that(text("pack %d: equals C4 and the oracle, o and lse_log2", pack), worst.ok(),
                 worst.ok() ? text("%.2g", worst.ratio()) : worst.message());
  }
  n.question("With pack 1 a tile of 64 rows has 64 queries, with pack 4 it has 16. For the prompt of 8192 tokens, how many "
             "edge tiles does a KV head with its 4 query heads have in either way?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{11, "Prefill tiles",
                        "A key is loaded once for all rows of a tile; scores stay where they are made."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    a_key(n);
    registers(n);
    packed(n);
    who_sees(n);
    from_tile_to_tile(n);
    operand(n);
    nothing_seen(n);
    the_rung(n);
  });
}
