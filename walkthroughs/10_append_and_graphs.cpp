// Chapter 10: append and graphs. A decode loop: rotate, append, plan, run, with a page table that grows; RoPE before or in
// attention; why plan and run are two; what a captured graph freezes, what may change, what is refused, what is stale.
#include <array>
#include <cmath>

#include "core/rope.hpp"
#include "draw/page_table_picture.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "reference/rope_ops.hpp"
#include "walkthroughs/captured_decode.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;
using ladder::Case;

namespace {

constexpr AttentionParams params{.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = 0.5f};

PageServer three_requests() {
  PageServer server(24, 4, params);
  for (int i = 0; i < 3; ++i) server.pool.add_request();
  server.append({6, 3, 1});
  return server;
}

planner::PlanInputs toy_inputs(const PageServer& server) {
  return {.kv_lens = server.c.spec.kv_lens, .num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8,
          .page_size = 4, .machine = {.num_sms = 6, .ctas_per_sm = 1}};
}

void the_loop(Narrator& n) {
  n.section("A decode loop");
  PageServer server = three_requests();
  n.step("Three requests after their prompts of 6, 3 and 1 tokens; pages of 4.");
  n.block(show_table(server));
  n.step("Each decode step has one new token for each request: its key and value are computed and appended; lengths have "
         "changed, so plan; then run, with the new token as query and as last key. Four steps:");
  std::vector<std::vector<std::string>> rows;
  for (int step = 1; step <= 4; ++step) {
    const std::int32_t free = server.pool.free_pages();
    const auto appended = server.append({1, 1, 1});
    const Plan plan = planner::make_plan(toy_inputs(server));
    const ladder::RunResult run = run_plan(server.c, plan, reference::Schedule::stealing);
    rows.push_back({text("%d", step), show(appended.positions), text("%d", free - server.pool.free_pages()),
                    show(server.c.paged_kv_indptr), show(server.c.paged_kv_last_page_len),
                    text("%.3f %.3f %.3f", run.lse_log2[0], run.lse_log2[4], run.lse_log2[8])});
  }
  n.table({"step", "positions", "new pages", "paged_kv_indptr", "last_page_len", "lse_log2 of head 0"}, rows);
  n.block(show_table(server) + "\n" + index_arrays(server.c));
  const HostPageTable host = server.pool.table();
  n.figure("page_table", draw::page_table_picture(host.view(), server.pool.num_pages(), {.title = "After four steps"}),
           "The page table after four decode steps");
  n.say("A new token goes to position length - 1 of the grown request. Old keys and values never move; the table grows by a "
        "page every 4 tokens.");
  n.check_that("after four steps the lengths are 10, 7 and 5", server.c.spec.kv_lens == std::vector<std::int32_t>{10, 7, 5});
}

void rope(Narrator& n) {
  n.section("RoPE: before appending, or in attention");
  const auto turned = [](float x, float y, int position) {
    std::array<float, 2> pair{x, y};
    apply_rope(pair.data(), RopeStyle::neox, position, 2, 1.0, 10000.0);
    return pair;
  };
  const auto dot = [&](int q_position, int k_position) {
    const auto q = turned(1, 0, q_position), k = turned(1, 0, k_position);
    return q[0] * k[0] + q[1] * k[1];
  };
  const auto pair = turned(1, 0, 3);
  n.step("RoPE turns pairs of features of q and k by an angle that grows with the token's position: the first pair by 1 "
         "radian a position, later ones by less. The pair (1, 0) at position 3 becomes (cos 3, sin 3) = (%.3f, %.3f). A "
         "query (1, 0) at position 5 and a key (1, 0) at position 3 then have the dot product cos 2 = %.3f; at 105 and 103 "
         "it is %.3f. Only the distance counts.", pair[0], pair[1], dot(5, 3), dot(105, 103));
  n.step("A key's rotation depends on its position alone, which never changes. So it can be rotated once, when it is "
         "appended, instead of in every later step. The same batch both ways: keys in the cache unrotated and ROPE_LLAMA in "
         "attention; and keys and queries rotated before, without any position encoding in attention.");
  const Case inside = ladder::draw_case({.name = "rope", .seed = 10, .qo_lens = {1, 1}, .kv_lens = {37, 9},
                                         .params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64,
                                                    .head_dim_vo = 64, .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA}});
  Case before = inside;
  before.spec.params.pos_encoding_mode = PosEncodingMode::NONE;
  const AttentionProblem problem = before.problem();
  const auto rotate = [](float* head, int position) { apply_rope(head, RopeStyle::neox, position, 64, 1.0, 10000.0); };
  for (int b = 0; b < problem.batch(); ++b) {
    const int kv_len = problem.kv_len(b);
    for (int h = 0; h < 4; ++h) rotate(problem.q.data_as<float>() + (b * 4 + h) * 64, kv_len - 1);
    for (int t = 0; t < kv_len; ++t) {
      for (int h = 0; h < 2; ++h) {
        rotate(static_cast<float*>(problem.kv.k) + problem.kv.k_strides.offset(problem.page_table().locate(b, t), h), t);
      }
    }
  }
  const ladder::RunResult one = run_rung(ladder::rung("C4"), inside), other = run_rung(ladder::rung("C4"), before);
  const ladder::Comparison worst = agree(inside, other, &one, ladder::make_oracle(inside));
  n.check_that("both give the same o and lse_log2", worst.ok(), text("%.2g of the tolerance", worst.ratio()));
  // 32 query heads, 8 KV heads, head_dim 128, 16 bits: KiB a token
  const double q = 32 * 128 * 2 / 1024.0, k = 8 * 128 * 2 / 1024.0, v = k;
  n.step("Bytes that a token moves (32/8 heads, head_dim 128, 16 bits; without cos and sin): rotating q and k in place %.0f "
         "KiB, then appending k and v %.0f; as one kernel %.0f, since k is read once and written once, to its page.",
         2 * (q + k), 2 * (k + v), 2 * q + 2 * k + 2 * v);
}

void plan_and_run(Narrator& n) {
  n.section("Plan once, run for every layer");
  n.step("All layers of a model have the same lengths and the same page table, only other caches. So what depends on "
         "lengths is done once a step (plan), and each layer is one launch that reads the plan (run). A model of 32 "
         "layers: 1 plan, 32 runs. run() must then have nothing to decide: no allocation, no synchronisation, no host "
         "work but the launch.");
  n.say("That is also exactly what a CUDA graph can record.");
}

void graph(Narrator& n) {
  n.section("A graph, in miniature");
  PageServer server = three_requests();
  const planner::CaptureLimits limits{.batch = 4, .nnz_qo = 4, .pages = 12, .items = 24, .merges = 8, .partial_rows = 48,
                                      .num_ctas = 6};
  CapturedDecode graph(server, limits, {.num_sms = 6, .ctas_per_sm = 1});
  n.step("A CUDA graph is a launch recorded with its arguments: the kernel, its grid, its pointers. A replay is the same "
         "launch; nobody asks the host. So buffers are bought once, for limits: batch %td, pages %td, items %td, merges "
         "%td, partial rows %td, grid %td. What may change is what lies in them.", limits.batch, limits.pages, limits.items,
         limits.merges, limits.partial_rows, limits.num_ctas);
  std::vector<std::vector<std::string>> rows;
  bool equal = true, still = true;
  bool untouched = true;
  const auto step = [&](const char* what) {
    const std::string no = graph.plan(server);
    if (!no.empty()) return no;
    const ladder::RunResult replayed = graph.replay(server.c.problem().kv);
    const std::size_t used = server.c.spec.kv_lens.size() * 4 * 8;
    const ladder::RunResult eager = run_plan(server.c, planner::make_plan(toy_inputs(server)), reference::Schedule::fixed);
    const ladder::Comparison worst = agree(server.c, {.o = {replayed.o.begin(), replayed.o.begin() + std::ptrdiff_t(used)},
        .lse_log2 = {replayed.lse_log2.begin(), replayed.lse_log2.begin() + std::ptrdiff_t(used / 8)}}, &eager,
        ladder::make_oracle(server.c));
    equal = equal && worst.ok(), still = still && graph.where_it_was_captured();
    for (std::size_t i = used; i < replayed.o.size(); ++i) untouched = untouched && std::isnan(replayed.o[i]);
    rows.push_back({what, show(server.c.spec.kv_lens), text("%td", graph.current_plan().num_work()),
                    text("%td", graph.current_plan().num_merges()),
                    used == replayed.o.size() ? text("%.3f", replayed.lse_log2[4 * 3]) : "not written"});
    return std::string();
  };
  step("captured"), server.append({1, 1, 1}), step("a token each");
  server.pool.add_request(), server.append({0, 0, 0, 9}), step("a fourth request");
  server.remove(1), step("request 1 leaves");
  n.table({"replay", "lengths", "items", "merges", "lse_log2 of row 3"}, rows);
  n.say("Rows of o and lse_log2 beyond the batch stay what they were.");
  n.check_that("rows beyond the batch are not written", untouched);
  n.check_that("every replay equals a fresh run and the oracle", equal);
  n.check_that("no buffer has moved since the capture", still);

  server.append({17, 0, 17});
  const std::string refused = step("too much");
  n.step("Both long requests grow by 17 tokens. plan() refuses: `%s`. The graph still holds the plan before; the server "
         "runs this step without a graph, or captures a larger one.", refused.c_str());
  n.check_that("what exceeds is named", refused.find("pages") != std::string::npos);
}

void stale(Narrator& n) {
  n.section("A stale plan");
  PageServer server = three_requests();
  const Plan before = planner::make_plan(toy_inputs(server));
  server.append({1, 1, 1});
  const std::string refused = refusal([&] { run_plan(server.c, before, reference::Schedule::fixed); });
  n.step("A token is appended, and somebody forgets to plan. C4 looks at the lengths: `%s`", refused.c_str());
  n.say("A kernel cannot afford to look, and a replay has no host code that could: it would compute the old keys, "
        "without the newest. No error, a plausible answer. So the order of a step is fixed: append to the table, plan, "
        "replay.");
  n.check_that("C4 refuses a plan of other lengths", !refused.empty());
  n.question("Two streams replay two graphs that were captured with the same workspace. Both are right alone. What goes "
             "wrong?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{10, "Append and graphs", "A decode step: append, plan, run; record the run once and replay it."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    the_loop(n);
    rope(n);
    plan_and_run(n);
    graph(n);
    stale(n);
  });
}
