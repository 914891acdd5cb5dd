// Decode with split-K: the keys of a request are cut so that every part of the machine has as much work as the others, and
// what the parts found is merged. plan() decides where; nothing else changes for the caller.
#include "batch.hpp"

// What memory can give at most: on the GPU what its clock and its bus say, on the CPU what one thread reads just now.
double peak_bytes_per_second() {
#ifdef WITH_CUDA
  if (on_gpu) {
    int device = 0, kilohertz = 0, bits = 0;
    check(cudaGetDevice(&device));
    check(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, device));
    check(cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device));
    return 2.0 * kilohertz * 1e3 * bits / 8;  // double data rate
  }
#endif
  const std::vector<std::uint64_t> buffer(std::size_t{1} << 24, 1);
  std::uint64_t sum = 0;
  const double ms = milliseconds_each([&](int) {
    for (const std::uint64_t x : buffer) sum += x;
  });
  return sum == 0 ? 0 : static_cast<double>(buffer.size() * sizeof(std::uint64_t)) / (ms * 1e-3);
}

int main(int argc, char** argv) {
  say_where();
  auto given = options(argc, argv, {{"--kv-len", "2048"}, {"--batch", on_gpu ? "32" : "4"}});
  const int kv_len = number(given["--kv-len"]), batch = number(given["--batch"]), layers = 2;
  Batch b(batch, 1, kv_len, layers);  // two layers in turn: what the last run read is not in a cache of the machine
  const api::AttentionConfig config = b.config(fl::MaskMode::none);

  const Memory memory(api::BatchDecodeWithPagedKVCache::workspace_bytes(config, b.table.indptr, b.table.last_page_len));
  api::BatchDecodeWithPagedKVCache decode(config, memory.workspace());
  decode.plan(b.table.indptr, b.table.last_page_len);
  const auto run = [&](int layer) {
    decode.run(b.rows_of(b.q), b.kv(layer % layers), b.page_ids(), {b.rows_of(b.o), {}});
  };
  const double ms = milliseconds_each(run);
  run(0);

  const double row = sizeof(fl::Half) * static_cast<double>(b.head_dim);  // of q and o, and of K and V
  const double bytes = 2 * row * batch * (1.0 * kv_len * b.num_kv_heads + num_qo_heads);
  const double per_second = bytes / (ms * 1e-3), peak = peak_bytes_per_second();
  const fl::Plan& plan = decode.current_plan();
  std::printf("Decode Attention (kv_len=%d, batch=%d):\n  Latency: %.3g ms\n", kv_len, batch, ms);
  if (on_gpu) std::printf("  HBM bandwidth: %.3g TB/s (%.0f%% of peak)\n", per_second * 1e-12, 100 * per_second / peak);
  else std::printf("  Memory bandwidth: %.3g GB/s (%.0f%% of what one thread reads)\n", per_second * 1e-9,
                   100 * per_second / peak);
  std::printf("  Split-K: %lld work items on %d CTAs, %lld merges\n", static_cast<long long>(plan.num_work()),
              plan.num_ctas(), static_cast<long long>(plan.num_merges()));
  return is_right(b, 0) ? 0 : 1;
}
