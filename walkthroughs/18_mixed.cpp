// Chapter 18: mixed batches. What reading and multiplying take of an SM; the plan of P12 in two parts; its lanes and P11's, by
// a small model; ways that are wrong; how many CTAs decode first, measured and modelled; where P12 loses.
#include <cmath>
#include <set>

#include "draw/plan_lanes.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/mixed_model.hpp"
#include "walkthroughs/plan_text.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

// Eight requests decode, and two have a piece of a prompt.
MixedBatch small_batch() {
  return {"this batch", {1, 1, 256, 1, 1, 1, 64, 1, 1, 1}, {1300, 900, 1536, 1200, 700, 1300, 300, 1100, 1000, 1200},
          8, 2, 4};
}

char letter(std::int32_t request) { return static_cast<char>('A' + request); }

// A character for each us_of_character: the letter of the request; small letters for pieces of tiles.
constexpr double us_of_character = 2.5;
std::string lanes_text(const MixedLanes& lanes) {
  std::string out;
  for (std::int32_t cta = 0; cta < lanes.plan.num_ctas(); ++cta) {
    std::string lane;
    double time = 0;
    std::int64_t first = 0;
    for (const PlanPart& part : lanes.plan.parts) {
      for (std::int32_t q = part.queue_indptr[cta]; q < part.queue_indptr[cta + 1]; ++q) {
        const WorkItem item = part.work(part.queue[q]);
        time += lanes.us[first + part.queue[q]];
        const char name = letter(item.request);
        lane.resize(std::max(lane.size(), static_cast<std::size_t>(std::lround(time / us_of_character))),
                    item.whole() ? name : static_cast<char>(name - 'A' + 'a'));
      }
      first += part.num_work();
    }
    lane.resize(static_cast<std::size_t>(std::lround(lanes.end / us_of_character)), '.');
    out += text("SM %d  ", cta) + lane + "\n";
  }
  return out;
}

void two_limits(Narrator& n, const MixedBatch& b) {
  n.section("Two limits of an SM");
  n.step("Eight requests decode, one query each. C and G have a piece of a prompt. %d query heads on %d KV heads of %d "
         "features, 16 bits, causal; %d SMs. What each part takes of an SM: it reads 43 GB/s, or multiplies 4.85 TFLOP/s.",
         b.num_qo_heads, b.num_kv_heads, head_dim, b.num_sms);
  std::vector<std::vector<std::string>> rows;
  for (std::size_t r = 0; r < b.qo_lens.size(); ++r) {
    MixedBatch one = b;
    one.qo_lens = {b.qo_lens[r]}, one.kv_lens = {b.kv_lens[r]};
    const gpu::p12::MixedWork work = one.work();
    const bool decode = b.qo_lens[r] == 1;
    rows.push_back({std::string(1, letter(static_cast<std::int32_t>(r))), text("%d", b.qo_lens[r]), text("%d", b.kv_lens[r]),
                    decode ? text("%.2f MB", static_cast<double>(work.decode_keys) * 512e-6) : "",
                    decode ? "" : text("%.2f GFLOP", static_cast<double>(work.prefill_pairs) * 512e-9),
                    text("%.1f", decode ? gpu::p12::decode_us(work) : gpu::p12::prefill_us(work))});
  }
  const gpu::p12::MixedWork work = b.work();
  const double decode = gpu::p12::decode_us(work), prefill = gpu::p12::prefill_us(work);
  n.table({"request", "queries", "keys", "reads", "multiplies", "us of an SM"}, rows);
  n.say("Reading takes %.1f us of an SM and multiplying %.1f: %.0f %% and %.0f %%.", decode, prefill,
        100 * gpu::p12::decode_share(work), 100 * (1 - gpu::p12::decode_share(work)));
  n.step("A decode does 4 x 512 FLOP with the 512 bytes of a key and its value, %d FLOP a byte. At 43 GB/s that is %.2f "
         "TFLOP/s of the 4.85 that the same SM could do: %.0f %%. A tile of 128 rows does 128 FLOP a byte.", 4 * 512 / 512,
         43e9 * 4 * 1e-12, 100 * 43e9 * 4 * 1e-12 / 4.85);
  n.step("And all SMs together do not read %d x 43 GB/s: memory gives about 30 to each when all of them read. So three that "
         "read have all that there is, 3 x 40, and the fourth may as well multiply.", b.num_sms);
}

void two_parts(Narrator& n, const Plan& plan, std::int32_t ctas) {
  n.section("Two parts");
  const PlanPart& decode = plan.parts[0];
  const PlanPart& prefill = plan.parts[1];
  n.step("The planner's own plan for %d CTAs that decode first: two parts. Part 0 is the requests of one query, in tiles of "
         "%d rows, cut by policy balanced into %zu queues, two a CTA:", ctas, decode.query_tile,
         decode.queue_indptr.size() - 1);
  std::string lines;
  for (std::size_t q = 0; q + 1 < decode.queue_indptr.size(); ++q) {
    lines += text("queue %2zu, CTA %zu ", q, q / queues_of_cta);
    for (std::int32_t i = decode.queue_indptr[q]; i < decode.queue_indptr[q + 1]; ++i) {
      const WorkItem item = decode.work(decode.queue[i]);
      lines += text("  %c head %d keys %d .. %d", letter(item.request), item.head, item.keys.begin, item.keys.end - 1);
    }
    lines += "\n";
  }
  n.block(lines);
  n.say("%td works of %td tiles; %td tiles are cut, and the last of their pieces to be done merges.", decode.num_work(),
        decode.num_work() - std::ranges::count_if(decode.items, [](const WorkItem& i) {
                              return (i.flags & WorkItem::first) == 0;
                            }) * decode.copies,
        decode.num_merges());
  n.step("Part 1 is the others, in P11's tiles of %d rows, of one query head each. Nobody has them yet: whoever is free "
         "claims the next, the costliest first:", prefill.query_tile);
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < prefill.items.size(); ++i) {
    const WorkItem& item = prefill.items[i];
    const auto first = static_cast<std::int64_t>(i) * prefill.copies;
    rows.push_back({text("%td .. %td", first, first + prefill.copies - 1), std::string(1, letter(item.request)),
                    text("0 .. %d", prefill.copies - 1), text("%d .. %d", item.rows.begin, item.rows.end - 1),
                    text("0 .. %d", item.keys.end - 1),
                    text("%.1f", gpu::p12::prefill_us({.prefill_pairs = seen_pairs(plan, prefill, item)}))});
  }
  n.table({"claims", "request", "heads", "rows", "keys", "us each"}, rows);
  n.check_that("no work of part 0 is claimed, none of part 1 is in a queue",
               !decode.claimed && prefill.claimed && prefill.queue.empty() && std::ssize(decode.queue) == decode.num_work());
}

void lanes(Narrator& n, const MixedBatch& b, std::int32_t ctas) {
  n.section("Queues first, then claims");
  const MixedLanes p11 = lanes_of(b.p11_plan()), p12 = lanes_of(b.p12_plan(ctas));
  n.step("Who does what when, predicted with these rates; a character is %.1f us. P11 has one plan for all, %td works in "
         "tiles of up to %d rows of a group, and its costliest come first: %.1f us.", us_of_character, p11.plan.num_work(),
         most_tile_rows, p11.end);
  n.block(lanes_text(p11));
  n.step("P12: CTAs 0 .. %d run their queues (small letters: pieces of tiles), the others begin to claim. When the queues are "
         "done, after %.1f us, all claim: %.1f us.", ctas - 1, p12.read_by, p12.end);
  n.block(lanes_text(p12));
  n.say("P11 multiplies first and reads at the end, when memory is what all wait for. P12 does both at once.");
  const std::vector<draw::PolicyLanes> both{{"P11: one plan, claimed", &p11.plan, p11.us},
                                            {"P12: queues first, then claims", &p12.plan, p12.us}};
  const draw::Caption caption{text("A mixed batch on %d SMs, microseconds", b.num_sms),
                              "C and G prefill, the others decode; by the model"};
  n.figure("lanes", draw::policies_picture(both, 1, caption, draw::RequestNames::letters),
           "The same batch by P11 and by P12. Two queues of a CTA run side by side; they are drawn one behind the other.");
  n.check_that("P12 is the faster by the model", p12.end < p11.end);
}

void wrong_ways(Narrator& n, const MixedBatch& b, std::int32_t ctas) {
  n.section("Wrong ways");
  const Plan plan = b.p12_plan(ctas);
  const PlanPart& decode = plan.parts[0];
  std::set<std::pair<int, int>> tiles, written;
  int twice = 0;
  for (std::size_t q = 0; q + 1 < decode.queue_indptr.size(); ++q) {
    for (std::int32_t i = decode.queue_indptr[q]; i < decode.queue_indptr[q + 1]; ++i) {
      const WorkItem item = decode.work(decode.queue[i]);
      tiles.insert({item.request, item.head});
      if (q % queues_of_cta > 0) continue;
      written.insert({item.request, item.head}), ++twice;
    }
  }
  n.step("If both warp groups of a CTA ran its first queue (the kernel without `+ group`), %d of %td works would be done "
         "twice and the others never: %zu of %zu tiles, KV head 1 of every request, would not be written. And a tile of two "
         "pieces would be counted four times: if one piece is counted twice first, it is merged with a partial that nobody "
         "has written yet.", twice, decode.num_work(), tiles.size() - written.size(), tiles.size());
  n.check_that("that is noticed: rows are missing", written.size() < tiles.size());
  n.step("Others are right and slow. By the model, us:");
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const std::string& name, const MixedLanes& l) {
    rows.push_back({name, text("%.1f", l.read_by), text("%.1f", l.end)});
    return l.end;
  };
  const double right = row(text("%d CTAs run queues, then claim", ctas), lanes_of(plan));
  const double only = row(text("%d CTAs run queues and never claim", ctas), lanes_of(plan, DecodeCtas::queues_only));
  const double last = row(text("%d CTAs claim, then run queues", ctas), lanes_of(plan, DecodeCtas::queues_last));
  const double few = row("1 CTA runs queues, then claims", lanes_of(b.p12_plan(1)));
  const double all = row(text("%d CTAs run queues, then claim", b.num_sms), lanes_of(b.p12_plan(b.num_sms)));
  row("P11", lanes_of(b.p11_plan()));
  n.table({"", "all is read after", "all is done after"}, rows);
  n.check_that("each of these takes longer", std::min({only, last, few, all}) > right);
}

// The four batches of the sweep.
std::vector<MixedBatch> timed_batches() {
  std::vector<MixedBatch> batches;
  batches.reserve(4);  // so that references to them stay
  const auto batch = [&](const char* name) -> MixedBatch& {
    return batches.emplace_back(MixedBatch{name, {}, {}, 32, 8, 132});
  };
  MixedBatch& chunks = batch("4 x q512 + 60 x q1 kv4096 32/8 p16 causal");
  chunks.add(4, 512, 4096), chunks.add(60, 1, 4096);
  MixedBatch& chunk = batch("1 x q2048 + 127 x q1 kv4096 32/8 p16 causal");
  chunk.add(1, 2048, 4096), chunk.add(127, 1, 4096);
  MixedBatch& few = batch("8 x q128 + 120 x q1 kv2048");
  few.add(8, 128, 2048), few.add(120, 1, 2048);
  MixedBatch& prompts = batch("4 x S4096 + 64 x q1 kv2048");
  prompts.add(4, 4096, 4096), prompts.add(64, 1, 2048);
  return batches;
}

std::string swept(std::int32_t ctas) { return text("P12, %d CTAs decode first", ctas); }

void sweep(Narrator& n, const std::vector<MixedBatch>& batches, const Measured& h200) {
  n.section("How many CTAs decode first");
  const std::vector<std::int32_t> tried{58, 74, 88, 100, 112};
  n.step("Measured (%s), us, and in brackets what the model says. The batches have 32/8 heads, lists of pages of 16, causal; "
         "132 CTAs, of which so many decode first:", h200.machine().c_str());
  std::vector<std::string> header{"batch"};
  for (const std::int32_t ctas : tried) header.push_back(text("%d", ctas));
  header.insert(header.end(), {"P11", "P5"});
  std::vector<std::vector<std::string>> rows;
  bool near_best = true;
  for (const MixedBatch& b : batches) {
    rows.push_back({b.name.substr(0, b.name.find(" kv"))});
    double best = h200.us(b.name, swept(tried[0])), taken = std::nan("");
    for (const std::int32_t ctas : tried) {
      const double us = h200.us(b.name, swept(ctas));
      best = std::min(best, us);
      if (std::abs(ctas - b.decode_ctas()) <= 1) taken = us;
      rows.back().push_back(text("%.0f (%.0f)", us, lanes_of(b.p12_plan(ctas)).end));
    }
    rows.back().push_back(text("%.0f (%.0f)", h200.us(b.name, "fa3"), lanes_of(b.p11_plan()).end));
    rows.back().push_back(text("%.0f", h200.us(b.name, "fa2")));
    if (gpu::p12::pays(b.work())) near_best = near_best && taken < 1.01 * best;
  }
  n.table(header, rows);

  const MixedBatch& most_reading = batches[1];
  const double bytes = static_cast<double>(most_reading.work().decode_keys) * 512;
  const double rate = bytes / (58 * h200.us(most_reading.name, swept(58))) * 1e-3;
  n.step("Where 43 GB/s come from: the second batch reads %.2f GB, and with 58 CTAs reading is last by far: %.1f GB/s each.",
         bytes * 1e-9, rate);
  n.check("that is the rate of mixed_cost.hpp, GB/s", rate - 43, 1);
  n.step("What the rule takes. share: of reading in what both parts take of an SM.");
  rows.clear();
  bool right = true;
  for (const MixedBatch& b : batches) {
    const bool pays = gpu::p12::pays(b.work());
    double best = h200.us(b.name, swept(tried[0]));
    for (const std::int32_t ctas : tried) best = std::min(best, h200.us(b.name, swept(ctas)));
    const double p11 = h200.us(b.name, "fa3");
    right = right && pays == (best < p11);
    rows.push_back({b.name.substr(0, b.name.find(" kv")), text("%.0f", gpu::p12::decode_us(b.work())),
                    text("%.0f", gpu::p12::prefill_us(b.work())), text("%.2f", gpu::p12::decode_share(b.work())),
                    pays ? text("P12, %d CTAs", b.decode_ctas()) : "P11", text("%.2f", p11 / best)});
  }
  n.table({"batch", "reading", "multiplying", "share", "the rule takes", "P11's time by the best of P12"}, rows);
  n.check_that("the rule takes P12 where it was the faster, and P11 elsewhere", right);
  n.check_that("the number that it takes is within 1 % of the best that was tried", near_best);
}

// The chapter's batch, smaller, as P12's grid runs it: queues of a CTA one behind the other, and claims as predicted.
void rung(Narrator& n) {
  n.section("The plan, executed");
  MixedBatch b{"small", {1, 40, 1, 1, 0, 9}, {300, 200, 77, 150, 40, 9}, 4, 2, 4};
  const ladder::Case c = ladder::draw_case({.name = b.name, .seed = 18, .qo_lens = b.qo_lens, .kv_lens = b.kv_lens,
                                            .params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = head_dim,
                                                       .head_dim_vo = head_dim, .sm_scale = 0.125f, .mask = MaskMode::causal},
                                            .dtype = DType::f32});
  const Plan plan = lanes_of(b.p12_plan(3)).plan;
  n.step("No rung of the CPU has queues and claims at once, but C4 takes any plan. Six requests, one of them without a query, "
         "%td works in part 0 and %td in part 1, in the lanes of the model:", plan.parts[0].num_work(),
         plan.parts[1].num_work());
  const ladder::RunResult mixed = run_plan(c, plan, reference::Schedule::fixed);
  const ladder::RunResult below = run_rung(ladder::rung("C4"), c);
  const ladder::Comparison worst = agree(c, mixed, &below, ladder::make_oracle(c, DType::f32));
  n.check_that("it equals C4 and the oracle: o and lse_log2", worst.ok(), text("%.2g of the tolerance", worst.ratio()));
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{.number = 18, .title = "Mixed batches",
                        .idea = "One plan, two tile heights, one launch: some SMs read while the others multiply."};
  return walk(argc, argv, chapter, [&](Narrator& n) {
    const MixedBatch b = small_batch();
    const std::int32_t taken = b.decode_ctas();
    two_limits(n, b);
    two_parts(n, b.p12_plan(taken), taken);
    lanes(n, b, taken);
    wrong_ways(n, b, taken);
    sweep(n, timed_batches(), Measured({"h200-mixed-sweep.jsonl"}));
    rung(n);
    n.question("A batch of requests with two queries each, as a server has that verifies a draft token: which part are they "
           "in, and what limits them?");
  });
}
