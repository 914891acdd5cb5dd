// Chapter 13: Hopper (P11). Pages as boxes of the copy engine; barriers that count bytes; what wgmma is told of an operand;
// warps that copy and warp groups that compute; a softmax whose reference is stale; heads in sections. Ends with P11's steps
// on a CPU.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "draw/tile_pictures.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/box_model.hpp"
#include "walkthroughs/group_timeline.hpp"
#include "walkthroughs/hopper_run.hpp"
#include "walkthroughs/mbarrier_model.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/stale_story.hpp"
#include "walkthroughs/wgmma_operand.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

constexpr std::int32_t heads = 8, dim = 128, page_size = 16, num_pages = 6;
constexpr std::int64_t entry_nhd = heads * dim;
const CacheShape nhd{{.page = page_size * entry_nhd, .entry = entry_nhd, .head = dim}, heads, dim};
const CacheShape hnd{{.page = page_size * entry_nhd, .entry = dim, .head = page_size * dim}, heads, dim};

std::string shown(const BoxPlace& p) {
  return text("{%td, %td, %td, %td, %td}", p[0], p[1], p[2], p[3], p[4]);
}

void page_as_box(Narrator& n) {
  n.section("A page as a box");
  const BoxMap map = pages_map(nhd, page_size, num_pages, page_size);
  n.step("A cache of %d pages of %d tokens, %d KV heads, head_dim %d, NHD, f16. The copy engine is told of it as a tensor "
         "of five dimensions, the innermost first: 64 features, 8 tokens, heads x features / 64, page_size / 8, pages:",
         num_pages, page_size, heads, dim);
  n.block("sizes           " + shown(map.dims) + "\nstrides, bytes  " + shown(map.strides) + "\na box           " +
          shown(map.box) + text("   %td bytes: a KV head's K of a page\n", map.box_bytes()));
  const KvSlot slot{3, 13};
  const BoxPlace at = place_on_pages(nhd, slot, 5, 100);
  const std::int64_t strides = (nhd.strides.offset(slot, 5) + 100) * 2;
  n.step("Feature 100 of head 5, token 13 of page 3, is element %s. By the map it lies at byte", shown(at).c_str());
  n.block(text("%td*2 + %td*%td + %td*%td + %td*%td + %td*%td = %td\n", at[0], at[1], map.strides[1], at[2], map.strides[2],
               at[3], map.strides[3], at[4], map.strides[4], map.address(at)));
  n.say("KvStrides, by which all other kernels find it, say (%td*%td + %d*%td + 5*%td + 100) * 2 = %td.", slot.page,
        nhd.strides.page, slot.entry, nhd.strides.entry, nhd.strides.head, strides);
  bool same = true;
  for (const CacheShape& c : {nhd, hnd}) {
    const BoxMap m = pages_map(c, page_size, num_pages, page_size);
    for (std::int32_t i = 0; i < num_pages * page_size * heads * dim; ++i) {
      const KvSlot s{i / dim / heads / page_size, i / dim / heads % page_size};
      const BoxPlace place = place_on_pages(c, s, i / dim % heads, i % dim);
      same = same && m.inside(place) && m.address(place) == (c.strides.offset(s, i / dim % heads) + i % dim) * 2;
    }
  }
  n.check_that("of every element the two agree, NHD and HND", same);
  std::vector<std::uint16_t> cache(num_pages * page_size * heads * dim, 7), shared(page_size * dim, 1);
  const std::int64_t counted = copy_box(map, cache, {0, 0, 0, 0, num_pages}, shared, 0);
  const bool zeros = std::ranges::all_of(shared, [](std::uint16_t x) { return x == 0; });
  n.step("Page %d does not exist, the last is %d. The engine does not fail: all of the box is out of range, and it writes "
         "zeros and counts them, %td bytes. So a tile whose last pages do not exist arrives like any other, and whoever "
         "waits for its bytes needs no case of its own.",
         num_pages, num_pages - 1, counted);
  n.check_that("a box past the end is zeros, and counts its bytes", zeros && counted == map.box_bytes());
}

void atoms(Narrator& n) {
  n.section("In shared memory: atoms");
  const BoxMap map = pages_map(nhd, page_size, num_pages, page_size);
  std::vector<std::uint16_t> cache(num_pages * page_size * heads * dim), shared(page_size * dim);
  for (std::int32_t i = 0; i < page_size * dim; ++i) {  // head 0 of page 0: token * 16 + chunk of 16 bytes
    cache[i / dim * entry_nhd + i % dim] = static_cast<std::uint16_t>(i / dim * 16 + i % dim / 8);
  }
  copy_box(map, cache, {0, 0, 0, 0, 0}, shared, 0);
  n.step("The box is written in the order of its dimensions: 64 features of a token make a row of 128 bytes, 8 tokens make "
         "an atom of 1024 bytes, and then comes the next atom: features 64 to 127 of the same tokens. A page of 16 tokens "
         "is four atoms. In each row the engine puts chunk c (16 bytes, 8 features) of token t at place c ^ t %% 8, which "
         "is the swizzle of chapter 08. A row a token, the chunk that lies at each place:");
  std::string lines;
  for (int atom = 0; atom < 4; ++atom) {
    lines += text("%sbyte %d  tokens %d to %d, features %d to %d\n", atom > 0 ? "\n" : "", atom * atom_bytes, atom / 2 * 8,
                  atom / 2 * 8 + 7, atom % 2 * 64, atom % 2 * 64 + 63);
    for (int row = 0; row < (atom == 0 ? 8 : 2); ++row) {
      lines += text("  token %2d ", shared[(atom * atom_bytes + row * 128) / 2] / 16);
      for (int place = 0; place < 8; ++place) {
        lines += text(" %2d", shared[(atom * atom_bytes + row * 128) / 2 + place * 8] % 16);
      }
      lines += "\n";
    }
    if (atom > 0) lines += "  ...\n";
  }
  n.block(lines);
  const auto plain = [](std::int32_t row, std::int32_t chunk) { return row * 128 + chunk * chunk_bytes; };
  const auto swizzled = [&](std::int32_t row, std::int32_t chunk) {
    return swizzled_offset(Swizzle::bytes_128, plain(row, chunk));
  };
  n.figure("atom", draw::bank_picture(8, 8, 2, plain, swizzled, {"An atom: 8 tokens x 64 features", ""}),
           "Bank groups of an atom, before and after the swizzle");
  std::vector<std::vector<std::string>> rows;
  for (const int size : {8, 16, 24, 32, 64, 128}) {
    const int box = common_rows(size, 128);
    rows.push_back({text("%d", size), text("%d", box), text("%d", 128 / box), text("%d", box * dim * 2)});
  }
  n.step("A box brings as many tokens as divide the page and the tile, a power of two. A tile of 128 tokens, head_dim %d:",
         dim);
  n.table({"page_size", "tokens of a box", "boxes for a tile", "bytes of a box"}, rows);
}

void ragged(Narrator& n) {
  n.section("A ragged cache: dimensions that overlap");
  constexpr std::int32_t rows = 45, tile = 16;
  const BoxMap map = rows_map({{.page = entry_nhd, .entry = 0, .head = dim}, heads, dim}, rows, tile);
  n.step("Without pages a request begins at any row, and so does a tile. The tensor for %d rows has the sizes %s, and "
         "dimensions 1, 3 and 4 all walk along rows: row = 8 c3 + c4 + c1. A box of %d rows from row 13 on begins at c3 = "
         "1, c4 = 5; its rows are", rows, shown(map.dims).c_str(), tile);
  std::string line;
  bool right = true;
  for (int i = 0; i < tile; ++i) {
    const BoxPlace at{0, i % 8, 0, 13 / 8 + i / 8, 13 % 8};
    const std::int64_t row = map.address(at) / map.strides[4];
    line += text("%s%td", i > 0 ? " " : "", row);
    right = right && map.inside(at) && row == 13 + i;
  }
  n.block(line + "\n");
  const std::int64_t last = map.address({0, 7, 0, map.dims[3] - 1, 7}) / map.strides[4];
  n.say("The last row that this tensor can name is %td, so the engine never reads past the cache. Boxes that would begin "
        "further back are taken 8 rows at a time, from a plain tensor of %d rows, whose end the engine knows.", last, rows);
  n.check_that("a box from row 13 on has rows 13 to 28, and no row lies past the end", right && last < rows);
}

void operands(Narrator& n) {
  n.section("What wgmma is told of an operand");
  constexpr int tokens = 128;
  constexpr std::uint32_t k = 32768, v = k + 2 * 32768;  // behind Q; two stages of K
  const auto described = [](const char* what, std::uint64_t operand) {
    const OperandFields f = fields(operand);
    return std::vector<std::string>{what, text("%016jx", static_cast<std::uintmax_t>(operand)), text("%d", f.address),
                                    text("%d", f.leading), text("%d", f.stride), text("%d", f.swizzle)};
  };
  n.step("wgmma reads K and V from shared memory. It is told of them in 64 bits, in units of 16 bytes: the address in bits "
         "0 to 13, the leading offset in 16 to 29, the stride offset in 32 to 45, the swizzle in 62 and 63 (1: 128 bytes). "
         "head_dim %d, K at byte %u and V at byte %u of the block's shared memory:", dim, k, v);
  n.table({"operand", "64 bits", "address", "leading", "stride", "swizzle"},
          {described("K, features 0 to 15", key_operand(k, dim, 0)),
           described("K, features 16 to 31", key_operand(k, dim, 1)),
           described("K, features 64 to 79", key_operand(k, dim, 4)),
           described("V, tokens 0 to 15", value_operand(v, dim, 0)),
           described("V, tokens 16 to 31", value_operand(v, dim, 1))});
  n.say("The stride leads from 8 tokens to the next 8: two atoms. The leading offset leads from 64 columns to the next 64: "
        "one atom. K needs none, since 16 features lie in one row of an atom.");
  // A tile as boxes bring it, each element its own number; then every element by the description.
  const CacheShape one{{.page = tokens * dim, .entry = dim, .head = dim}, 1, dim};
  std::vector<std::uint16_t> cache(tokens * dim), shared((v + 32768) / 2);
  std::iota(cache.begin(), cache.end(), std::uint16_t{0});
  for (const std::uint32_t to : {k, v}) copy_box(pages_map(one, tokens, 1, tokens), cache, {}, shared, to);
  bool right = true;
  for (int t = 0; t < tokens; ++t) {
    for (int f = 0; f < dim; ++f) {
      right = right && shared[key_byte(key_operand(k, dim, f / 16), f % 16, t) / 2] == t * dim + f &&
              shared[value_byte(value_operand(v, dim, t / 16), t % 16, f) / 2] == t * dim + f;
    }
  }
  n.check_that("each of the 16384 elements of K and of V is read where the boxes put it", right);
  const auto found = [&](int byte) { return text("token %2d feature %3d", shared[byte / 2] / dim, shared[byte / 2] % dim); };
  n.step("One wrong number, and no error: the hardware reads something else. K with a stride of 1024, as if one atom held "
         "all features of 8 tokens, and V with a leading offset of 2048:");
  std::vector<std::vector<std::string>> wrong;
  for (const auto& [t, f] : {std::pair{3, 5}, std::pair{8, 5}, std::pair{17, 5}, std::pair{24, 5}}) {
    const std::uint64_t operand = wgmma_operand(k, 0, 1024);
    wrong.push_back({"K, stride 1024", text("token %2d feature %3d", t, f), found(key_byte(operand, f, t))});
  }
  for (const auto& [t, f] : {std::pair{3, 5}, std::pair{3, 69}, std::pair{11, 69}}) {
    const std::uint64_t operand = wgmma_operand(v, 2048, 2048);
    wrong.push_back({"V, leading 2048", text("token %2d feature %3d", t, f), found(value_byte(operand, t, f))});
  }
  n.table({"", "wanted", "read"}, wrong);
}

// Heads that share what is read: the plan of two causal prefills of 8192 tokens, 32 query heads on 8 KV heads.
void sections(Narrator& n) {
  n.section("Sections of heads");
  constexpr std::int32_t q_heads = 32, ctas = 132;
  const std::vector<std::int32_t> lens{8192, 8192};
  const Plan plan = planner::make_plan({.qo_lens = lens, .kv_lens = lens, .num_qo_heads = q_heads, .num_kv_heads = heads,
                                        .head_dim_qk = dim, .head_dim_vo = dim, .mask = MaskMode::causal, .query_tile = 128,
                                        .pack = 1, .claimed = true, .policy = planner::SplitPolicy::none,
                                        .machine = {.num_sms = ctas, .ctas_per_sm = 1}});
  const PlanPart& part = plan.parts.front();
  const auto items = static_cast<std::int32_t>(part.items.size());
  // gpu/attention/sections.hpp: half of the L2 cache for K and V, but work enough for every CTA in the last section.
  const std::int64_t of_kv_head = (std::int64_t{1} + lens[0] + lens[1]) * dim * 2 * 2, most = 24 << 20;
  const std::int64_t kv_heads = std::max<std::int64_t>(most / of_kv_head, 1);
  const std::int64_t for_work = div_up(std::int64_t{7} * ctas, std::int64_t{items});
  const auto section = static_cast<std::int32_t>(kv_heads * q_heads / heads);
  n.step("Two causal prefills of 8192 tokens, %d query heads on %d KV heads. K and V of one KV head are %.0f MiB, of all "
         "%.0f MiB; P11 counts with an L2 cache of 50 MB. The plan has %d items (tiles of 128 rows) for each query head. In "
         "24 MiB there is room for %td KV heads, that is %td query heads: a section. To give each of %d CTAs 7 works, %td are "
         "enough: the last section need not be wider. How many bytes of K and V do the first %d works, one a CTA, read?", q_heads, heads,
         of_kv_head / 1048576.0, heads * of_kv_head / 1048576.0, items, kv_heads, kv_heads * q_heads / heads, ctas, for_work,
         ctas);
  std::vector<std::vector<std::string>> rows;
  std::vector<std::int64_t> worked_on;
  for (const std::int32_t width : {q_heads, section}) {
    const gpu::PackedHeader header{.num_work = items * q_heads, .copies = q_heads, .section = width,
                                   .narrow = q_heads / width - 1};
    std::set<std::pair<std::int32_t, std::int32_t>> at_once;  // (request, KV head) of the first works, one a CTA
    for (std::int32_t w = 0; w < ctas; ++w) {
      const gpu::PackedHeader::Place place = header.in_sections(w);
      at_once.insert({part.items[place.item].request, kv_head_of(place.copy, 1, q_heads / heads)});
    }
    worked_on.push_back(std::ssize(at_once) * lens[0] * dim * 2 * 2);
    const gpu::PackedHeader::Place next = header.in_sections(std::min(items * width, header.num_work - 1));
    rows.push_back({width == q_heads ? "item by item" : "in sections", text("%d", width), text("%d", q_heads / width),
                    width == q_heads ? "-" : text("item %d, head %d", next.item, next.copy),
                    text("%.0f", worked_on.back() / 1048576.0)});
  }
  n.table({"order of claims", "heads", "sections", "the second begins", "MiB of K and V"}, rows);
  n.check_that("the first 132 works of a section need a quarter of the bytes", worked_on[1] * 4 == worked_on[0]);
}

void the_rung(Narrator& n) {
  n.section("The rung: P11, on a CPU");
  n.step("Pages as boxes, products by the descriptions above, a stale reference, P in f16, tiles of 64 keys from the last "
         "to the first. One request has more queries than keys, so that its first rows see nothing; one is empty.");
  for (const auto& [size, layout] : {std::pair{16, KvLayout::NHD}, std::pair{24, KvLayout::HND}}) {
    const ladder::Case c = ladder::draw_case({.name = "boxes", .seed = 13, .qo_lens = {40, 9, 3, 1},
                                              .kv_lens = {150, 5, 0, 64},
                                              .params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 128,
                                                         .head_dim_vo = 128, .sm_scale = 0.088f, .mask = MaskMode::causal},
                                              .page_size = size, .dtype = DType::f16, .kv_layout = layout});
    const ladder::RunResult below = run_rung(ladder::rung("C4"), c);
    const ladder::Comparison worst = agree(c, run_hopper(c, 64), &below, ladder::make_oracle(c, DType::f16));
    n.check_that(text("pages of %d, %s: o and lse_log2 equal C4's and the oracle's", size, name_of(layout)), worst.ok(),
                 text("%.2g of the tolerance", worst.ratio()));
  }
  n.question("The last page of a request holds NaN behind its last token. Which line of consume() keeps it out of O, and "
             "why is the mask alone not enough?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{13, "Hopper", "Others bring the bytes, others multiply: a warp only says what comes next."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    page_as_box(n);
    atoms(n);
    ragged(n);
    barrier_phases(n);
    operands(n);
    who_does_what(n);
    stale_reference(n);
    sections(n);
    the_rung(n);
  });
}
