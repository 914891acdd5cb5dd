// Prefill over a paged KV cache: whole prompts, causal. plan() once, run() for every layer.
#include "batch.hpp"

int main(int argc, char** argv) {
  say_where();
  auto given = options(argc, argv, {{"--seq-len", on_gpu ? "2048" : "200"}, {"--batch", "4"}});
  const int seq_len = number(given["--seq-len"]), batch = number(given["--batch"]), layers = 2;
  Batch b(batch, seq_len, seq_len, layers);
  const api::AttentionConfig config = b.config(fl::MaskMode::causal);

  const Memory memory(api::BatchPrefillWithPagedKVCache::workspace_bytes(config, b.qo_indptr, b.table.indptr,
                                                                         b.table.last_page_len));
  api::BatchPrefillWithPagedKVCache prefill(config, memory.workspace());
  prefill.plan(b.qo_indptr, b.table.indptr, b.table.last_page_len);
  const auto run = [&](int layer) {
    prefill.run(b.rows_of(b.q), b.kv(layer % layers), b.page_ids(), {b.rows_of(b.o), {}});
  };
  const double ms = milliseconds_each(run);
  run(0);

  // Of a causal prompt of n tokens, query i sees i + 1 keys: n (n + 1) / 2 pairs, each two products of head_dim.
  const double flop = 4.0 * b.head_dim * num_qo_heads * batch * (0.5 * seq_len * (seq_len + 1.0));
  std::printf("Prefill Attention (seq_len=%d, batch=%d):\n  Latency: %.3g ms\n  Compute: %.3g TFLOP/s\n  Kernel: %s\n",
              seq_len, batch, ms, flop / ms * 1e-9, prefill.explain().c_str());
  return is_right(b, 0) ? 0 : 1;
}
