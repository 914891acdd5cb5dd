// A custom mask becomes bits (mask_bits.hpp): bound by reading its bytes once.
// grid   as many blocks as are resident at once      block  256 threads      no shared memory
// A warp makes 32 words of a row, 1024 keys. Of bytes a lane loads those of one key in 32, neighbours side by side, so that a
// vote is a word; eight loads are under way. Of bits, which begin anywhere in a byte, a lane puts its word together of five
// bytes: rows of FlashInfer's masks follow each other without a gap. Words that are nobody's become 0.
#include <limits>

#include "core/error.hpp"
#include "core/mask_bits.hpp"
#include "gpu/attention/mask_bits.hpp"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {
namespace {

constexpr int threads = 256, blocks_of_sm = 6, warp = 32, keys_of_warp = warp * keys_of_word;

struct Params {
  const std::uint8_t* bytes = nullptr;   // or
  const std::uint8_t* packed = nullptr;
  std::uint32_t* words = nullptr;
  const MaskedRequest* requests = nullptr;  // [num_requests + 1]
  std::int32_t num_requests = 0;
};

// Whose a query of the batch is: the last request that begins at or before it. (An empty one begins where the next does.)
__device__ std::int32_t request_of(const Params& p, std::int32_t query) {
  std::int32_t low = 0, high = p.num_requests;
  while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    (p.requests[middle].first_query <= query ? low : high) = middle;
  }
  return low;
}

// Word `lane` of the warp's 32, of which `row` has the bytes of the first key, of as many as there are.
__device__ std::uint32_t word_of_bytes(const std::uint8_t* row, std::int32_t keys, int lane) {
  constexpr int at_once = 8;
  std::uint32_t word = 0;
  for (int first = 0; first * keys_of_word < keys && first < warp; first += at_once) {
    std::uint8_t byte[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const int key = (first + i) * keys_of_word + lane;
      byte[i] = key < keys ? row[key] : std::uint8_t{0};
    }
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const std::uint32_t vote = __ballot_sync(all_lanes, byte[i] != 0);
      if (lane == first + i) word = vote;
    }
  }
  return word;
}

// Of so many keys the first 32 or all, whose bits begin at `bit` and may be followed by other rows'. end_byte: of the request.
__device__ std::uint32_t word_of_bits(const std::uint8_t* packed, std::int64_t bit, std::int64_t end_byte, std::int32_t keys) {
  std::uint64_t five = 0;
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    const std::int64_t at = bit / 8 + i;
    if (at < end_byte) five |= std::uint64_t{packed[at]} << (8 * i);
  }
  const auto word = static_cast<std::uint32_t>(five >> (bit % 8));
  return keys >= keys_of_word ? word : word & ((1u << keys) - 1);
}

__global__ void __launch_bounds__(threads, blocks_of_sm) attention_mask_bits_kernel(const __grid_constant__ Params p) {
  const int lane = static_cast<int>(threadIdx.x % warp);
  griddepcontrol_wait();  // the kernel before may still write the mask, and one before it read the bits
  griddepcontrol_launch_dependents();
  const MaskedRequest end = p.requests[p.num_requests];
  const std::int64_t of_row = max(div_up(end.kv_len, keys_of_warp), 1), pieces = end.first_query * of_row;
  const std::int64_t step = std::int64_t{gridDim.x} * (threads / warp);
  for (std::int64_t piece = (std::int64_t{blockIdx.x} * threads + threadIdx.x) / warp; piece < pieces; piece += step) {
    const auto query = static_cast<std::int32_t>(piece / of_row);
    const auto first = static_cast<std::int32_t>(piece % of_row) * keys_of_warp;
    const std::int32_t number = request_of(p, query);
    const MaskedRequest request = p.requests[number], next = p.requests[number + 1];
    const std::int32_t at = first / keys_of_word + lane, words = words_of_row(request.kv_len);
    const std::int64_t i = query - request.first_query, row = request.word() + i * words;
    if (first == 0 && query + 1 == next.first_query) {
      const std::int64_t behind = next.word() + (query + 1 == end.first_query ? words_behind : 0);
      for (std::int64_t of_nobody = row + words + lane; of_nobody < behind; of_nobody += warp) p.words[of_nobody] = 0;
    }
    if (first >= request.kv_len) continue;
    const std::int64_t begin = i * request.kv_len + first;
    std::uint32_t word = 0;
    if (p.packed == nullptr) {
      word = word_of_bytes(p.bytes + request.byte + begin, request.kv_len - first, lane);
    } else if (at < words) {
      const std::int64_t bit = request.packed_byte * 8 + begin + lane * keys_of_word;
      word = word_of_bits(p.packed, bit, next.packed_byte, request.kv_len - at * keys_of_word);
    }
    if (at < words) p.words[row + at] = word;
  }
}

}  // namespace

AttentionCall make_mask_bits(const AttentionCall& call, const MaskMemory& to, cudaStream_t stream) {
  if (call.params.mask != MaskMode::custom) return call;
  constexpr std::int64_t most = std::numeric_limits<std::uint32_t>::max();
  require(to.capacity.words <= most, "custom_mask words", to.capacity.words, "of 32 keys must be less than 2^32");
  AttentionCall with_bits = call;
  with_bits.mask_bits = reinterpret_cast<const std::uint32_t*>(to.words);
  if (to.capacity.words == 0) return with_bits;
  const Params params{.bytes = call.custom_mask, .packed = call.packed_custom_mask,
                      .words = reinterpret_cast<std::uint32_t*>(to.words),
                      .requests = reinterpret_cast<const MaskedRequest*>(to.list), .num_requests = to.capacity.requests};
  const LaunchShape shape{.grid = std::int64_t{to.num_sms} * blocks_of_sm, .block = threads, .programmatic = call.programmatic};
  launch(attention_mask_bits_kernel, shape, stream, params);
  with_bits.programmatic = true;
  return with_bits;
}

}  // namespace flashladder::gpu
