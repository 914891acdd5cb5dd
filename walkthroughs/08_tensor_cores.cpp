// Chapter 08: tensor cores (D5). What a head costs without them; tokens as rows, heads as columns; which lane holds what;
// from accumulator to operand; shared memory without bank conflicts; sums that are cut off. Ends with D5's loop on the CPU.
#include <bit>
#include <cmath>
#include <set>

#include "draw/tile_pictures.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/tensor_core.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

void the_bill(Narrator& n, const Measured& gpu) {
  n.section("What a head costs");
  n.step("32 requests of 2048 keys. 32/8 and 64/8 read the same bytes, for 4 query heads a KV head or 8; 32/32 reads four "
         "times as many, for one. D4 pays for each query head, D5 does not:");
  gpu.table(n, {"B32 kv2048 32/8", "B32 kv2048 64/8", "B32 kv2048 32/32"}, {"read", "D4", "D5"});
  n.step("A tensor core multiplies tiles. mma.m16n8k16 is one instruction of a warp: C += A B, with A of M x K = 16 x 16, B "
         "of K x N = 16 x 8, C of M x N = 16 x 8. That is %d multiply-adds, where an ordinary instruction does 32, one a "
         "lane. A and B are 16 bit, C is f32.", 16 * 8 * 16);
}

void swapped(Narrator& n) {
  n.section("Tokens are M, heads are N");
  n.step("A tile of scores is queries times keys. Decode has one query for each head: as many rows as heads in the "
         "group. Prefill puts queries on M, 16 rows. Here the smaller side, N = 8, is for the heads, and M for tokens, "
         "of which there are plenty: S^T = K Q^T, O^T = V^T P^T. Instructions for the scores of 16 tokens (head_dim "
         "128), and how much of their work is used:");
  std::vector<std::vector<std::string>> rows;
  for (const int group : {1, 3, 4, 7, 8, 16}) {
    const int usual = (group + 15) / 16 * 2 * 8, ours = (group + 7) / 8 * 8;
    const double work = group * 16.0 * 128;
    rows.push_back({text("%d", group), text("%d", usual), text("%.0f", 100 * work / (usual * 2048)), text("%d", ours),
                    text("%.0f", 100 * work / (ours * 2048))});
  }
  n.table({"heads in the group", "heads as M", "used %", "heads as N", "used %"}, rows);
  n.say("Groups of 3 or 7 are padded to 8 with zeros, which cost nothing: the instructions are the same from 1 head to 8.");
}

void who_holds_what(Narrator& n) {
  n.section("Who holds what");
  n.step("The operands of an mma are spread over the lanes in a fixed way (core/fragment_map.hpp). Every map is made of "
         "8 x 8 blocks in which lane l holds two neighbours of row l / 4. Of S^T, 16 tokens x 8 heads, the accumulator C:");
  std::vector<std::vector<std::string>> rows;
  for (const int lane : {0, 1, 4, 31}) {
    std::string holds;
    for (int i = 0; i < mma_c_elements; ++i) {
      const FragmentElement e = mma_c_element(lane, i);
      holds += text("%s(%d, %d)", i > 0 ? " " : "", e.row, e.col);
    }
    rows.push_back({text("%d", lane), holds, text("%d and %d", lane % 4 * 2, lane % 4 * 2 + 1)});
  }
  n.table({"lane", "its (token, head)", "heads"}, rows);
  const auto map = [](FragmentMap of) { return [of](std::int32_t lane, std::int32_t i) { return of(lane, i); }; };
  n.figure("c", draw::fragment_picture(16, 8, 32, 4, map(mma_c_element), {"S^T and O^T: the accumulator",
           "16 tokens (or features) x 8 heads"}), "The accumulator");
  n.figure("a", draw::fragment_picture(16, 16, 32, 8, map(mma_a_element), {"K: the left operand",
           "16 tokens x 16 features"}),
           "The left operand");
  n.figure("b", draw::fragment_picture(16, 8, 32, 4, map(mma_b_element), {"Q^T and P^T: the right operand",
           "16 features (or tokens) x 8 heads, held by columns"}), "The right operand");
  bool same_heads = true;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) same_heads = same_heads && mma_c_element(lane, i).col == lane % 4 * 2 + i % 2;
  }
  n.say("Every lane has two heads, in S^T and in O^T the same two. So the maximum of a head, found in S^T by three shuffles "
        "(lanes with the same l %% 4), is already where O^T needs it for its rescale.");
  n.check_that("in both accumulators a lane's columns are the same two heads", same_heads);
}

void turn(Narrator& n) {
  n.section("From accumulator to operand");
  n.step("P^T comes out of the softmax as an accumulator and goes into the next mma as right operand, 16 tokens x 8 "
         "heads both times, but held differently: an accumulator by rows, a right operand by columns. movmatrix "
         "transposes an 8 x 8 block among the lanes. Lane 5, tokens 0 to 7:");
  const auto named = [](int row, int col) { return static_cast<float>(10 * row + col); };  // token, head
  const Fragment<4> c = fragment<4>(mma_c_element, named), b = fragment<4>(mma_b_element, named);
  const auto upper = each_lane([&](int lane) { return std::array{c[lane][0], c[lane][1]}; });
  const Fragment<2> moved = movmatrix(upper);
  const auto cell = [](float x) { return text("(%d, %d)", static_cast<int>(x) / 10, static_cast<int>(x) % 10); };
  n.table({"lane 5 holds", "(token, head)", ""},
          {{"as accumulator", cell(upper[5][0]), cell(upper[5][1])},
           {"after movmatrix", cell(moved[5][0]), cell(moved[5][1])},
           {"as operand", cell(b[5][0]), cell(b[5][1])}});
  bool same = true;
  for (int lane = 0; lane < 32; ++lane) same = same && moved[lane][0] == b[lane][0] && moved[lane][1] == b[lane][1];
  n.check_that("after movmatrix every lane holds what the operand wants", same);
}

// The cycles that D5's accesses to one tile take, against the fewest possible: swizzled as they are, and not.
struct Cycles {
  int swizzled = 0, plain = 0, least = 0;
  void add(const std::vector<NamedRow>& rows, const SharedTile& tile) {  // of 8 lanes: one phase
    std::array<std::int32_t, lanes_per_phase> with{}, without{};
    for (int l = 0; l < lanes_per_phase; ++l) {
      const auto [token, chunk] = rows[l];
      with[l] = tile.offset(token, chunk), without[l] = (token * tile.chunks + chunk) * chunk_bytes;
    }
    swizzled += bank_conflict_ways(with), plain += bank_conflict_ways(without), ++least;
  }
};

void banks(Narrator& n) {
  n.section("Shared memory without conflicts");
  n.step("Tokens lie in shared memory as rows. ldmatrix reads 8 x 8 blocks: 16 bytes of each of 8 tokens at a time. If "
         "these 8 lie in the same banks they come one after the other. So the 16-byte chunk c of token t is put at c ^ t "
         "%% 8. Cycles for a tile of 16 tokens, counted from D5's own addresses:");
  std::vector<std::vector<std::string>> rows;
  bool none = true;
  for (const int dim : {64, 128, 256}) {
    Cycles k, v, copies;
    const SharedTile tile(dim);
    for (int step = 0; step < dim / 16; ++step) {
      for (int block = 0; block < 4; ++block) {
        std::vector<NamedRow> k_rows, v_rows;
        for (int l = 8 * block; l < 8 * block + 8; ++l) k_rows.push_back(k_row(l, step)), v_rows.push_back(v_row(l, step));
        k.add(k_rows, tile), v.add(v_rows, tile);
      }
    }
    for (int first = 0; first < 16 * tile.chunks; first += 8) {  // a phase of cp.async: neighbouring chunks, 8 lanes
      std::vector<NamedRow> written;
      for (int at = first; at < first + 8; ++at) written.push_back({at / tile.chunks, at % tile.chunks});
      copies.add(written, tile);
    }
    const auto both = [](const Cycles& c) { return text("%d / %d / %d", c.plain, c.swizzled, c.least); };
    rows.push_back({text("%d", dim), both(k), both(v), both(copies)});
    none = none && k.swizzled == k.least && v.swizzled == v.least && copies.swizzled == copies.least;
  }
  n.table({"head_dim", "K: plain / swizzled / least", "V, transposed", "copies that write"}, rows);
  const auto at = [](bool swizzled) {
    return [swizzled](std::int32_t row, std::int32_t chunk) {
      return swizzled ? SharedTile(128).offset(row, chunk) : (row * 16 + chunk) * chunk_bytes;
    };
  };
  n.figure("banks", draw::bank_picture(16, 16, 2, at(false), at(true), {"A tile of K, head_dim 128", ""}),
           "Bank groups of a tile, before and after the swizzle");
  n.check_that("with the swizzle no access waits for another", none);
}

// Addition that keeps so many digits: of what does not fit, cut off or rounded.
double three_digits(double x, bool rounded) {  // decimal, 10 <= x < 1000
  const double unit = x < 100 ? 0.1 : 1, digits = x / unit + 1e-9;
  return (rounded ? std::floor(digits + 0.5) : std::floor(digits)) * unit;
}
float cut_off(double x) {  // 24 binary ones, f32's; in double the sum is exact here
  const float nearest = static_cast<float>(x);
  return std::abs(static_cast<double>(nearest)) > std::abs(x) ? std::nextafter(nearest, 0.0f) : nearest;
}

void three_digit_sums(Narrator& n) {
  n.section("Several sums");
  n.step("A sum in f32 has 24 binary digits; what does not fit is rounded. Tensor cores cut it off. With three decimal "
         "digits one sees the difference. Eight terms, summed one after the other:");
  const std::array terms{17.3, 16.8, 17.6, 17.1, 16.9, 17.4, 17.2, 16.7};
  const auto shown = [](double x) { return text(x < 100 ? "%.1f" : "%.0f", x); };
  std::vector<std::vector<std::string>> rows{{"term"}, {"exact sum"}, {"one chain, rounded"}, {"one chain, cut off"}};
  double exact = 0, rounded = 0, one = 0;
  std::array<double, 4> four{};
  for (std::size_t i = 0; i < terms.size(); ++i) {
    exact += terms[i];
    rounded = three_digits(rounded + terms[i], true), one = three_digits(one + terms[i], false);
    four[i % 4] = three_digits(four[i % 4] + terms[i], false);
    const std::array cells{text("%.1f", terms[i]), text("%.1f", exact), shown(rounded), shown(one)};
    for (std::size_t r = 0; r < cells.size(); ++r) rows[r].push_back(cells[r]);
  }
  n.table({"", "1", "2", "3", "4", "5", "6", "7", "8"}, rows);
  const double left = three_digits(four[0] + four[1], false), right = three_digits(four[2] + four[3], false);
  const double joined = three_digits(left + right, false);
  n.say("Above 100 the third digit is the ones, and each addition loses a few tenths. Rounding loses up to half a one "
        "upwards or downwards, and much of that cancels. Cutting off always loses downwards, so that the errors add up. "
        "Four chains take every fourth term: %s, %s, %s, %s. These sums are small and lost nothing; joined, (%s + %s) + (%s "
        "+ %s) = %s.", shown(four[0]).c_str(), shown(four[1]).c_str(), shown(four[2]).c_str(), shown(four[3]).c_str(),
        shown(four[0]).c_str(), shown(four[1]).c_str(), shown(four[2]).c_str(), shown(four[3]).c_str(),
        shown(joined).c_str());
  n.check_that("one chain that is cut off is the farthest off",
               std::abs(one - exact) > std::abs(rounded - exact) && std::abs(one - exact) > std::abs(joined - exact));
}

void f32_sums(Narrator& n) {
  ladder::Random random(8);
  std::array<double, 3> drift{};
  double unit = 0;
  for (int row = 0; row < 1000; ++row) {
    double exact = 0;
    std::array<float, 4> four{};
    float one = 0, rounded = 0;
    for (int step = 0; step < 16; ++step) {
      double part = 0;
      for (int i = 0; i < 16; ++i) part += 390 * (1 + 0.1 * random.normal());
      exact += part;
      one = cut_off(one + part), rounded = static_cast<float>(rounded + part);
      four[step % 4] = cut_off(four[step % 4] + part);
    }
    const float joined = (four[0] + four[1]) + (four[2] + four[3]);
    unit = std::ldexp(1.0, std::ilogb(exact) - 23);
    drift[0] += (rounded - exact) / unit / 1000, drift[1] += (one - exact) / unit / 1000;
    drift[2] += (joined - exact) / unit / 1000;
  }
  n.step("The same in f32. A dot product of 256 features is a chain of 16 mma, each of which adds 16 products to what is "
         "there. 1000 logits near 1e5, all products positive, so that a unit of the last digit is 1 / %.0f. The mean error, "
         "in such units, if each mma cuts its sum off once (what the hardware does within one is not written down):",
         1 / unit);
  n.table({"one chain, rounded", "one chain, cut off", "four chains, cut off, joined"},
          {{text("%.1f", std::abs(drift[0])), text("%.1f", drift[1]), text("%.1f", drift[2])}});
  n.say("D5 keeps four chains. They cost registers, which it has, and an mma does not have to wait for the one before it.");
  n.check_that("four chains drift less than half as far", std::abs(drift[2]) < std::abs(drift[1]) / 2);
}

void issue_slots(Narrator& n) {
  n.section("Issue slots");
  const int steps = 128 / 16, softmax = 2 * (2 + 2 * 3 + 3 * 2 + 3), tile = 16;
  const int tensor = 4 * steps, rest = 12 + 4 + softmax + 4 * steps + 4;
  n.step("A tile of 16 tokens, head_dim 128, up to 8 heads: %d ldmatrix, %d mma, 12 additions that join the sums, 4 "
         "scalings, %d for the softmax (2 columns: maxima, 6 shuffle steps, 3 weights, d), %d to rescale o, 4 to round and "
         "turn P. That is %d warp instructions, %.1f a token (addresses not counted), where D2's loop (chapter 06) has 70.5 "
         "for 4 heads and 143 for 8. At the read kernel's rate there are 128 issue slots for a token.",
         2 * steps, 2 * steps, softmax, 4 * steps, tensor + rest, static_cast<double>(tensor + rest) / tile);
}

void the_rung(Narrator& n) {
  n.section("The rung: D5, on a CPU");
  n.step("D5's tile loop with these instructions, on plans that cut the keys every 64; P is rounded to fp16, and the "
         "oracle's tolerance knows it.");
  for (const int group : {1, 3, 8}) {
    const ladder::Case c = ladder::draw_case({.name = "swapped", .seed = 8, .qo_lens = {1, 1, 1}, .kv_lens = {150, 9, 0},
                                              .params = {.num_qo_heads = 2 * group, .num_kv_heads = 2, .head_dim_qk = 64,
                                                         .head_dim_vo = 64, .sm_scale = 0.125f}, .dtype = DType::f16});
    const Plan plan = planner::make_plan({.kv_lens = c.spec.kv_lens, .num_qo_heads = 2 * group, .num_kv_heads = 2,
                                          .policy = planner::SplitPolicy::fixed, .chunk_size = 64});
    const ladder::RunResult below = run_rung(ladder::rung("C4"), c);
    const ladder::Comparison worst = agree(c, run_items(c, plan, attend_on_tensor_cores), &below,
                                           ladder::make_oracle(c, DType::f16));
    n.check_that(text("a group of %d equals C4 and the oracle: o and lse_log2", group), worst.ok(),
                 text("%.2g", worst.ratio()));
  }
  n.question("D5 has two head tiles for a group of 16. Which of the counts above double, and which stay?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{8, "Tensor cores", "Tokens are rows, heads are columns: up to eight heads cost what one costs."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    const Measured gpu;
    the_bill(n, gpu);
    swapped(n);
    who_holds_what(n);
    turn(n);
    banks(n);
    three_digit_sums(n);
    f32_sums(n);
    issue_slots(n);
    the_rung(n);
  });
}
