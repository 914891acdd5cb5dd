// Backends compared on one batch: each is asked for by name, or left to choose by itself. One that does not compute this on
// this machine says why. The first that runs is what the others are compared with.
#include <optional>
#include <sstream>

#include "batch.hpp"

std::optional<api::Backend> backend_named(const std::string& name) {
  for (const api::Backend backend : {api::Backend::automatic, api::Backend::fa2, api::Backend::fa3}) {
    if (name == name_of(backend)) return backend;
  }
  return {};
}

std::string upper(std::string name) {
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

int main(int argc, char** argv) {
  say_where();
  auto given = options(argc, argv, {{"--backends", "fa2,fa3,auto"}, {"--seq-len", on_gpu ? "2048" : "200"},
                                    {"--batch", "4"}});
  const int seq_len = number(given["--seq-len"]), batch = number(given["--batch"]), layers = 2;
  Batch b(batch, seq_len, seq_len, layers);
  std::printf("Prefill Attention (seq_len=%d, batch=%d):\n", seq_len, batch);

  bool right = true;
  std::optional<double> first;
  std::istringstream names(given["--backends"]);
  for (std::string name; std::getline(names, name, ',');) {
    const std::optional<api::Backend> backend = backend_named(name);
    if (!backend) {
      std::fprintf(stderr, "%s: not a backend. There are fa2, fa3 and auto\n", name.c_str());
      return 2;
    }
    api::AttentionConfig config = b.config(fl::MaskMode::causal);
    config.execution.backend = *backend;
    try {
      const Memory memory(api::BatchPrefillWithPagedKVCache::workspace_bytes(config, b.qo_indptr, b.table.indptr,
                                                                             b.table.last_page_len));
      api::BatchPrefillWithPagedKVCache prefill(config, memory.workspace());
      prefill.plan(b.qo_indptr, b.table.indptr, b.table.last_page_len);
      const auto run = [&](int layer) {
        prefill.run(b.rows_of(b.q), b.kv(layer % layers), b.page_ids(), {b.rows_of(b.o), {}});
      };
      const double ms = milliseconds_each(run);
      run(0);
      std::printf("  %s backend: %.3g ms", upper(name).c_str(), ms);
      if (first) std::printf(" (%.1f%% %s)", std::fabs(100 * (1 - ms / *first)), ms <= *first ? "faster" : "slower");
      std::printf("\n  Kernel: %s\n", prefill.explain().c_str());
      first = first.value_or(ms);
      right &= is_right(b, 0);
    } catch (const fl::InputError& refused) {
      std::printf("  %s backend: not here: %s\n", upper(name).c_str(), refused.what());
    }
  }
  return right ? 0 : 1;
}
