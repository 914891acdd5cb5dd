// Plan and run, for several steps of a decode: plan() on the CPU once a step, run() for every layer with a launch that does
// not change. With --use-cudagraph all layers are captured once, and each step is one launch of the graph.
#include "batch.hpp"

constexpr int layers = 2, steps = 8;

// Requests that grow by a token a step; o of layer 0 after the last one is compared with the formula.
struct Steps {
  int batch, kv_len;
  Batch b{batch, 1, kv_len, layers};
  int step = 0;

  void next() {  // the lengths of the next step: this many of the tokens that are in the cache
    const int tokens = kv_len - steps + ++step;
    const int pages = (tokens + page_size - 1) / page_size, most = (kv_len + page_size - 1) / page_size;
    const std::vector<std::int32_t> all = b.pool.table().indices;
    b.table.indices.clear();
    for (int r = 0; r < batch; ++r) {
      b.table.indptr[static_cast<std::size_t>(r) + 1] = (r + 1) * pages;
      b.table.last_page_len[static_cast<std::size_t>(r)] = tokens - (pages - 1) * page_size;
      b.table.indices.insert(b.table.indices.end(), all.begin() + r * most, all.begin() + r * most + pages);
    }
  }
};

double mean(const std::vector<double>& times) {
  double sum = 0;
  for (const double t : times) sum += t;
  return sum / static_cast<double>(times.size());
}

int main(int argc, char** argv) {
  say_where();
  auto given = options(argc, argv, {{"--kv-len", on_gpu ? "2048" : "512"}, {"--batch", on_gpu ? "32" : "4"},
                                    {"--use-cudagraph", "no"}});
  const int kv_len = number(given["--kv-len"]), batch = number(given["--batch"]);
  if (kv_len <= steps) return std::fprintf(stderr, "--kv-len: must be more than %d\n", steps), 2;
  const bool graph_asked = given["--use-cudagraph"] == "yes";
  Steps s{batch, kv_len};
  const api::AttentionConfig config = s.b.config(fl::MaskMode::none);
  const api::AttentionLimits limits{.max_batch = batch, .max_pages = s.b.pool.num_pages()};
  const Memory memory(api::CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
  api::CUDAGraphBatchDecodeWithPagedKVCache decode(config, limits, memory.workspace());

  api::Stream stream = nullptr;
  const auto plan = [&] { decode.plan(s.b.table.indptr, s.b.table.indices, s.b.table.last_page_len, stream); };
  const auto all_layers = [&] {
    for (int l = layers; l-- > 0;) decode.run(s.b.rows_of(s.b.q), s.b.kv(l), {s.b.rows_of(s.b.o), {}}, stream);
  };
#ifdef WITH_CUDA
  cudaStream_t made = nullptr;
  cudaGraphExec_t graph = nullptr;
  if (on_gpu) check(cudaStreamCreate(&made));
  stream = made;
  const auto launch = [&] {
    if (!on_gpu || !graph_asked) return all_layers();
    if (graph == nullptr) {
      cudaGraph_t captured = nullptr;
      check(cudaStreamBeginCapture(made, cudaStreamCaptureModeThreadLocal));
      all_layers();
      check(cudaStreamEndCapture(made, &captured));
      check(cudaGraphInstantiate(&graph, captured, 0));
      check(cudaGraphDestroy(captured));
    }
    check(cudaGraphLaunch(graph, made));
  };
#else
  const auto launch = all_layers;
#endif

  std::vector<double> plans, runs;
  for (int step = 0; step < steps; ++step) {
    s.next();
    plans.push_back(milliseconds(plan));
    runs.push_back(milliseconds(launch));
  }
  const double first = runs.front();
  runs.erase(runs.begin());
  if (graph_asked && on_gpu) {
    std::printf("CUDAGraph Capture:\n  First run: %.3g ms (includes graph capture)\n", first);
    std::printf("  Subsequent runs: %.3g ms (graph replay)\n", mean(runs));
  } else {
    if (graph_asked) std::printf("There are no graphs on the CPU: the same object runs without one.\n");
    std::printf("Plan and run:\n  First run: %.3g ms\n  Subsequent runs: %.3g ms\n", first, mean(runs));
  }
  std::printf("  Plan: %.3g ms a step, for %d layers; %d steps, a token more in each\n", mean(plans), layers, steps);
  return is_right(s.b, 0) ? 0 : 1;
}
