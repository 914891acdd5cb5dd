// get_batch_indices_positions and get_seq_lens: a thread computes one entry. Must equal reference/append.cpp, bit for bit.
#include "core/checks.hpp"
#include "core/error.hpp"
#include "gpu/append/append.hpp"
#include "gpu/launch.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {
namespace {

constexpr int threads = 128;

LaunchShape one_thread_each(std::size_t entries, bool enable_pdl) {
  const std::int64_t blocks = (static_cast<std::int64_t>(entries) + threads - 1) / threads;
  return {.grid = blocks, .block = threads, .programmatic = enable_pdl};
}

// The request of row i is the last one that begins at or before i (a request without rows begins where the next one does).
// Binary search finds it, so that the time does not depend on how rows are spread over requests.
__global__ void append_indices_kernel(const std::int32_t* append_indptr, const std::int32_t* seq_lens, std::int32_t batch,
                                      std::int32_t* batch_indices, std::int32_t* positions, std::int64_t nnz) {
  const std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  griddepcontrol_wait();  // the previous kernel on the stream may still write the arrays, or read the results
  griddepcontrol_launch_dependents();
  if (i >= nnz) return;
  const bool padding = i >= append_indptr[batch];
  std::int32_t low = 0, high = padding ? 0 : batch;  // row i belongs to one of the requests low .. high - 1
  while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    (append_indptr[middle] <= i ? low : high) = middle;
  }
  batch_indices[i] = padding ? -1 : low;
  positions[i] = padding ? 0 : seq_lens[low] - (append_indptr[low + 1] - static_cast<std::int32_t>(i));
}

__global__ void append_lengths_kernel(const __grid_constant__ PageTable table, std::int32_t* seq_lens) {
  const std::int64_t r = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  griddepcontrol_wait();  // the previous kernel on the stream may still write the page table, or read the lengths
  griddepcontrol_launch_dependents();
  if (r < table.num_requests) seq_lens[r] = table.length(static_cast<std::int32_t>(r));
}

}  // namespace

void get_batch_indices_positions(std::span<const std::int32_t> append_indptr, std::span<const std::int32_t> seq_lens,
                                 std::span<std::int32_t> batch_indices, std::span<std::int32_t> positions,
                                 cudaStream_t stream, bool enable_pdl) {
  const auto batch = static_cast<std::int64_t>(seq_lens.size()), nnz = static_cast<std::int64_t>(batch_indices.size());
  check_span("seq_lens", seq_lens, batch);
  check_span("append_indptr", append_indptr, batch + 1);
  check_span("batch_indices", batch_indices, nnz);
  check_span("positions", positions, nnz);
  launch(append_indices_kernel, one_thread_each(batch_indices.size(), enable_pdl), stream, append_indptr.data(),
         seq_lens.data(), static_cast<std::int32_t>(batch), batch_indices.data(), positions.data(), nnz);
}

void get_seq_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_last_page_len,
                  std::int32_t page_size, std::span<std::int32_t> seq_lens, cudaStream_t stream, bool enable_pdl) {
  const auto batch = static_cast<std::int64_t>(kv_last_page_len.size());
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  check_span("kv_last_page_len", kv_last_page_len, batch);
  check_span("kv_indptr", kv_indptr, batch + 1);
  check_span("seq_lens", seq_lens, batch);
  const PageTable table{kv_indptr.data(), nullptr, kv_last_page_len.data(), page_size, static_cast<std::int32_t>(batch)};
  launch(append_lengths_kernel, one_thread_each(seq_lens.size(), enable_pdl), stream, table, seq_lens.data());
}

}  // namespace flashladder::gpu
