// Chapter 12: FlashAttention-2's class (P4, P5). Bank conflicts of plain rows, counted from the kernels' own addresses;
// swizzled rows, one XOR away; copies under way while tensor cores compute, and what a barrier is for; edge tiles; what the
// registers hold. Ends with P5's items on the CPU.
#include <cmath>

#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/bank_counts.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

void banks(Narrator& n) {
  n.section("Banks, counted");
  n.step("How K and V come into the registers of a warp. P3 reads what a lane needs with ordinary loads: of K 4 bytes "
         "twice for each mma, of V, which lies the wrong way round, 2 bytes four times. ldmatrix brings right operands for "
         "two mma at once, and transposes V. One warp, 16 rows, a tile of 64 keys, head_dim 128: 128 mma. Instructions and "
         "cycles, counted from the kernels' own addresses:");
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const char* name, const Reads& k, const Reads& v) {
    rows.push_back({name, text("%d", k.instructions), text("%d", k.cycles), text("%d", v.instructions), text("%d", v.cycles),
                    text("%.4g", (k.cycles + v.cycles) / 128.0)});
  };
  add("P3: ordinary loads", p3_reads_k(), p3_reads_v());
  add("ldmatrix, plain rows", ldmatrix_reads(counted_keys, k_pair_row, plain),
      ldmatrix_reads(counted_keys, v_pair_row, plain));
  add("ldmatrix, a chunk of padding", ldmatrix_reads(counted_keys, k_pair_row, padded),
      ldmatrix_reads(counted_keys, v_pair_row, padded));
  const Reads k = ldmatrix_reads(counted_keys, k_pair_row, swizzled), v = ldmatrix_reads(counted_keys, v_pair_row, swizzled);
  add("P4: ldmatrix, swizzled", k, v);
  n.table({"", "K: loads", "cycles", "V: loads", "cycles", "cycles a mma"}, rows);
  n.say("A row of 256 bytes is two times all 32 banks, so the same chunk of every row lies in the same four banks. Eight "
        "lanes that want it of eight keys wait for each other: ldmatrix alone repairs the instructions and not the cycles. "
        "Four cycles are the least for an ldmatrix, 512 bytes at 128 a cycle. Padding does it too, for 16 bytes a row.");
  n.check_that("with the swizzle no ldmatrix takes more than four cycles",
               k.cycles == 4 * k.instructions && v.cycles == 4 * v.instructions);
  const int k_48 = ldmatrix_reads(48, k_pair_row, swizzled).cycles, v_48 = ldmatrix_reads(48, v_pair_row, swizzled).cycles;
  const int q = 4 * 2 * head_dim / 16;  // a warp's rows of it: two ldmatrix for 16 features
  const int p4 = 4 * (k.cycles + v.cycles) + 2 * counted_keys * row_bytes / 128;
  const int p5 = 4 * (k_48 + v_48 + q) + 2 * 48 * row_bytes / 128;
  n.step("Tensor cores do at most one such mma a clock of an SM (2048 multiply-adds; chapter 11). So cycles of shared "
         "memory a mma say how much of that a kernel can reach at all. With what the copies write, a CTA and a tile:");
  const auto line = [](const char* name, const char* tile, int mma, int cycles) {
    return std::vector<std::string>{name, tile, text("%d", mma), text("%d", cycles), text("%.2f", 1.0 * cycles / mma),
                                    text("%.0f", 100.0 * mma / cycles)};
  };
  n.table({"", "rows x keys", "mma", "cycles", "cycles a mma", "at most %"},
          {line("P4: a warp has 16 rows", "64 x 64", 4 * 128, p4), line("P5: a warp has 32 rows", "128 x 48", 4 * 192, p5)});
  n.say("P5 reads a fragment of K or V once for two mma. It must read q again for each tile: see the registers below.");
}

void one_xor(Narrator& n) {
  n.section("One XOR away");
  n.step("Chunk c of row r is stored at c ^ r %% 8. Along a row a lane goes two chunks a step, and 2, 4 and 6 are bits "
         "that no carry reaches: the address of step s is that of step 0, XOR 32 (s %% 4), plus 128 (s / 4). Rows that are "
         "a multiple of 8 below are swizzled alike, a constant away. So a lane computes one address a tile "
         "(swizzled_row.cuh). Lane 5, K, steps 0 to 7, in chunks of its row:");
  const NamedRow first = k_pair_row(5, 0, 0);
  std::vector<std::vector<std::string>> rows{{"wants chunk"}, {"stored at"}};
  std::vector<std::string> header{"step"};
  bool right = true;
  for (int step = 0; step < 8; ++step) {
    header.push_back(text("%d", step));
    rows[0].push_back(text("%d", k_pair_row(5, 0, step).chunk));
    rows[1].push_back(text("%d", swizzled(first.row, k_pair_row(5, 0, step).chunk) / chunk_bytes - first.row * chunks));
    for (int lane = 0; lane < warp_lanes; ++lane) {
      for (const auto& row_of : {k_pair_row, v_pair_row}) {
        const NamedRow start = row_of(lane, 0, 0), there = row_of(lane, 48, step);
        const int address = (swizzled(start.row, start.chunk) ^ step % 4 * 32) + step / 4 * 128 + 48 * row_bytes;
        right = right && address == swizzled(there.row, there.chunk);
      }
    }
  }
  n.table(header, rows);
  n.check_that("in all lanes that is where core/swizzle.hpp says the chunk lies", right);
}

void timeline(Narrator& n) {
  n.section("A timeline");
  const Ticks ticks;
  n.step("Toy ticks: Q K^T takes %d, the softmax %d, P V %d, and a copy %d from when it is asked for. P4 asks for K and V "
         "of a tile, waits for both, and computes. A digit where a tile is asked for, or worked on; dashes while it comes:",
         ticks.scores, ticks.softmax, ticks.values, ticks.copy);
  n.block(drawn(ticks, 3, false));
  n.step("P5 asks for V when K is there, and for the next K when the scores are there:");
  n.block(drawn(ticks, 4, true));
  n.say("V of a tile comes during Q K^T, K of the next during the softmax and P V. One buffer of each is enough, because "
        "each is empty just when its next copy may begin. Ticks a tile:");
  std::vector<std::vector<std::string>> rows{{"P4"}, {"P5"}};
  std::vector<std::string> header{"a copy takes"};
  bool hidden = true;
  for (const int copy : {2, 4, 6, 8, 10, 12, 16}) {
    Ticks t;
    t.copy = copy;
    header.push_back(text("%d", copy));
    rows[0].push_back(text("%d", ticks_a_tile(t, false))), rows[1].push_back(text("%d", ticks_a_tile(t, true)));
    hidden = hidden && ticks_a_tile(t, true) == std::max(copy, t.scores) + std::max(copy, t.softmax + t.values);
  }
  n.table(header, rows);
  n.check_that("P5: max(copy, Q K^T) + max(copy, softmax + P V)", hidden);
  n.say("Two CTAs share an SM in P4 and P5, so that one computes while the other waits. P5 does not depend on that.");
}

ladder::Case p5_case() {
  return ladder::draw_case({.name = "fa2", .seed = 12, .qo_lens = {90, 5, 0}, .kv_lens = {230, 3, 9},
                            .params = {.num_qo_heads = 2, .num_kv_heads = 1, .sm_scale = 0.125f, .mask = MaskMode::causal},
                            .dtype = DType::f16});
}
Plan plan_for(const ladder::Case& c, std::int32_t chunk = 0) {
  planner::PlanInputs in{.qo_lens = c.spec.qo_lens, .kv_lens = c.spec.kv_lens, .num_qo_heads = 2, .num_kv_heads = 1,
                         .mask = MaskMode::causal, .query_tile = 128, .policy = planner::SplitPolicy::none};
  if (chunk > 0) in.policy = planner::SplitPolicy::fixed, in.chunk_size = chunk;
  return planner::make_plan(in);
}
ladder::RunResult run_p5(const ladder::Case& c, const Plan& plan, Landing landing, Mistake mistake = Mistake::none) {
  return run_items(c, plan, [&](const AttentionProblem& problem, const WorkItem& item) {
    return p5_item(problem, item, 2, landing, mistake);
  });
}

void barriers(Narrator& n) {
  n.section("What the barriers are for");
  const ladder::Case c = p5_case();
  const Plan plan = plan_for(c);
  const ladder::RunResult right = run_p5(c, plan, Landing::late);
  n.step("A copy that was started may land at any time until it is waited for. The loop on the CPU, once with copies that "
         "land at once and once with copies that land when they are waited for. %d rows; how many of them come out wrong:",
         static_cast<int>(right.lse_log2.size()));
  const auto wrong = [&](Landing landing, Mistake mistake) {
    const ladder::RunResult got = run_p5(c, plan, landing, mistake);
    int rows = 0;
    for (std::size_t row = 0; row < got.lse_log2.size(); ++row) {
      bool same = got.lse_log2[row] == right.lse_log2[row] || std::abs(got.lse_log2[row] - right.lse_log2[row]) < 1e-3f;
      for (std::size_t d = row * 64; d < row * 64 + 64; ++d) same = same && std::abs(got.o[d] - right.o[d]) < 1e-3f;
      rows += !same;
    }
    return rows;
  };
  std::vector<std::vector<std::string>> table;
  int total = 0;
  const auto add = [&](const char* name, Mistake mistake) {
    const int at_once = wrong(Landing::at_once, mistake), late = wrong(Landing::late, mistake);
    table.push_back({name, text("%d", at_once), text("%d", late)});
    total += mistake == Mistake::none ? 100 * (at_once + late) : (at_once > 0) != (late > 0);
  };
  add("right", Mistake::none);
  add("the next K asked for before the second barrier", Mistake::k_before_the_barrier);
  add("V not waited for", Mistake::v_not_waited_for);
  add("the next V asked for before the first barrier", Mistake::v_before_the_barrier);
  n.table({"", "land at once", "land late"}, table);
  n.check_that("each mistake shows in one way only, and the right loop is right both ways", total == 3);
  n.say("So a test on one GPU, whose copies always take about as long, may pass. In lse_log2 the last two never show: it "
        "comes from K alone.");
}

void edges(Narrator& n) {
  n.section("Inner tiles, edge tiles, and those that a warp leaves out");
  std::int64_t inner = 0, edge = 0, out = 0;
  for (int item = 0; item < 8192; item += 32) {  // 128 packed rows of 4 heads: 32 queries; a warp has 8 of them
    for (int q = item; q < item + 32; q += 8) {
      const int all = (q + 1) / 48, some = (q + 7) / 48 + 1;
      inner += all, edge += some - all, out += div_up(item + 32, 48) - some;
    }
  }
  const double tiles = static_cast<double>(inner + edge + out);
  n.step("P5 asks about masks for each warp: 32 rows against 48 keys. A prompt of 8192 tokens, causal, groups of 4, a KV "
         "head: %lld pairs of a warp and a tile are inner (%.1f %%), %lld edge (%.1f %%), and in %lld (%.2f %%) the warp "
         "sees nothing: it only copies, for the others. (Barriers count all warps, so it comes to them all the same.)",
         static_cast<long long>(inner), 100 * inner / tiles, static_cast<long long>(edge), 100 * edge / tiles,
         static_cast<long long>(out), 100 * out / tiles);
}

void registers(Narrator& n) {
  n.section("What the registers hold");
  n.step("A thread of P5 has at most 255 registers, and two CTAs of 128 threads or one of 256 leave no more of an SM's "
         "65536. o and the scores are accumulators, a number a register; q would be operands, two numbers a register, and "
         "is kept where the sum is at most 192. For a thread:");
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const char* dims, int qk, int vo, int row_tiles, int keys) {
    const int o = row_tiles * vo / 2, s = row_tiles * keys / 2, q = row_tiles * qk / 4;
    rows.push_back({dims, text("%d", 16 * row_tiles), text("%d", keys), text("%d", o), text("%d", s), text("%d", q),
                    text("%d", o + s + q), o + s + q <= 192 ? "kept" : "read again"});
  };
  add("64, 64", 64, 64, 2, 64);
  add("128, 128", 128, 128, 2, 48);
  add("192, 128", 192, 128, 2, 48);
  add("256, 256", 256, 256, 1, 64);
  add("not so: 128, 128", 128, 128, 2, 64);
  n.table({"head_dim (qk, vo)", "rows of a warp", "keys", "o", "scores", "q", "sum", "q is"}, rows);
  n.say("Besides there are m and d, fragments on their way, and addresses. With head_dim 128 o alone is half of all: 64 "
        "keys would leave 255 - 128 - 64 = 63 for the rest, 48 leave 79. A tile must be a multiple of 16 keys, the K of P "
        "V.");
}

void measured(Narrator& n) {
  n.section("Measured");
  const Measured gpu({"h200-prefill.jsonl"});
  n.step("P5 and FlashInfer's FA2 kernel, which is of the same class, on one GPU in turn (%s; f16, pages of 16, the mean "
         "of all runs):", gpu.machine().c_str());
  std::vector<std::vector<std::string>> rows;
  for (const auto& [batch, tokens] : {std::pair{2, 8192}, {4, 2048}}) {
    const std::string work = text("B%d S%d 32/8 p16 causal", batch, tokens);
    const double flop = 4.0 * 128 * batch * 32 * tokens * (tokens + 1) / 2;
    const double ours = gpu.us(work, "fa2"), theirs = gpu.us(work, "FlashInfer fa2");
    rows.push_back({work, text("%.0f", ours), text("%.0f", flop / ours / 1e6), text("%.0f", theirs),
                    text("%.0f", flop / theirs / 1e6), text("%.2f", theirs / ours)});
  }
  n.table({"", "P5, us", "TFLOP/s", "FlashInfer, us", "TFLOP/s", "their time by ours"}, rows);
}

void the_rung(Narrator& n) {
  n.section("The rung: P5, on a CPU");
  n.step("128 rows, 48 keys a tile, 4 warps of 32 rows, swizzled tiles, ldmatrix, both ways in which copies land; whole "
         "tiles and tiles that are cut every 128 keys.");
  const ladder::Case c = p5_case();
  const ladder::RunResult below = run_rung(ladder::rung("C4"), c);
  const ladder::Oracle oracle = ladder::make_oracle(c, DType::f16);
  for (const int chunk : {0, 128}) {
    for (const Landing landing : {Landing::at_once, Landing::late}) {
      const ladder::Comparison worst = agree(c, run_p5(c, plan_for(c, chunk), landing), &below, oracle);
      n.check_that(text("%s, copies land %s: equals C4 and the oracle", chunk > 0 ? "cut" : "whole",
                        landing == Landing::late ? "late" : "at once"), worst.ok(),
                   worst.ok() ? text("%.2g", worst.ratio()) : worst.message());
    }
  }
  n.question("With two buffers of K and two of V, every copy could be asked for a tile earlier. What would that take, and "
             "what could it bring that the second CTA of an SM does not?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{12, "FlashAttention-2's class", "While tensor cores compute, the next tile is on its way."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    banks(n);
    one_xor(n);
    timeline(n);
    barriers(n);
    edges(n);
    registers(n);
    measured(n);
    the_rung(n);
  });
}
