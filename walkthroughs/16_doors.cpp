// Chapter 16: doors. Where a feature enters an attention kernel: a range of keys, a variant, the final writer, or a hook;
// why variants are a short list and no product; a tree's mask in words of 32 keys; RoPE inside decode, which is the hook, with
// its arithmetic on the CPU.
#include <map>

#include "core/tensor.hpp"
#include "gpu/attention/needs_general.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/rotated_tile.hpp"
#include "walkthroughs/tree_mask.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

constexpr float theta = 10000;

// As gpu/decode/instances.cuh chooses.
const char* variant_of(const AttentionParams& p) {
  if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) return "Rotated";
  if (gpu::needs_general(p)) return "General";
  return p.logits_soft_cap > 0 ? "SoftCapped" : "Scaled";
}

void list_and_product(Narrator& n) {
  n.section("A list, not a product");
  std::map<std::string, int> served;
  int all = 0;
  for (const MaskMode mask : {MaskMode::none, MaskMode::causal, MaskMode::custom}) {
    for (const std::int32_t window : {-1, 127}) {
      for (const float cap : {0.0f, 30.0f}) {
        for (const auto pos : {PosEncodingMode::NONE, PosEncodingMode::ALIBI, PosEncodingMode::ROPE_LLAMA}) {
          for (const bool sinks : {false, true}) {
            ++all;
            ++served[variant_of({.mask = mask, .window_left = window, .logits_soft_cap = cap, .pos_encoding_mode = pos,
                                 .sinks = sinks})];
          }
        }
      }
    }
  }
  n.step("A mask (none, causal, custom), a window or none, a soft cap or none, a position encoding (none, ALiBi, RoPE), "
         "sinks or none: %d ways to ask. A kernel compiled for each of them, for two dtypes and three head_dims, would be "
         "%d kernels. Decode has four variants:", all, all * 6);
  std::vector<std::vector<std::string>> rows;
  int sum = 0;
  for (const char* variant : {"Scaled", "SoftCapped", "General", "Rotated"}) {
    rows.push_back({variant, text("%d", served[variant])});
    sum += served[variant];
  }
  n.table({"variant", "of the ways"}, rows);
  n.check_that("every way has one variant", sum == all && served.size() == 4);
}

void windows(Narrator& n) {
  n.section("A window is a range");
  n.step("One request of 8192 keys, 8 KV heads. A window is no question that a kernel asks of each key: the planner leaves "
         "out the keys that no query sees, before anything runs.");
  std::vector<std::vector<std::string>> rows;
  const std::vector<std::int32_t> kv_lens{8192};
  std::int64_t whole = 0, least = 0;
  for (const std::int32_t window : {-1, 4095, 1023, 127}) {
    const planner::PlanInputs in{.kv_lens = kv_lens, .num_qo_heads = 32, .num_kv_heads = 8,
                                 .head_dim_qk = 128, .head_dim_vo = 128, .window_left = window};
    const Plan plan = planner::make_plan(in);
    std::int64_t keys = 0;
    std::int32_t first = 8192;
    for (const PlanPart& part : plan.parts) {
      for (const WorkItem& item : part.items) keys += item.keys.size(), first = std::min(first, item.keys.begin);
    }
    rows.push_back({window < 0 ? "none" : text("%d", window), text("%lld", static_cast<long long>(keys)),
                    text("%d", first)});
    if (window < 0) whole = keys;
    least = keys;
  }
  n.table({"window_left", "keys that a KV head reads", "first key"}, rows);
  n.check_that("a window of 127 reads 128 of 8192 keys", least * 64 == whole);
}

void masks_as_bits(Narrator& n) {
  n.section("Masks as bits");
  const TreeMask tree(46, {-1, 0, 0, 2, 2, 1});
  n.step("A tree of %d drafts behind %d keys, in the words that a kernel reads. Word 0 of each row, keys 0 to %d, is all "
         "ones. Word 1: %d keys before the drafts, the drafts, and bits that are nobody's:", tree.drafts(),
         tree.kv_len - tree.drafts(), keys_of_word - 1, tree.kv_len - tree.drafts() - keys_of_word);
  std::vector<std::vector<std::string>> rows;
  for (std::int32_t i = 0; i < tree.drafts(); ++i) {
    const std::int32_t parent = tree.parents[static_cast<std::size_t>(i)];
    rows.push_back({text("%d", i), parent < 0 ? "the prefix" : text("draft %d", parent), tree.row_text(i, keys_of_word)});
  }
  n.table({"draft", "continues", "word 1"}, rows);
  n.step("Who asks a byte for each query and key does not notice how few of them say no. Who looks at words does:");
  rows.clear();
  for (const auto& [drafts, kv_len] : {std::pair{4, 1024}, {64, 1024}, {64, 8192}}) {
    const TreeMask mask = TreeMask::binary(kv_len, drafts);
    rows.push_back({text("%d on %d", drafts, kv_len), text("%d", drafts * kv_len / 1024),
                    text("%.1f", static_cast<double>(mask.words.size()) * 4 / 1024),
                    text("%td of %td", mask.whole_words(), std::ssize(mask.words)),
                    text("%d of %d", mask.whole_tiles(128), div_up(kv_len, 128))});
  }
  n.table({"drafts on keys", "KiB of bytes", "of bits", "words of ones", "tiles of 128 keys that all see whole"}, rows);
  n.step("Where a request's first word is follows from the queries and the pairs of a query and a key before it, rounded "
         "down: (pairs + 31 queries) / 32.");
  rows.clear();
  std::int64_t queries = 0, pairs = 0;
  bool apart = true;
  for (const auto& [qo_len, kv_len] : {std::pair{3, 33}, {2, 64}, {5, 7}}) {
    const std::int64_t begin = mask_words(queries, pairs), own = std::int64_t{qo_len} * words_of_row(kv_len);
    queries += qo_len, pairs += std::int64_t{qo_len} * kv_len;
    const std::int64_t left = mask_words(queries, pairs) - begin - own;
    apart = apart && left >= 0;
    rows.push_back({text("%d", qo_len), text("%d", kv_len), text("%td", begin), text("%td", own), text("%td", left)});
  }
  n.table({"queries", "keys", "begins at word", "its words", "nobody's"}, rows);
  n.check_that("no request's words reach the next one's", apart);
}

void who_rotates_what(Narrator& n) {
  n.section("RoPE: between arrival and use");
  n.step("A tile of 16 keys has arrived in shared memory, head_dim 128. Feature k rotates with feature k + 64, so a lane "
         "takes chunk c (8 features, 16 bytes) of a token and chunk c + 8: 8 pairs. Which tokens a lane has:");
  std::vector<std::vector<std::string>> rows;
  using Place = RotatedPlace<16>;
  for (const int lane : {0, 1, 7, 8, 16, 31}) {
    std::string tokens;
    for (int u = 0; u < Place::steps; ++u) tokens += (u ? " " : "") + text("%d", Place::token(lane) + u * Place::at_once);
    rows.push_back({text("%d", lane), text("%d", Place::chunk(lane)), text("%d", Place::chunk(lane) + 8), tokens});
  }
  n.table({"lane", "chunk", "its partner", "tokens"}, rows);
  n.step("8 lanes are served at once, and take %d cycle if their chunks lie in 8 bank groups. With head_dim 64 four lanes "
         "make a half row, so that two tokens are served together. Tokens 0 and 1 would take %d cycles; 0 and 4 take %d.",
         conflict_ways<16>(Place::token), conflict_ways<8>([](int lane) { return lane / 4; }),
         conflict_ways<8>(RotatedPlace<8>::token));
  const int ways[] = {conflict_ways<8>(RotatedPlace<8>::token), conflict_ways<16>(Place::token),
                      conflict_ways<32>(RotatedPlace<32>::token)};
  n.check_that("no bank serves two lanes", std::ranges::max(ways) == 1);
}

// The smallest k with x <= 2^-k.
int bits(double x) { return static_cast<int>(std::floor(-std::log2(x))); }

void walking(Narrator& n) {
  n.section("Walking instead of asking");
  n.step("An angle is position times frequency. A sine and a cosine of it take some 40 instructions, and a lane would need "
         "32 of each for a tile. But its next token stands a fixed number of positions ahead: the rotation to it is a "
         "product with a constant, 4 instructions. Each product rounds. A warp that walks from tile to tile, 64 tokens "
         "each, without ever asking again:");
  const std::vector<std::uint64_t> turns = turn_table(128, theta);
  std::vector<std::vector<std::string>> rows;
  double after_64 = 0;
  WarpRotation<128> walk(turns, 64, 1 << 30);
  double worst = 0;
  for (int tile = 0; tile < 4096; ++tile) {
    walk.turn_to(5000 + 64 * tile);
    worst = std::max(worst, walk.off_by(5000 + 64 * tile));
    if (tile + 1 == rotation_exact_every) after_64 = worst;
    if (tile + 1 == 1 || tile + 1 == 64 || tile + 1 == 4096) {
      rows.push_back({text("%d", tile + 1), text("2^-%d", bits(worst))});
    }
  }
  n.table({"tiles", "off by at most"}, rows);
  n.say("Rounding a key to f16 is off by up to 2^-11 of it, to bf16 by 2^-8. The kernel asks again every %d tiles.",
        rotation_exact_every);
  n.check("64 tiles: off by less than the kernel's bound", after_64, 0x1p-15);
}

// How far logits of 16 keys are off by the hook, and four standard deviations of that (ladder/tolerance.hpp).
struct LogitsOff {
  double most, allowed;
};
template <class Element>
LogitsOff logits_off(std::int32_t first, DType dtype) {
  const std::vector<std::uint64_t> turns = turn_table(128, theta);
  ladder::Random random(16, 1);
  WarpRotation<128>::Tile keys;
  std::array<float, 128> q;
  for (float& x : q) x = static_cast<float>(Element(random.normal()));
  for (auto& key : keys) {
    for (float& x : key) x = static_cast<float>(Element(random.normal()));
  }
  const std::int32_t position = first + 1000;
  std::array<double, 16> exact{};
  for (int t = 0; t < 16; ++t) {
    for (int pair = 0; pair < 64; ++pair) {  // only the distance counts
      const auto r = rope_rotation<double>(position - first - t, pair, 128, 1, theta);
      const double x = q[pair], y = q[pair + 64], a = keys[t][pair], b = keys[t][pair + 64];
      exact[t] += (x * r.cos - y * r.sin) * a + (y * r.cos + x * r.sin) * b;
    }
  }
  WarpRotation<128> rotation(turns, 64);
  rotation.turn_to(first);
  rotation.rotate_keys<Element>(keys);
  for (int pair = 0; pair < 64; ++pair) gpu::rotation_by(position, turns[pair]).apply(q[pair], q[pair + 64]);
  for (float& x : q) x = static_cast<float>(Element(x));
  LogitsOff off{};
  for (int t = 0; t < 16; ++t) {
    double dot = 0, squares = 0;
    for (int d = 0; d < 128; ++d) dot += double{q[d]} * keys[t][d], squares += std::pow(double{q[d]} * keys[t][d], 2);
    off.most = std::max(off.most, std::abs(dot - exact[t]) / std::sqrt(128.0));
    off.allowed = std::max(off.allowed, 4 * unit_roundoff(dtype) * std::sqrt(2.0 / 3 * squares / 128));
  }
  return off;
}

void rounding(Narrator& n) {
  n.section("Rounded once more");
  const LogitsOff f16 = logits_off<Half>(100000, DType::f16), bf16 = logits_off<BFloat16>(100000, DType::bf16);
  n.step("Tensor cores multiply 16 bits, so rotated q and k are rounded. 16 keys of normal numbers at position 100000, a "
         "query 1000 further: with f16 a logit is off by at most %.0e, with bf16 by %.0e.", f16.most, bf16.most);
  n.say("A key that was rotated before it went into the cache has been rounded in the same way.");
  n.check("f16: four standard deviations of two roundings", f16.most, f16.allowed);
  n.check("bf16", bf16.most, bf16.allowed);
}

void what_it_costs(Narrator& n) {
  n.section("What a pair costs");
  const double load_store = 4.0 / 8, to_f32 = 2, rotate = 4, walk = 4, to_16 = 1, steps = 8.0 / 32;
  const double each = load_store + to_f32 + rotate + walk + to_16 + steps;
  n.step("Instructions of a lane for a pair: 16-byte loads and stores %.1f, to f32 %.0f, rotating %.0f, walking %.0f, to "
         "16 bits %.0f, the steps from shared memory %.2f. Together %.2f.",
         load_store, to_f32, rotate, walk, to_16, steps, each);
  const double pairs = 32.0 * 2048 * 8 * 64, of_sm = pairs / 132;
  const double bytes_a_clock = 4.8e12 / 132 / 1.75e9, bytes = of_sm * 8;  // of a pair of K, and two features of V
  n.say("A decode of 32 requests with 2048 keys, 8 KV heads and head_dim 128 rotates %.1f million pairs, %.0f thousand on "
        "each of 132 SMs. An SM issues 128 lane instructions a clock: that is %.0f thousand clocks. Its share of K and V "
        "takes no less than %.0f thousand (4.8 TB/s for 132 SMs at 1.75 GHz: %.1f bytes a clock).", pairs / 1e6, of_sm / 1e3,
        of_sm * each / 128 / 1e3, bytes / bytes_a_clock / 1e3, bytes_a_clock);
  n.check_that("a rotation takes less than a third of the time that the bytes take",
               of_sm * each / 128 < bytes / bytes_a_clock / 3);
  n.question("Why is V not rotated?");
}

}  // namespace

int main(int argc, char** argv) {
  return walk(argc, argv, {.number = 16, .title = "Doors", .idea = "A feature enters where it costs least."}, [](Narrator& n) {
    list_and_product(n);
    windows(n);
    masks_as_bits(n);
    who_rotates_what(n);
    walking(n);
    rounding(n);
    what_it_costs(n);
  });
}
