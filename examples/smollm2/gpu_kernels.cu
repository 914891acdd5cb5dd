#include <cmath>

#include "gpu_kernels.hpp"

namespace gpu_kernels {
namespace {

constexpr int threads = 256;

__global__ void gather_rows(const __half* table, const std::int32_t* rows, __half* out, int d) {
  const std::int64_t from = static_cast<std::int64_t>(rows[blockIdx.x]) * d, to = static_cast<std::int64_t>(blockIdx.x) * d;
  for (int i = static_cast<int>(threadIdx.x); i < d; i += threads) out[to + i] = table[from + i];
}

__global__ void silu_times_up(const __half* gate_up, __half* out, int d) {
  const std::int64_t from = static_cast<std::int64_t>(blockIdx.x) * 2 * d, to = static_cast<std::int64_t>(blockIdx.x) * d;
  for (int i = static_cast<int>(threadIdx.x); i < d; i += threads) {
    const float gate = __half2float(gate_up[from + i]), up = __half2float(gate_up[from + d + i]);
    out[to + i] = __float2half(gate / (1 + expf(-gate)) * up);
  }
}

// A larger logit is better, and of equal ones the first.
__device__ bool better(float logit, int id, float other_logit, int other_id) {
  return logit > other_logit || (logit == other_logit && id < other_id);
}

__global__ void argmax_row(const float* logits, std::int32_t* ids, int d) {
  __shared__ float best_logit[threads];                                   // [threads]
  __shared__ int best_id[threads];                                        // [threads]
  const float* row = logits + static_cast<std::int64_t>(blockIdx.x) * d;  // [d]
  const int me = static_cast<int>(threadIdx.x);
  float logit = -INFINITY;
  int id = 0;
  for (int i = me; i < d; i += threads) {
    if (better(row[i], i, logit, id)) logit = row[i], id = i;
  }
  best_logit[me] = logit, best_id[me] = id;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();  // reads below come after the writes of the round before
    if (me >= half || !better(best_logit[me + half], best_id[me + half], best_logit[me], best_id[me])) continue;
    best_logit[me] = best_logit[me + half], best_id[me] = best_id[me + half];
  }
  if (me == 0) ids[blockIdx.x] = best_id[0];
}

}  // namespace

void gather(const __half* table, const std::int32_t* rows, __half* out, int n, int d, cudaStream_t stream) {
  gather_rows<<<static_cast<unsigned>(n), threads, 0, stream>>>(table, rows, out, d);
}
void silu(const __half* gate_up, __half* out, int n, int d, cudaStream_t stream) {
  silu_times_up<<<static_cast<unsigned>(n), threads, 0, stream>>>(gate_up, out, d);
}
void argmax(const float* logits, std::int32_t* ids, int n, int d, cudaStream_t stream) {
  argmax_row<<<static_cast<unsigned>(n), threads, 0, stream>>>(logits, ids, d);
}

}  // namespace gpu_kernels
