// Chapter 19: latents. What a token costs in the cache; projections absorbed, on a layer small enough for a page; what that
// costs in arithmetic; when it turns from memory's to tensor cores' work; why 64 x 512 floats of o decide a kernel; who gets
// which latent rows.
#include "draw/bar_chart.hpp"
#include "draw/xy_chart.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/intensity.hpp"
#include "walkthroughs/latent_model.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

// DeepSeek-V2 and V3: features of a latent row, of its rotated part, and of a head's key and value before absorbing.
constexpr int ckv = 512, kpe = 64, head_nope = 128, head_value = 128, width = ckv + kpe, row_bytes = 2 * width, layers = 61;

struct CacheForm {
  const char* name;
  int floats;  // of one token
};
constexpr CacheForm forms[] = {{"MHA: 128 heads of 192 + 128", 128 * (head_nope + kpe + head_value)},
                               {"GQA: 8 KV heads of 128 + 128", 8 * 256},
                               {"MQA: one KV head of 128 + 128", 256},
                               {"MLA: one latent row of 512 + 64", width}};

void cache_bytes(Narrator& n, std::int32_t tokens) {
  n.section("What a token costs");
  n.step("Keys and values of one token in one layer, 16 bits a number, and of %d tokens in the %d layers of DeepSeek-V3:",
         tokens, layers);
  std::vector<std::vector<std::string>> rows;
  std::vector<draw::Bar> bars;
  for (const CacheForm& f : forms) {
    const double bytes = 2.0 * f.floats;
    rows.push_back({f.name, text("%.0f", bytes), text("%.2f", bytes * tokens * layers * 1e-9),
                    text("%.1f", bytes / (2.0 * width))});
    bars.push_back({f.name, {bytes}, text("%.1fx", bytes / (2.0 * width))});
  }
  n.table({"", "bytes", "GB", "times MLA"}, rows);
  n.figure("bytes", draw::bar_chart(bars, {.caption = {"Bytes of a token in the cache of one layer", "16 bits a number"},
                                           .unit = "B"}),
           "A latent row against keys and values.");
  n.say("A latent row is not a smaller head. From its 512 features a matrix of each head makes that head's 128 features of "
        "a key, and another one 128 of a value: 128 different keys and values from one row.");
}

void absorbing(Narrator& n, const LatentModel& m) {
  n.section("Absorbed");
  n.step("A layer small enough for a page: %d heads, latent rows of %d features and %d rotated ones, keys of %d + %d, "
         "values of %d. Scores q . k of the one query with the keys that the matrices make of the %d latent rows; and "
         "those of W^T q with the rows themselves:", m.heads, m.rank, m.pe, m.nope, m.pe, m.value, m.tokens);
  double most = 0;
  std::vector<std::vector<std::string>> rows;
  for (int h = 0; h < LatentModel::heads; ++h) {
    std::vector<double> key, latent;
    for (int t = 0; t < LatentModel::tokens; ++t) {
      key.push_back(m.with_key(h, t)), latent.push_back(m.with_latent(h, t));
      most = std::max(most, std::abs(key.back() - latent.back()));
    }
    rows.push_back({text("head %d, q . (W c)", h), row_text(key, "%7.4f")});
    rows.push_back({text("head %d, (W^T q) . c", h), row_text(latent, "%7.4f")});
  }
  n.table({"", "tokens 0 .. 4"}, rows);
  n.check("the scores are the same", most, 1e-5);
  const Values keys = m.by_keys(), latent = m.latent_attention(m.sm_scale()), absorbed = m.projected(latent);
  n.step("The weights are the same too, then, and a weighted sum of W c is W times the weighted sum of c. So attention sums "
         "latent rows, and each head's value matrix comes behind it, once a query and not once a key:");
  const auto of_head = [](const Values& o, int h, int dim) {
    return row_text(Values(o.begin() + h * dim, o.begin() + (h + 1) * dim), "%7.4f");
  };
  n.table({"", "head 0", "head 1"},
          {{"o by keys and values", of_head(keys, 0, m.value), of_head(keys, 1, m.value)},
           {"sum of latent rows", of_head(latent, 0, m.rank), of_head(latent, 1, m.rank)},
           {"o, of that sum", of_head(absorbed, 0, m.value), of_head(absorbed, 1, m.value)}});
  n.check("BatchMLAPagedAttention and a projection equal attention with keys and values", distance(absorbed, keys), 2e-6);
  const float wrong = 1 / std::sqrt(static_cast<float>(m.rank + m.pe));
  const Values flat = m.projected(m.latent_attention(wrong));
  n.step("The score is that of keys with %d + %d features, whatever the row's width, so its scale is 1 / sqrt(%d). With "
         "1 / sqrt(%d), after the row's %d features, o would be off by %.4f here. DeepSeek: 1 / sqrt(128 + 64), not "
         "1 / sqrt(512 + 64). No tensor that attention is given has 192 features, so nobody can guess it: sm_scale must be "
         "given.", m.nope, m.pe, m.nope + m.pe, m.rank + m.pe, m.rank + m.pe, distance(flat, keys));
  n.check_that("the wrong scale is off by more than rounding", distance(flat, keys) > 1e-3);
  prove_rung(n, "L3", draw_case(ladder::mla_case_table().front()), "on lengths 0, 1, 63, 64, 65 with 16 heads");
}

void arithmetic(Narrator& n) {
  n.section("What it costs");
  constexpr double absorbed = 2.0 * (width + ckv), plain = 2.0 * (head_nope + kpe + head_value);
  constexpr double up = 2.0 * ckv * (head_nope + head_value);
  n.step("FLOP of one head: a query and a latent row take %.0f, a query and a key with its value %.0f. But to make a key and "
         "its value takes %.0f, for each key once, however many queries of the step use it:", absorbed, plain, up);
  std::vector<std::vector<std::string>> rows;
  for (const int queries : {1, 4, 64, 171, 512, 4096}) {
    rows.push_back({text("%d", queries), text("%.0f", absorbed * queries), text("%.0f", plain * queries + up),
                    text("%.2f", (plain * queries + up) / (absorbed * queries))});
  }
  n.table({"queries on a key", "absorbed", "key and value made", "times absorbed"}, rows);
  const double even = up / (absorbed - plain);
  n.say("They are even at %.1f queries a key. So decode and drafts absorb, and prefill makes keys and values and runs "
        "attention of 192 and 128 features, which P5 and P11 have.", even);
  n.check_that("171 queries are enough for keys and values, 170 are not", even > 170 && even < 171);
}

double intensity(double heads) { return 2.0 * (width + ckv) * heads / (2.0 * width); }

void turning(Narrator& n, const Gpu& gpu) {
  n.section("Memory's work, or the tensor cores'");
  constexpr double measured_bytes = 4.3e12, measured_flop = 780e12;
  n.step("A latent row is %d bytes, read once for all heads, and each head does %d FLOP with it: %.2f FLOP a byte and head. "
         "In grouped attention it is 1 FLOP a byte for each head of the group, for a key and its value are both read; here "
         "they are the same bytes.", 2 * width, 2 * (width + ckv), intensity(1));
  std::vector<std::vector<std::string>> rows;
  for (const int heads : {1, 8, 16, 64, 96, 128}) {
    const double padded = (heads + 63) / 64 * 64;
    rows.push_back({text("%d", heads), text("%.1f", intensity(heads)), text("%.1f", intensity(padded)),
                    intensity(padded) < gpu.flop_per_byte() ? "memory" : "tensor cores"});
  }
  n.table({"heads", "FLOP a byte", "in tiles of 64 rows", "who decides"}, rows);
  n.say("A GPU of %.0f TFLOP/s and %.1f TB/s, by its data sheet, does %.0f FLOP in the time of a byte: %.0f heads. At the "
        "rates that were measured on one H200, %.0f TFLOP/s of a matrix product and %.1f TB/s of a copy, it is %.0f: %.0f "
        "heads. With 128 heads on one GPU tensor cores decide; where tensor parallelism leaves 16 of them, memory does.",
        gpu.flop_per_s * 1e-12, gpu.bytes_per_s * 1e-12, gpu.flop_per_byte(), gpu.flop_per_byte() / intensity(1),
        measured_flop * 1e-12, measured_bytes * 1e-12, measured_flop / measured_bytes,
        measured_flop / measured_bytes / intensity(1));
  std::vector<draw::XyPoint> points;
  for (const int heads : {1, 2, 4, 8, 16, 32, 64, 96, 128}) {
    const double rate = std::min(measured_flop, intensity(heads) * measured_bytes) * 1e-12;
    points.push_back({double(heads), rate, text("%d heads: %.0f TFLOP/s", heads, rate)});
  }
  n.figure("roofline",
           draw::xy_chart(std::vector<draw::XySeries>{{.name = "at most", .points = points, .joined = true}},
                          {.caption = {"What latent decode can reach", "of 780 TFLOP/s and 4.3 TB/s"},
                           .x = {.title = "heads on one GPU", .logarithmic = true, .ticks = {1, 2, 4, 8, 16, 32, 64, 128}},
                           .y = {.title = "TFLOP/s", .logarithmic = true},
                           .roofs = {{"tensor cores", {{1, 780}, {128, 780}}}}}),
           "Memory's slope up to about 96 heads, then the tensor cores' roof.");
  n.check_that("the measured rates meet between 95 and 97 heads",
               std::abs(measured_flop / measured_bytes / intensity(1) - 96) < 1);
  n.say("A tile of 64 rows for 16 heads is padded: tensor cores do four times what is needed, %.0f FLOP a byte in the place "
        "of %.0f, and still less than %.0f. So 16 heads may take the same kernel as 64.", intensity(64), intensity(16),
        measured_flop / measured_bytes);
}

void design(Narrator& n, const Gpu& gpu) {
  n.section("64 x 512 floats of o");
  constexpr double o = 64.0 * ckv * 4, row = width * 2.0;
  n.step("A tensor core of Hopper multiplies 64 rows at a time, so a tile has 64: o alone, in float, is 64 x 512 x 4 = %.0f "
         "bytes of the %.0f bytes of registers that an SM has, a half. A warp group of 128 threads with 255 registers each, "
         "the most that a thread may have, holds %d: less than one o.", o, gpu.registers, 128 * 255 * 4);
  n.table({"who holds o", "registers a thread, of o alone", "of 255"},
          {{"one warp group", text("%.0f", o / 4 / 128), "too many"},
           {"two warp groups, 256 of its columns each", text("%.0f", o / 4 / 256), "room for S, P and the rest"},
           {"two warp groups, a tile each (as in attention)", text("%.0f", o / 4 / 128), "too many"}});
  n.say("So two warp groups share one tile: each sums 256 of the 512 features of o. Then P has to come to both, because S "
        "= Q K^T is needed by all of o: one group computes it, or each a half, and it goes through shared memory. And there "
        "is no second o whose products could run during this one's exponents: what is left for the tensor cores then is the "
        "other group's half, of the tile before.");
  n.step("Shared memory, 16 bits: the tile's q, 64 x 576, and blocks of 64 latent rows, each %.0f KiB; a block is K and V. "
         "Of %.0f KiB that a CTA may have:", 64 * row / 1024, gpu.shared / 1024 - 1);
  std::vector<std::vector<std::string>> rows;
  std::vector<draw::Bar> bars;
  for (const auto& [name, v_apart, blocks] : {std::tuple{"q and one block", false, 1}, {"q and two blocks", false, 2},
                                              {"q and one block, V apart", true, 1}, {"q and two blocks, V apart", true, 2}}) {
    const double block = 64 * row * blocks, value = v_apart ? 64.0 * ckv * 2 * blocks : 0, all = 64 * row + block + value;
    rows.push_back({name, text("%.0f", all / 1024), all <= 227 * 1024 ? "fits" : "too much"});
    bars.push_back({name, {64 * row, block, value}});
  }
  n.table({"", "KiB", ""}, rows);
  n.figure("shared",
           draw::bar_chart(bars, {.caption = {"Shared memory of a tile of 64 rows", "227 KiB are there"}, .unit = "B",
                                  .part_names = {"q", "latent rows", "V, were it another tensor"}}),
           "Only because a latent row is key and value do two blocks fit.");
  n.check_that("two blocks fit, and would not with V apart",
               64 * row * 3 <= 227 * 1024 && 64 * row * 3 + 2 * 64.0 * ckv * 2 > 227 * 1024);
}

void cuts(Narrator& n) {
  n.section("Who gets which rows");
  n.step("There is one KV head. A decode of B requests has B tiles for each 64 heads, and the planner cuts them into "
         "ranges of latent rows for the CTAs of 132 SMs, policy balanced (chapter 05). A partial is 64 rows of 513 floats:");
  std::vector<std::vector<std::string>> rows;
  struct Batch {
    const char* name;
    std::int32_t requests, keys, heads;
  };
  for (const Batch& b : {Batch{"B1 kv8192 h128", 1, 8192, 128}, {"B16 kv8192 h128", 16, 8192, 128},
                         {"B128 kv4096 h16", 128, 4096, 16}, {"B128 kv4096 h128", 128, 4096, 128}}) {
    const std::vector<std::int32_t> kv_lens(static_cast<std::size_t>(b.requests), b.keys);
    const Plan plan = planner::make_plan({.kv_lens = kv_lens, .num_qo_heads = b.heads, .num_kv_heads = 1,
                                          .head_dim_qk = width, .head_dim_vo = ckv, .page_size = 64,
                                          .query_tile = std::min(64, b.heads), .machine = {132, 1}});
    const double latents = 1.0 * b.requests * b.keys * row_bytes, partials = 2.0 * static_cast<double>(plan.workspace_bytes());
    rows.push_back({b.name, text("%d", b.requests * ((b.heads + 63) / 64)), text("%td", plan.num_work()),
                    text("%.1f", latents * 1e-6), text("%.1f", partials * 1e-6)});
  }
  n.table({"", "tiles", "items", "latent rows, MB", "partials, MB"}, rows);
  n.say("With 128 heads both tiles of a request read the same latent rows; where their items run at the same time, the "
        "second one finds them in the L2.");
}

ladder::CaseSpec fp8_case() {
  for (const ladder::CaseSpec& spec : ladder::mla_case_table()) {
    if (spec.cache_dtype() == DType::f8_e4m3) return spec;
  }
  return {};
}

float largest(const Values& values) {
  float most = 0;
  for (const float x : values) most = std::max(most, std::abs(x));
  return most;
}

void eight_bits(Narrator& n, const LatentModel& m) {
  n.section("In 8 bits");
  constexpr float most = 448;  // of E4M3
  const float of_c = largest(m.c), of_pe = largest(m.k_pe);
  n.step("A latent row in E4M3 is %d bytes in the place of %d. A stored number stands for itself times a scale: %.4f / 448 "
         "for this layer's c, %.4f / 448 for its rotated part. How far is o off, of %.2f at most, with one scale for both, "
         "the larger one, and with a scale for each? And if the rotated part were larger, and its queries as much smaller?",
         width, row_bytes, of_c, of_pe, largest(m.latent_attention(m.sm_scale())));
  const Values exact = m.latent_attention(m.sm_scale());
  std::vector<std::vector<std::string>> rows;
  double apart = 0, together = 0;
  for (const float larger : {1.0f, 256.0f, 4096.0f, 65536.0f}) {
    const float c_scale = of_c / most, pe_scale = of_pe * larger / most, both = std::max(c_scale, pe_scale);
    together = distance(m.in_8_bits({.k = both, .kpe = both, .v = both}, larger), exact);
    apart = distance(m.in_8_bits({.k = c_scale, .kpe = pe_scale, .v = c_scale}, larger), exact);
    rows.push_back({text("%.0f", larger), text("%.3f", together), text("%.3f", apart)});
  }
  n.table({"rotated part, times as large", "one scale", "a scale for each"}, rows);
  n.check_that("parts that are 65536 apart want scales of their own", together > 2 * apart);
  n.say("E4M3 is a floating-point format: a number has its 3 bits of fraction from 448 down to 2^-6, a range of 28672, and so "
        "the scale hardly matters until the parts are as far apart as that. Then the smaller one falls below what the format "
        "has. Scales cost next to nothing: that of c as a value multiplies o once; of those of the logits one is a factor of "
        "sm_scale, and the ratio of the two multiplies c's part of a score.");
  prove_rung(n, "L3", draw_case(fp8_case()), "on a cache of E4M3 with a scale");
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 19;
  std::int32_t tokens = 8192;
  const Chapter chapter{.number = 19, .title = "Latents",
                        .idea = "One row of 576 features is key and value of all heads, and projections go to the query."};
  return walk(argc, argv, chapter, [&](Narrator& n) {
    const LatentModel model(seed);
    cache_bytes(n, tokens);
    absorbing(n, model);
    arithmetic(n);
    turning(n, Gpu{});
    design(n, Gpu{});
    cuts(n);
    eight_bits(n, model);
    n.question("RoPE rotates a key by its position. Why can the rotated features not come out of the latent row, and be "
               "absorbed as the others are?");
  }, {
    {"--seed", "of the small layer", &seed},
    {"--tokens", "in the cache, for the first table", &tokens, 1, 1 << 24},
  });
}
