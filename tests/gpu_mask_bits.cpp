// The kernel that makes bits of a custom mask, on the GPU: word by word, between guard bands, from bytes and from bits.
#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <random>
#include <vector>

#include "core/mask_bits.hpp"
#include "core/plan.hpp"
#include "gpu/attention/mask_bits.hpp"
#include "gpu/check.hpp"
#include "gpu/device_buffer.hpp"

using namespace flashladder;

namespace {

constexpr std::uint32_t guard = 0xdeadbeefu;

struct Batch {
  std::vector<std::int32_t> qo_lens, kv_lens;
};

struct Forms {
  std::vector<std::uint8_t> bytes, packed;  // packed: little-endian, each request's begin at a byte
  std::vector<std::uint32_t> words;      // between requests, and four at the end, some are nobody's: 0
};

Forms draw(const Batch& batch, std::uint32_t seed) {
  std::mt19937 random(seed);
  Forms f;
  std::int64_t queries = 0;
  for (std::size_t b = 0; b < batch.qo_lens.size(); ++b) {
    const std::int32_t qo_len = batch.qo_lens[b], kv_len = batch.kv_lens[b];
    const std::size_t packed = f.packed.size(), pairs = static_cast<std::size_t>(qo_len) * kv_len;
    const auto words = static_cast<std::size_t>(mask_words(queries, std::ssize(f.bytes)));
    f.packed.resize(packed + (pairs + 7) / 8, 0);
    if (pairs % 8 != 0) f.packed.back() = static_cast<std::uint8_t>(0xffu << pairs % 8);  // bits that are nobody's: poison
    f.words.resize(words + static_cast<std::size_t>(qo_len) * words_of_row(kv_len), 0);
    queries += qo_len;
    for (std::size_t at = 0; at < pairs; ++at) {
      const bool sees = random() % 3 != 0;
      f.bytes.push_back(sees ? static_cast<std::uint8_t>(1 + random() % 255) : 0);
      const std::size_t i = at / kv_len, j = at % kv_len;
      if (sees) f.packed[packed + at / 8] |= static_cast<std::uint8_t>(1u << at % 8);
      if (sees) f.words[words + i * words_of_row(kv_len) + j / 32] |= 1u << j % 32;
    }
  }
  f.words.resize(static_cast<std::size_t>(mask_words(queries, std::ssize(f.bytes))), 0);
  return f;
}

// offset: bytes between the beginning of the caller's memory and the mask, which need not be aligned.
void check(const Batch& batch, std::int32_t capacity, std::size_t offset, bool from_bits, bool captured) {
  const Forms f = draw(batch, 5);
  Plan plan;
  plan.batch = static_cast<std::int32_t>(batch.qo_lens.size()), plan.qo_lens = batch.qo_lens, plan.kv_lens = batch.kv_lens;
  const gpu::MaskShape shape{.requests = capacity, .words = std::ssize(f.words)};
  std::vector<std::byte> list(gpu::mask_list_bytes(shape));
  gpu::pack_mask_list(plan, shape, list);
  std::vector<std::uint8_t> given(offset, 0xff);
  const auto& mask = from_bits ? f.packed : f.bytes;
  given.insert(given.end(), mask.begin(), mask.end());
  std::vector<std::uint32_t> out(gpu::mask_words_bytes(shape) / 4, guard);
  const gpu::DeviceBuffer on_list(list.data(), list.size()), on_mask(given.data(), given.size());
  const gpu::DeviceBuffer on_out(out.data(), out.size() * sizeof out[0]);
  gpu::AttentionCall call;
  call.params.mask = MaskMode::custom;
  const auto* at = on_mask.as<std::uint8_t>() + offset;
  (from_bits ? call.packed_custom_mask : call.custom_mask) = at;
  const gpu::MaskMemory to{shape, on_list.data(), on_out.data(), 3};
  cudaStream_t stream = nullptr;
  gpu::check(cudaStreamCreate(&stream));
  cudaGraph_t graph = nullptr;
  if (captured) gpu::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CHECK(gpu::make_mask_bits(call, to, stream).mask_bits == on_out.as<std::uint32_t>());
  if (captured) {
    gpu::check(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t exec = nullptr;
    gpu::check(cudaGraphInstantiate(&exec, graph, 0));
    gpu::check(cudaGraphLaunch(exec, stream));
    gpu::check(cudaStreamSynchronize(stream));
    gpu::check(cudaGraphExecDestroy(exec));
    gpu::check(cudaGraphDestroy(graph));
  }
  gpu::check(cudaStreamSynchronize(stream));
  gpu::check(cudaStreamDestroy(stream));
  gpu::check(cudaMemcpy(out.data(), on_out.data(), out.size() * sizeof out[0], cudaMemcpyDeviceToHost));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    wrong += out[i] != (i < f.words.size() ? f.words[i] : i < f.words.size() + gpu::words_behind ? 0 : guard);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("a custom mask becomes bits: every length around words and warps, of bytes and of bits that begin anywhere") {
  const Batch batches[] = {
      {{1}, {1}},
      {{3, 0, 2, 1, 5}, {9, 50, 70, 0, 31}},
      {{2, 2, 2, 2, 2}, {32, 33, 63, 64, 65}},
      {{3, 1, 7}, {1023, 1024, 1025}},
      {{64, 16}, {8192, 3001}},
      {{1}, {100003}},
      {{0, 0, 4, 0}, {10, 0, 7, 8}},
      {{40, 3, 50}, {0, 70, 0}},
      {{200}, {0}},
  };
  for (const Batch& batch : batches) {
    const auto requests = static_cast<std::int32_t>(batch.qo_lens.size());
    CAPTURE(batch.kv_lens[0]);
    for (const bool from_bits : {false, true}) {
      for (const std::size_t offset : {std::size_t{0}, std::size_t{3}}) {
        check(batch, requests, offset, from_bits, false);
        check(batch, requests + 40, offset, from_bits, true);  // as in a graph: room for more requests
      }
    }
  }
}
