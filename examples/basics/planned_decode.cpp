// A decode whose plan is looked at: work descriptors in four tiers of chunk sizes, one kernel for all tiers and what four
// could win, queues that steal, two streams, and the split policies side by side.
//
// Policy target cuts every request's keys at multiples of one of four sizes, the tiers: the largest that still gives 512
// work items. An item's tier is the smallest size that holds its keys. The cache is HND, because each item reads the keys of
// one head, and there they lie together.
#include <cstring>
#include <functional>
#include <optional>

#include "tiers.hpp"
#include "two_streams.hpp"

namespace {

const std::vector<int> sample{512, 1024, 2048, 4096, 512,  512,  1024, 2048,
                              512, 1024, 1024, 2048, 4096, 8192, 8192, 16384};
const std::string rule(70, '=');

void print_configuration(const Batch& b, long long tokens) {
  std::printf("%s\nFlashLadder Decode Attention - v%s Example\n%s\n\nConfiguration:\n", rule.c_str(), FLASHLADDER_VERSION,
              rule.c_str());
  std::printf("  Batch size: %d\n  Number of heads: %d\n  Sequence lengths: [", b.batch, num_qo_heads);
  for (std::size_t i = 0; i < 8; ++i) std::printf("%s%d", i == 0 ? "" : ", ", sample[i]);
  std::printf("]...\n  Total KV tokens: %lld\n  Head dim: %d, f16, pages of %d tokens\n", tokens, b.head_dim, page_size);
}

void print_plan(const fl::Plan& plan) {
  const long long units = plan.num_work();
  const int chunk = plan.chunk_size;
  std::printf("\n--- Planning Phase ---\n  Optimal chunk size: %d\n  Generated %lld work descriptors\n", chunk, units);
  std::printf("\nPlan Statistics:\n  Chunk size: %d\n  Total work units: %lld\n  Tier distribution:\n", chunk, units);
  const TierCounts tiers(plan);
  const auto share = [&](long long n) { return 100.0 * static_cast<double>(n) / static_cast<double>(units); };
  for (std::size_t t = 0; t < tiers.items.size(); ++t) {
    std::printf("    Tier %zu: %lld (%.1f%%)\n", t, tiers.items[t], share(tiers.items[t]));
  }
  const long long sum = std::accumulate(tiers.items.begin(), tiers.items.end(), 0LL);
  std::printf("    All tiers: %lld (%.1f%%)\n", sum, share(sum));

  // A (request, head) is a tile of one query. Uncut it is one item; cut it has a merge, which knows how many chunks it has.
  const long long cut = plan.num_merges();
  long long whole = 0;
  int fewest = 0, most = 0;
  const auto chunks = [&](int n) { fewest = fewest == 0 ? n : std::min(fewest, n), most = std::max(most, n); };
  for (const fl::PlanPart& part : plan.parts) {
    for (const fl::WorkItem& item : part.items) {
      if (item.whole()) chunks(1), whole += part.copies;
    }
    for (const fl::Merge& merge : part.merges) chunks(merge.num_partials);
  }
  std::printf("  Chunks per (request, head):\n    min=%d, max=%d, avg=%.1f\n\n  First 5 descriptors:\n", fewest, most,
              static_cast<double>(units) / static_cast<double>(whole + cut));
  int shown = 0;
  for (const fl::PlanPart& part : plan.parts) {
    for_each_work(part, [&](std::int32_t w) {
      if (shown < 5) std::printf("    [%d] %s\n", shown++, to_string(part.work(w)).c_str());
    });
  }
  std::printf("    ...\n");
}

// What `run` leaves in o, which begins as NaN.
template <class Run>
std::vector<fl::Half> output_of(Batch& b, Run&& run) {
  b.o.host.assign(b.o.host.size(), fl::Half(NAN));
  b.o.upload();
  run();
  wait();
  b.o.download();
  return b.o.host;
}

// A way to run the batch. Used: mean load of a queue, as predicted, over that of the fullest.
struct Way {
  std::string name;
  std::vector<const fl::Plan*> plans;  // that run at the same time
  std::function<void()> run;
};

void print_comparison(const Batch& b, long long tokens, const std::vector<Way>& ways) {
  const std::vector<double> ms = milliseconds_in_turn(ways.size(), [&](std::size_t which, int) { ways[which].run(); });
  const double row = sizeof(fl::Half) * static_cast<double>(b.head_dim);  // of q and o, and of K and V
  const double bytes = 2 * row * num_qo_heads * static_cast<double>(tokens + b.batch);
  std::printf("  %-22s %9s %10s %7s %10s %8s %7s\n", "Policy", "Chunk", "Work units", "Merges", "Used", "ms", "GB/s");
  for (std::size_t i = 0; i < ways.size(); ++i) {
    long long units = 0, merges = 0;
    double cost = 0, queues = 0, longest = 0;
    for (const fl::Plan* plan : ways[i].plans) {
      units += plan->num_work(), merges += plan->num_merges();
      cost += plan->total_cost, queues += plan->num_ctas(), longest = std::fmax(longest, plan->makespan);
    }
    const int chunk = ways[i].plans.front()->chunk_size;
    std::printf("  %-22s %9s %10lld %7lld %9.1f%% %8.4g %7.4g\n", ways[i].name.c_str(),
                chunk == 0 ? "not cut" : std::to_string(chunk).c_str(), units, merges, 100 * cost / (queues * longest),
                ms[i], bytes / ms[i] * 1e-6);
  }
}

// FlashInfer's side: DecodePlan in include/flashinfer/attention/scheduler.cuh, and its merge in cascade.cuh.
void print_differences() {
  const char* const rows[][3] = {
      {"", "FlashInfer CUDA (decode)", "FlashLadder"},
      {"Chunk size", "smallest that fits the grid", "by policy; target: of four tiers"},
      {"Search", "binary, over the chunk size", "binary, over the four tiers"},
      {"Work lookup", "request and tile index of a block", "a work descriptor, O(1)"},
      {"Who runs what", "the grid's order", on_gpu ? "planned queues, one a CTA" : "planned queues, with stealing"},
      {"Chunk kernels", "one", "one for all tiers, measured above"},
      {"Merge", "a kernel of its own", on_gpu ? "in the same kernel, in slot order" : "after all items, in slot order"}};
  std::printf("\n");
  for (const auto& [what, theirs, ours] : rows) std::printf("  %-14s %-34s %s\n", what, theirs, ours);
}

}  // namespace

int main(int argc, char** argv) {
  say_where();
  options(argc, argv, {});
  Batch b(sample, 1, 1, {num_qo_heads, on_gpu ? 128 : 64, fl::KvLayout::HND});
  const int tokens = std::accumulate(sample.begin(), sample.end(), 0);
  print_configuration(b, tokens);
  const auto planned = [&](fl::SplitPolicy policy, std::optional<Decode>& decode) {
    decode.emplace(b, with_policy(b, policy), part_of(b, 0, b.batch), b.rows_of(b.q), b.rows_of(b.o));
  };
  std::optional<Decode> target, none, balanced;
  planned(fl::SplitPolicy::target, target);
  print_plan(target->plan());
  measure_tiers(b, target->plan());

  std::printf("\n--- Execution Phase ---\n  Program compiled: ahead of time, one kernel for all tiers\n");
  const char* const stealing =
      on_gpu ? "one a CTA: the planner has made them even, and nobody steals"
             : "one a thread: who has done its own steals from the far end of another's, by an atomic\n"
               "  compare-and-swap; partials are merged in slot order, so who ran what changes no bit";
  std::printf("  Queues: %d, %s\n", target->plan().num_ctas(), stealing);
  std::printf("  Executing on the %s...\n", on_gpu ? "GPU" : "CPU");
  const std::vector<fl::Half> once = output_of(b, [&] { target->run(); });
  std::printf("  Execution complete!\n");
  const bool right = is_right(b, 0);
  TwoStreams two(b, sample, target->plan().chunk_size);
  const std::vector<fl::Half> twice = output_of(b, [&] { two.run(); });
  const bool same = std::memcmp(once.data(), twice.data(), once.size() * sizeof(fl::Half)) == 0;
  std::printf("  Two streams: requests 0 to %d and %d to %d at the same time, %s\n", two.cut() - 1, two.cut(), b.batch - 1,
              same ? "the same bits" : "OTHER BITS than in one");

  std::printf("\n%s\nFlashLadder Decode Attention v%s Summary\n%s\n", rule.c_str(), FLASHLADDER_VERSION, rule.c_str());
  planned(fl::SplitPolicy::none, none);
  planned(fl::SplitPolicy::balanced, balanced);
  print_comparison(b, tokens, {{"none", {&none->plan()}, [&] { none->run(); }},
                               {"target", {&target->plan()}, [&] { target->run(); }},
                               {"target, two streams", {&two.plan(0), &two.plan(1)}, [&] { two.run(); }},
                               {"balanced (the default)", {&balanced->plan()}, [&] { balanced->run(); }}});
  print_differences();
  return right && same ? 0 : 1;
}
