// Chapter 06: lanes. What one load instruction of a warp touches (D1, D2); which lane holds what; a dot product in four
// shuffles; K and V once for a group of heads, in issue slots; bytes in flight. Ends with D2's loop on 32 lanes of the CPU.
#include <cmath>
#include <set>

#include "draw/figure.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/lane_attention.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;
using ladder::Case;

namespace {

constexpr int num_sms = planner::MachineShape{}.num_sms, sector = 32;
constexpr int resident = 3;  // blocks of D2 in an SM, for 4 rows
const std::string usual = "B32 kv2048 32/8";

void the_floor(Narrator& n, const Measured& gpu) {
  n.section("The floor");
  const double bytes = 32.0 * 2048 * 8 * 128 * 2 * 2;
  n.step("Cases have names. %s: a batch of 32 requests of 2048 keys each, 32 query heads on 8 KV heads. With head_dim 128 "
         "and 16 bits, K and V are 32 * 2048 * 8 * 128 * 2 * 2 bytes = %.1f MB, and every one of them must be read once. A "
         "kernel that only reads them needs %.1f us (%s).",
         usual.c_str(), bytes / 1e6, gpu.us(usual, "read"), gpu.machine().c_str());
  n.step("D1 and D2 read the same cache. What they took, in microseconds:");
  gpu.table(n, {usual, "B32 kv2048 64/8", "B32 kv2048 32/32", "B1 kv8192 32/8"}, {"read", "D1", "D2"});
  n.check_that("the measured lines mean the same bytes", std::abs(gpu.bytes(usual, "read") / bytes - 1) < 0.01);
}

// The bytes that each lane asks for in one instruction: [begin, end) in the cache.
using Request = Lanes<std::pair<std::int64_t, std::int64_t>>;
struct LoadInstruction {
  const char* name;
  Request lanes;
  std::vector<std::int64_t> rows;  // byte offset of each token's 256 bytes that it touches, to draw
};

std::set<std::int64_t> sectors(const Request& request) {
  std::set<std::int64_t> touched;
  for (const auto& [begin, end] : request) {
    for (std::int64_t s = begin / sector; s * sector < end; ++s) touched.insert(s);
  }
  return touched;
}

std::vector<LoadInstruction> load_instructions(const Case& c) {
  const AttentionProblem problem = c.problem();
  const auto token_at = [&](int token) { return 2 * problem.kv.k_strides.offset(problem.page_table().locate(0, token), 0); };
  const auto bytes = [](std::int64_t begin, int size) { return std::pair{begin, begin + size}; };
  std::vector<LoadInstruction> loads;
  std::vector<std::int64_t> all;
  for (int token = 0; token < warp_lanes; ++token) all.push_back(token_at(token));
  loads.push_back({"D1, K: feature 0 of 32 tokens", each_lane([&](int lane) { return bytes(token_at(lane), 2); }), all});
  loads.push_back({"D1, V: 32 features of token 0", each_lane([&](int lane) { return bytes(token_at(0) + 2 * lane, 2); }),
                   {all[0]}});
  const Warp warp(128);
  loads.push_back({"D2, K or V: all of tokens 0 and 1", each_lane([&](int lane) {
                     return bytes(token_at(warp.token_of(lane)) + 16 * warp.lane_in_token(lane), 16);
                   }), {all[0], all[1]}});
  return loads;
}

// A row a token, its 256 bytes from left to right: pale what the memory system moves, full what the lanes asked for.
draw::Svg load_picture(const std::vector<LoadInstruction>& loads) {
  constexpr double byte = 0.8, left = 100, row_height = 11, width = left + 256 * byte * 2 + 100;
  draw::Canvas canvas;
  double y = draw::draw_caption(canvas, {"One load instruction of a warp", "Each line is the 256 bytes of a token's K or "
                                   "V of one head, in sectors of 32. Pale: a sector that is fetched. Full: bytes that a "
                                   "lane asked for."},
                          width);
  for (const LoadInstruction& load : loads) {
    canvas.text({draw::margin, y + 12}, load.name, {.size = 13, .bold = true});
    y += 20;
    const std::set<std::int64_t> touched = sectors(load.lanes);
    for (std::size_t r = 0; r < load.rows.size(); ++r, y += row_height) {
      const std::int64_t row = load.rows[r];
      canvas.text({left - 8, y + 9}, text("token %zu", r), {.size = 9, .anchor = draw::Anchor::end, .colour = draw::muted});
      for (int s = 0; s < 8; ++s) {
        const bool fetched = touched.contains(row / sector + s);
        const draw::Rgb fill = fetched ? draw::mix(draw::orange, draw::paper, 0.6) : draw::fog;
        canvas.rect({left + s * sector * byte * 2, y, sector * byte * 2 - 1, row_height - 2}, {.fill = fill});
      }
      for (int lane = 0; lane < warp_lanes; ++lane) {
        const auto [begin, end] = load.lanes[lane];
        if (begin < row || begin >= row + 256) continue;
        const double x = left + static_cast<double>(begin - row) * byte * 2;
        const double wide = static_cast<double>(end - begin) * byte * 2 - (end - begin > 2 ? 1 : 0);
        canvas.rect({x, y, wide, row_height - 2}, {.fill = draw::category(lane % 2 == 0 ? 0 : 5)}, text("lane %d", lane));
      }
    }
    y += 14;
  }
  return canvas.finish(width, y + 6, "sectors that one load instruction of a warp touches");
}

void one_load(Narrator& n, const Case& c) {
  n.section("What one load instruction touches");
  n.step("A warp is 32 lanes that issue one instruction together. Memory moves sectors of %d bytes. The addresses below "
         "come from the page table and the strides (NHD, 8 KV heads: in a page, the tokens of a head lie %d bytes apart).",
         sector,
         static_cast<int>(2 * c.problem().kv.k_strides.entry));
  const std::vector<LoadInstruction> loads = load_instructions(c);
  std::vector<std::vector<std::string>> rows;
  for (const LoadInstruction& load : loads) {
    int wanted = 0;
    for (const auto& [begin, end] : load.lanes) wanted += static_cast<int>(end - begin);
    const std::size_t moved = sectors(load.lanes).size();
    rows.push_back({load.name, text("%d", wanted), text("%zu", moved),
                    text("%.0f", 100.0 * wanted / static_cast<double>(moved * sector))});
  }
  n.table({"instruction", "bytes wanted", "sectors", "used %"}, rows);
  n.figure("loads", load_picture(loads), "What a warp asks for, and what memory moves for it");
  n.say("D1's K touches 32 sectors to use two bytes of each. The other 30 are wanted by the next 15 instructions, if the "
        "L1 cache still holds them then. D2 asks for 16 bytes a lane, the most that one instruction can, and uses all it "
        "moves.");
  // Of one query head, head_dim 128. D1: 128 threads. K: a warp's 128 instructions serve 32 tokens; V: 4 warps, a token.
  const double d1 = 128.0 / 32 + 4, d2 = 2.0 / 2;
  n.step("Instructions that load one token's K and V: D1 %.0f for each query head, %.0f for a group of 4; D2 %.0f for the "
         "whole group.", d1, 4 * d1, d2);
  n.check_that("D2 uses every byte that it moves", sectors(loads[2].lanes).size() * sector == 512);
}

void who_holds_what(Narrator& n, const Case& c) {
  n.section("Who holds what");
  std::vector<std::vector<std::string>> rows;
  for (const int head_dim : {64, 128, 256}) {
    const Warp w(head_dim);
    const int last = warp_lanes - 1, feature = 8 * w.lane_in_token(last);
    rows.push_back({text("%d", head_dim), text("%d", w.lanes()), text("%d", w.tokens()),
                    text("token %d, features %d .. %d", w.token_of(last), feature, feature + 7),
                    text("%.0f", std::log2(w.lanes()))});
  }
  n.step("A lane holds 8 neighbouring features; head_dim / 8 lanes are a token, and a warp reads as many tokens as fit.");
  n.table({"head_dim", "lanes a token", "tokens a warp", "lane 31 holds", "shuffles a dot product"}, rows);

  const AttentionProblem problem = c.problem();
  const auto* q = static_cast<const Half*>(problem.q.data);
  const auto* k = static_cast<const Half*>(problem.kv.k);
  const auto read = [](const Half* from) {
    std::array<float, 8> out{};
    for (int i = 0; i < 8; ++i) out[i] = static_cast<float>(from[i]);
    return out;
  };
  Warp warp(64);
  LaneRow row;
  row.q = each_lane([&](int lane) { return read(q + 8 * warp.lane_in_token(lane)); });
  const Features key = each_lane([&](int lane) {
    const KvSlot slot = problem.page_table().locate(0, warp.token_of(lane));
    return read(k + problem.kv.k_strides.offset(slot, 0) + 8 * warp.lane_in_token(lane));
  });
  Lanes<float> sum = warp.partial_dot(row, key);
  n.step("A dot product ends in a butterfly: each lane adds what the lane at distance 4, 2, 1 holds. Token 0 with 8 lanes "
         "(the first 64 features):");
  std::string block = "lane           " + std::string("      0       1       2       3       4       5       6       7\n");
  block += "own 8 features " + row_text(std::span(sum).first(8), "%7.3f") + "\n";
  double direct = 0;
  for (int i = 0; i < 64; ++i) direct += static_cast<double>(row.q[i / 8][i % 8]) * key[i / 8][i % 8];
  for (int offset = 4; offset > 0; offset /= 2) {
    const Lanes<float> other = warp.shuffle_xor(sum, offset);
    sum = each_lane([&](int lane) { return sum[lane] + other[lane]; });
    block += text("+ lane ^ %d     ", offset) + row_text(std::span(sum).first(8), "%7.3f") + "\n";
  }
  n.block(block);
  n.say("No memory, no barrier, and in the end every lane has the sum: each can weigh its own features of V with it.");
  n.check("all eight lanes hold the dot product", std::abs(sum[7] - direct) + std::abs(sum[0] - direct), 1e-4);
}

void once_for_a_group(Narrator& n, const Case& c, const Measured& gpu) {
  n.section("K and V once for a group");
  const double rate = bytes_per_clock(gpu.bytes(usual, "read"), gpu.us(usual, "read"), gpu.clocks_per_us(), num_sms);
  const double clocks = 512 / rate;
  n.step("The read kernel gives each of %d SMs %.1f bytes a clock. A token's K and V of one head, 512 bytes, come every "
         "%.0f clocks, and in that time an SM's four schedulers can issue %.0f warp instructions. What D2's loop issues for "
         "each token, counted by running it (addresses not counted):", num_sms, rate, clocks, 4 * clocks);
  std::vector<std::vector<std::string>> rows;
  double eight_rows = 0;
  for (const int group : {1, 4, 8}) {
    const CountedPass pass = count_pass(c.problem(), group);
    const Issued& i = pass.issued;
    const auto each = [&](int x) { return text("%.1f", pass.for_a_token(x)); };
    eight_rows = pass.for_a_token(i.total());
    rows.push_back({text("%d", group), each(i.loads), each(i.converts), each(i.multiply_adds), each(i.shuffles),
                    each(i.others), each(i.total()), text("%.0f", 100 * eight_rows / (4 * clocks))});
  }
  n.table({"heads in the group", "loads", "converts", "multiply-adds", "shuffles", "others", "together",
           "% of the slots"}, rows);
  n.say("Others: the additions of the butterfly, and the softmax. Loads and conversions are paid once for the group; the "
        "rest is paid for every head. At 8 heads the arithmetic alone asks for more slots than there are. So reading once "
        "is not enough: %.0f us for 32 heads, %.0f for 64, on the same bytes.",
        gpu.us(usual, "D2"), gpu.us("B32 kv2048 64/8", "D2"));
  n.check_that("eight heads ask for more slots than there are", eight_rows > 4 * clocks);
}

void in_flight_bytes(Narrator& n, const Measured& gpu) {
  n.section("Bytes in flight");
  const double rate = bytes_per_clock(gpu.bytes(usual, "read"), gpu.us(usual, "read"), gpu.clocks_per_us(), num_sms);
  const double alone = gpu.us("B1 kv8192 32/8", "D2") / 256, measured = alone * gpu.clocks_per_us();
  n.step("One request of 8192 keys has 8 blocks on %d SMs, no two of which share anything. D2 takes %.0f us for it. A block "
         "takes 32 tokens in a pass of its loop, so 256 passes: %.2f us each, %.0f clocks. A pass is a chain: fetch the "
         "page id, then fetch K and V from where it says, then compute.",
         num_sms, gpu.us("B1 kv8192 32/8", "D2"), alone, measured);
  n.step("Little's law: bytes in flight = rate * the time from asking for a byte until its place is free for the next. To "
         "get the read kernel's %.1f bytes a clock to each SM, so much must be under way at all times, in each SM and in "
         "the whole GPU. The first four times are assumed; the last is D2's pass of step 8:", rate);
  std::vector<std::string> header{"clocks from asking to done"}, sm{"KiB in each SM"}, all{"MiB in the GPU"};
  for (const double clocks : {500.0, 1000.0, 2000.0, 4000.0, measured}) {
    header.push_back(text("%.0f", clocks)), sm.push_back(text("%.0f", rate * clocks / 1024));
    all.push_back(text("%.1f", rate * clocks * num_sms / 1048576));
  }
  n.table(header, {sm, all});
  const int block = block_warps * warp_lanes * in_flight * 2 * 16;
  const double blocks_in_sm = 32.0 * 8 / num_sms, asked = blocks_in_sm * block / 1024;
  n.step("D2's lanes ask for %d tokens' K and V before they use the first: %d * 2 * 16 bytes * 32 lanes * 4 warps = %d "
         "KiB a block, at most %d blocks in an SM. %s has %d blocks, %.1f an SM, so %.0f KiB are asked for in an SM, %.1f "
         "MiB in the GPU. That is too little for a pass of %.0f clocks.",
         in_flight, in_flight, block / 1024, resident, usual.c_str(), 32 * 8, blocks_in_sm, asked,
         32.0 * 8 * block / 1048576, measured);
  const double us = 32.0 * 8 * block * gpu.us(usual, "D2") / gpu.bytes(usual, "D2");
  n.step("The law backwards: %s takes %.0f us, so a pass takes %.2f us there. Only %.2f us more than for the request that "
         "had the memory for itself: most of a pass is not spent in a queue. While a block computes, it asks for nothing, "
         "and while it waits, it computes nothing. The next two rungs cut that chain (chapter 07).",
         usual.c_str(), gpu.us(usual, "D2"), us, us - alone);
  n.check_that("D2 asks for less than its pass needs", asked * 1024 < rate * measured);
}

void the_rung(Narrator& n, const Case& c) {
  n.section("The rung: D2, on a CPU");
  n.step("The loop of D2 with arrays of 32 for registers: %d requests, %d query heads on %d KV heads, fp16, pages of %d, "
         "NaN in every unused slot. Lane groups and warps keep states of their own and merge once, at the end.",
         c.problem().batch(), c.spec.params.num_qo_heads, c.spec.params.num_kv_heads, c.spec.page_size);
  const planner::PlanInputs in{.kv_lens = c.spec.kv_lens, .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128,
                               .head_dim_vo = 128, .policy = planner::SplitPolicy::none};
  const ladder::RunResult lanes = run_lanes(c, planner::make_plan(in), {}), below = run_rung(ladder::rung("C4"), c);
  const ladder::Comparison worst = agree(c, lanes, &below, ladder::make_oracle(c));
  n.check_that("it equals C4 and the oracle: o and lse_log2", worst.ok(), text("%.2g of the tolerance", worst.ratio()));
  n.question("head_dim 256 takes 32 lanes a token. Which line of merge_groups() never runs then, and how many tokens does a "
             "warp have in flight?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{6, "Lanes", "Ask for 16 bytes at a time, many at once, and once for all heads that want them."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    const Measured gpu;
    const Case c = ladder::draw_case({.name = "lanes", .seed = 6, .qo_lens = {1, 1, 1}, .kv_lens = {77, 5, 0},
                              .params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
                                         .sm_scale = 0.0883883f},
                              .dtype = DType::f16});
    the_floor(n, gpu);
    one_load(n, c);
    who_holds_what(n, c);
    once_for_a_group(n, c, gpu);
    in_flight_bytes(n, gpu);
    the_rung(n, c);
  });
}
