// A decode loop as a serving engine runs it: requests of different ages, one new token each step, two layers. Runs on the
// GPU where there is one, else on the CPU, with the same calls, and compares every o with the plain formula in double.
//
// Each step: grow the page table, plan once, then for every layer: RoPE, append the new key and value, attend.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <new>
#include <random>
#include <span>
#include <vector>

#include <flashladder/flashladder.hpp>
#ifdef FLASHLADDER_CUDA
#include <cuda_runtime_api.h>
#endif

namespace fl = flashladder;
namespace api = flashladder::api;

namespace {
constexpr int batch = 4, num_layers = 2, num_steps = 5, num_pages = 64, page_size = 16;
constexpr int num_qo_heads = 8, num_kv_heads = 2, head_dim = 64;
const api::Device device = api::best_device();

// Memory that this example never frees: managed on a GPU machine, so that host and device read it without copies.
void* memory(std::size_t bytes, [[maybe_unused]] bool staging = false) {
  void* data = nullptr;
#ifdef FLASHLADDER_CUDA
  if (device == api::Device::gpu) return (staging ? cudaMallocHost(&data, bytes) : cudaMallocManaged(&data, bytes)), data;
#endif
  return data = ::operator new(bytes, std::align_val_t{16});
}
void wait_for_device() {
#ifdef FLASHLADDER_CUDA
  if (device == api::Device::gpu) cudaDeviceSynchronize();
#endif
}
template <class T>
std::span<T> array(std::size_t n) {
  return {static_cast<T*>(memory(n * sizeof(T))), n};
}
fl::Tensor tensor(std::initializer_list<std::int64_t> shape, fl::DType dtype = fl::DType::f16) {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return fl::contiguous(memory(static_cast<std::size_t>(n) * size_of(dtype)), dtype, shape);
}

// In a model these come out of a matrix product.
void draw(const fl::Tensor& t, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < t.size(); ++i) t.data_as<fl::Half>()[i] = fl::Half(normal(random));
}

// o of one query head of one request by the plain formula: softmax(q K^T / sqrt(head_dim)) V, in double.
std::vector<double> plain_attention(const fl::PageTable& table, const fl::PagedKvCache& kv, const fl::Tensor& q, int b,
                                    int h) {
  const int kv_head = h / (num_qo_heads / num_kv_heads);
  const auto* query = q.data_as<fl::Half>() + (b * num_qo_heads + h) * head_dim;
  std::vector<double> o(head_dim, 0.0);
  double sum = 0;
  for (int token = 0; token < table.length(b); ++token) {
    const fl::KvSlot slot = table.locate(b, token);
    const auto* key = static_cast<const fl::Half*>(kv.k) + kv.k_strides.offset(slot, kv_head);
    const auto* value = static_cast<const fl::Half*>(kv.v) + kv.v_strides.offset(slot, kv_head);
    double dot = 0;
    for (int d = 0; d < head_dim; ++d) dot += double{static_cast<float>(query[d])} * static_cast<float>(key[d]);
    const double weight = std::exp(dot / std::sqrt(head_dim));  // these logits are small: no maximum to take away first
    sum += weight;
    for (int d = 0; d < head_dim; ++d) o[static_cast<std::size_t>(d)] += weight * static_cast<float>(value[d]);
  }
  for (double& x : o) x /= sum;
  return o;
}

// Largest difference from it of what decode.run() wrote for one layer.
double worst_error(const fl::HostPageTable& table, const fl::PagedKvCache& kv, const fl::Tensor& q, const fl::Tensor& o) {
  double worst = 0;
  const auto* got = o.data_as<fl::Half>();
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < num_qo_heads; ++h) {
      for (const double want : plain_attention(table.view(), kv, q, b, h)) {
        const double error = std::fabs(static_cast<float>(*got++) - want);
        worst = error <= worst ? worst : std::isnan(error) ? HUGE_VAL : error;
      }
    }
  }
  return worst;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  const api::AttentionConfig config{
      .heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = head_dim},
      .cache = {.page_size = page_size}, .execution = {.device = device}};
  const auto bytes = api::BatchDecodeWithPagedKVCache::workspace_bytes(config, api::AttentionLimits{batch, num_pages});
  const api::Workspace workspace{.device = array<std::byte>(bytes.device),
                                 .staging = {static_cast<std::byte*>(memory(bytes.staging, true)), bytes.staging}};
  api::BatchDecodeWithPagedKVCache decode(config, workspace);
  std::printf("decode on the %s, workspace %zu bytes, staging %zu\n", name_of(device), bytes.device, bytes.staging);

  fl::PagePool pool(num_pages, page_size, 7);
  std::vector<fl::PagedKvCache> layers;
  for (int l = 0; l < num_layers; ++l) {
    const fl::Tensor kv = tensor({num_pages, 2, page_size, num_kv_heads, head_dim});
    draw(kv, random);  // stands for the prompts that were prefilled
    layers.push_back(paged_kv_cache(kv, fl::KvLayout::NHD));
  }
  for (const int prompt : {100, 1, 37, 250}) pool.append(pool.add_request(), prompt);

  const auto indptr = array<std::int32_t>(batch + 1), last_page_len = array<std::int32_t>(batch);
  const auto rows = array<std::int32_t>(batch), positions = array<std::int32_t>(batch);
  const auto indices = array<std::int32_t>(num_pages);
  const fl::Tensor q = tensor({batch, num_qo_heads, head_dim}), o = tensor({batch, num_qo_heads, head_dim});
  const fl::Tensor k = tensor({batch, num_kv_heads, head_dim}), v = tensor({batch, num_kv_heads, head_dim});
  double worst = 0;
  for (int step = 0; step < num_steps; ++step) {
    for (const int request : pool.requests()) pool.append(request, 1);
    const fl::HostPageTable table = pool.table();
    std::copy(table.indptr.begin(), table.indptr.end(), indptr.begin());
    std::copy(table.indices.begin(), table.indices.end(), indices.begin());
    std::copy(table.last_page_len.begin(), table.last_page_len.end(), last_page_len.begin());
    for (int b = 0; b < batch; ++b) rows[b] = b, positions[b] = pool.length(b) - 1;
    decode.plan(table.indptr, table.last_page_len);
    for (const fl::PagedKvCache& kv : layers) {
      for (const fl::Tensor& t : {q, k, v}) draw(t, random);
      api::apply_rope_pos_ids_inplace(q, k, positions, {}, {device});
      api::append_paged_kv_cache(k, v, rows, positions, kv, indptr, indices.first(table.indices.size()), last_page_len,
                                 {device});
      decode.run(q, kv, indices, {o, {}});
      wait_for_device();  // only because the host looks at the result
      worst = std::fmax(worst, worst_error(table, kv, q, o));
    }
  }
  std::printf("%d steps of %d requests, %d layers: largest error %.1e\n", num_steps, batch, num_layers, worst);
  return worst < 4e-3 ? 0 : 1;  // o is an f16 number below 4: half a unit in its last place is up to 1e-3
}
