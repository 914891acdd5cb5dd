// A batch on two streams at the same time.
#pragma once

#include <deque>
#include <numeric>
#include <thread>

#include "decode.hpp"

// The request with which the second half begins, so that both have about as many tokens.
inline int middle(const std::vector<int>& lens) {
  const int all = std::accumulate(lens.begin(), lens.end(), 0);
  int cut = 0, before = 0;
  while (before + lens[static_cast<std::size_t>(cut)] / 2 < all / 2) before += lens[static_cast<std::size_t>(cut++)];
  return cut;
}

// The batch in two objects, each with half of the machine. A fixed chunk size keeps a request's bits whoever its neighbours
// are, so that both halves give what the whole gives.
class TwoStreams {
 public:
  TwoStreams(Batch& b, const std::vector<int>& kv_lens, int chunk_size) : cut_(middle(kv_lens)) {
    api::AttentionConfig config = with_policy(b, fl::SplitPolicy::fixed);
    config.execution.chunk_size = chunk_size;
    config.execution.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
    for (const auto& [first, last] : {std::pair{0, cut_}, std::pair{cut_, b.batch}}) {
      api::Stream stream = nullptr;
#ifdef WITH_CUDA
      if (on_gpu) {
        int device = 0, sms = 0;
        check(cudaGetDevice(&device));
        check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
        config.execution.num_sms = sms / 2;
        cudaStream_t made = nullptr;
        check(cudaStreamCreate(&made));
        stream = made;
      }
#endif
      const int rows = last - first;
      halves_.emplace_back(b, config, part_of(b, first, last), rows_from(b, b.q, first, rows),
                           rows_from(b, b.o, first, rows), stream);
    }
  }
  // Both at once. On the GPU each is enqueued on its stream; on the CPU a run works while its caller waits, so each has a
  // thread for a caller.
  void run() {
    if (on_gpu) {
      for (Decode& half : halves_) half.run();
      return;
    }
    std::vector<std::jthread> callers;
    for (Decode& half : halves_) callers.emplace_back([&half] { half.run(); });
  }
  int cut() const { return cut_; }
  const fl::Plan& plan(std::size_t half) const { return halves_[half].plan(); }

 private:
  int cut_;
  std::deque<Decode> halves_;
};
