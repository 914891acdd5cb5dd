// The operations' way to the GPU through api: device pointers, stream and options arrive. What the kernels compute, to the
// bit, is for tests/gpu_ops_*.cpp.
#include <doctest/doctest.h>

#include <random>

#include "reference/rope_ops.hpp"
#include "tests/api_gpu.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::test;
using ops_test::Padded;

namespace {

// What one call of RoPE and append is given, on the host or on the device.
struct Append {
  Tensor q, key, value, pool, cos_sin;
  const std::int32_t* ints;  // the page table's three arrays, batch indices and positions, one after the other

  void call(bool computed, const On& on) const {
    const PagedKvCache to = paged_kv_cache(pool, KvLayout::NHD);
    const std::span<const std::int32_t> indptr(ints, 4), ids(ints + 4, 3), last(ints + 7, 3), rows(ints + 10, 4),
        positions(ints + 14, 4);
    if (computed) {
      rope_pos_ids_append_paged_kv_cache(q, key, value, rows, positions, to, indptr, ids, last, {.interleave = true}, on);
    } else {
      rope_with_cos_sin_cache_append_paged_kv_cache(q, key, value, cos_sin, rows, positions, to, indptr, ids, last, true,
                                                    on);
    }
  }
};

gpu::DeviceBuffer upload(const Padded& p) { return {p.bytes().data(), p.bytes().size()}; }

// The same tensor in other memory.
Tensor over(const gpu::DeviceBuffer& memory, Tensor t) {
  t.data = memory.data();
  return t;
}

void check_near(const gpu::DeviceBuffer& got, const Padded& want) {
  Padded host(want.t().dtype, {want.size()}, 0);
  REQUIRE(got.size() == host.bytes().size());
  got.download(host.t().data);
  int wrong = 0;
  for (std::int64_t i = 0; i < want.size(); ++i) wrong += host.get(i) == doctest::Approx(want.get(i)).epsilon(2e-3) ? 0 : 1;
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("the operations reach the GPU") {
  std::mt19937 random(5);
  Padded x(DType::f16, {7, 256}, 0), weight(DType::f16, {256}, 0), expected(DType::f16, {7, 256}, 0);
  x.fill(random, -1, 1), weight.fill(random, -1, 1);
  const gpu::DeviceBuffer x_gpu(x.bytes().data(), x.bytes().size());
  const gpu::DeviceBuffer weight_gpu(weight.bytes().data(), weight.bytes().size());
  rmsnorm(x.t(), weight.t(), expected.t());
  const Tensor on_gpu = contiguous(x_gpu.data(), DType::f16, {7, 256});
  const GpuStream stream;
  rmsnorm(on_gpu, contiguous(weight_gpu.data(), DType::f16, {256}), on_gpu, 1e-6f, {Device::gpu, stream});
  gpu::check(cudaStreamSynchronize(stream));
  x_gpu.download(const_cast<unsigned char*>(x.bytes().data()));
  for (std::int64_t i = 0; i < x.size(); ++i) CHECK(x.get(i) == doctest::Approx(expected.get(i)).epsilon(2e-3));
}

TEST_CASE("Gemma's norms, layernorm, Llama 3.1's angles and slots reach the GPU") {
  std::mt19937 random(6);
  const GpuStream stream;
  const On on{Device::gpu, stream};
  Padded x(DType::f16, {4, 256}, 0), residual(DType::f16, {4, 256}, 0), weight(DType::f16, {256}, 0);
  Padded beta(DType::f16, {256}, 0), pool(DType::f16, {3, 2, 4, 2, 128}, 0);
  for (Padded* p : {&x, &residual, &weight, &beta, &pool}) p->fill(random, -1, 1);
  const gpu::DeviceBuffer x_gpu = upload(x), residual_gpu = upload(residual), weight_gpu = upload(weight);
  const gpu::DeviceBuffer beta_gpu = upload(beta), pool_gpu = upload(pool);
  const std::vector<std::int32_t> positions{0, 9000, 5, 131071};
  const std::vector<std::int64_t> slots{11, -1, 0, 6};
  const gpu::DeviceBuffer positions_gpu(positions.data(), 4 * sizeof(std::int32_t));
  const gpu::DeviceBuffer slots_gpu(slots.data(), 4 * sizeof(std::int64_t));
  const auto all = [&](const Tensor& t, const Tensor& r, const Tensor& w, const Tensor& b, const Tensor& kv,
                       std::span<const std::int32_t> angles, std::span<const std::int64_t> places, const On& where) {
    gemma_rmsnorm(t, w, t, 1e-6f, where);
    gemma_fused_add_rmsnorm(t, r, w, 1e-6f, where);
    layernorm(t, w, b, t, 1e-6f, where);
    const PagedKvCache cache = paged_kv_cache(kv, KvLayout::NHD);
    const Tensor q = contiguous(t.data, DType::f16, {4, 2, 128}), k = contiguous(r.data, DType::f16, {4, 2, 128});
    apply_llama31_rope_pos_ids_inplace(q, k, angles, llama31_rope, where);
    rope_pos_ids_append_paged_kv_cache(q, k, k, angles, places, cache, llama31_rope, where);
  };
  all(x.t(), residual.t(), weight.t(), beta.t(), pool.t(), positions, slots, {});
  all(over(x_gpu, x.t()), over(residual_gpu, residual.t()), over(weight_gpu, weight.t()), over(beta_gpu, beta.t()),
      over(pool_gpu, pool.t()), {positions_gpu.as<std::int32_t>(), 4}, {slots_gpu.as<std::int64_t>(), 4}, on);
  gpu::check(cudaStreamSynchronize(stream));
  // Five roundings to f16 behind each other, each of a number of about 1, and the CPU's and the GPU's may differ.
  const auto check = [](const gpu::DeviceBuffer& got, const Padded& want) {
    Padded host(DType::f16, {want.size()}, 0);
    got.download(host.t().data);
    int wrong = 0;
    for (std::int64_t i = 0; i < want.size(); ++i) wrong += !(std::abs(host.get(i) - want.get(i)) <= 0.02);
    CHECK(wrong == 0);
  };
  check(x_gpu, x);
  check(residual_gpu, residual);
  check(pool_gpu, pool);
}

TEST_CASE("RoPE and append at once on the GPU equal the CPU") {
  const std::vector<std::int32_t> ints{0, 2, 2, 3, /* page ids */ 3, 0, 1, /* last_page_len */ 1, 0, 4,
                                       /* batch indices */ 0, -1, 2, 2, /* positions */ 4, -77, 0, 3};
  const gpu::DeviceBuffer ints_gpu(ints.data(), ints.size() * sizeof(std::int32_t));
  std::vector<float> cache = reference::make_cos_sin_cache(5, 32);
  const gpu::DeviceBuffer cache_gpu(cache.data(), cache.size() * sizeof(float));
  const GpuStream stream;
  for (const bool computed : {false, true}) {
    std::mt19937 random(7);
    Padded q(DType::f16, {4, 6, 32}, 0), key(DType::f16, {4, 2, 32}, 0), value(DType::f16, {4, 2, 32}, 0);
    Padded pool(DType::f16, {4, 2, 4, 2, 32}, 0);
    for (Padded* p : {&q, &key, &value, &pool}) p->fill(random, -1, 1);
    const gpu::DeviceBuffer q_gpu = upload(q), key_gpu = upload(key), value_gpu = upload(value), pool_gpu = upload(pool);
    const Append host{q.t(), key.t(), value.t(), pool.t(), contiguous(cache.data(), DType::f32, {5, 32}), ints.data()};
    const Append device{over(q_gpu, q.t()), over(key_gpu, key.t()), over(value_gpu, value.t()), over(pool_gpu, pool.t()),
                        over(cache_gpu, host.cos_sin), ints_gpu.as<std::int32_t>()};
    host.call(computed, {});
    device.call(computed, {Device::gpu, stream});
    gpu::check(cudaStreamSynchronize(stream));
    check_near(q_gpu, q);
    check_near(key_gpu, key);
    check_near(pool_gpu, pool);
  }
}

// At most one step of fp8 apart: the GPU's norms and angles are float's.
TEST_CASE("what is stored as fp8 reaches the GPU, with its scales") {
  std::mt19937 random(8);
  const GpuStream stream;
  Padded x(DType::f16, {4, 256}, 0), residual(DType::f16, {4, 256}, 0), weight(DType::f16, {256}, 0);
  for (Padded* p : {&x, &residual, &weight}) p->fill(random, -1, 1);
  const std::vector<float> scales{0.03f, 0.004f};
  const std::vector<std::int32_t> ints{0, 2, 3, /* page ids */ 2, 0, 1, /* last_page_len */ 1, 4, /* batch indices */ 0, -1, 1,
                                       1,
                                       /* positions */ 4, 0, 0, 3};
  const std::vector<std::int64_t> slots{11, -1, 0, 6};
  const std::vector<float> angles = reference::make_cos_sin_cache(5, 128);
  const gpu::DeviceBuffer x_gpu = upload(x), residual_gpu = upload(residual), weight_gpu = upload(weight);
  const gpu::DeviceBuffer scales_gpu(scales.data(), sizeof(float) * 2), angles_gpu(angles.data(), sizeof(float) * 5 * 128);
  const gpu::DeviceBuffer ints_gpu(ints.data(), sizeof(std::int32_t) * 16), slots_gpu(slots.data(), sizeof(std::int64_t) * 4);
  // Writes seven results of 3072 bytes: six pools [3, 2, 4, 2, 128] / 2, and in the last three norms.
  constexpr std::int64_t bytes = 2 * 3 * 4 * 2 * 128;
  const auto all = [&](void* results, const Tensor& t, const Tensor& r, const Tensor& w, const float* s, const float* cos_sin,
                       const std::int32_t* i, const std::int64_t* places, const On& on) {
    const auto memory = [&](int n) { return static_cast<std::uint8_t*>(results) + n * bytes; };
    const auto cache = [&](int n) {
      return paged_kv_cache(contiguous(memory(n), DType::f8_e4m3, {3, 2, 4, 2, 128}), KvLayout::NHD);
    };
    const Tensor k = contiguous(r.data, DType::f16, {4, 2, 128}), q = contiguous(t.data, DType::f16, {4, 2, 128});
    const Tensor table = contiguous(const_cast<float*>(cos_sin), DType::f32, {5, 128});
    const std::span<const std::int32_t> indptr(i, 3), ids(i + 3, 3), last(i + 6, 2), rows(i + 8, 4), positions(i + 12, 4);
    const std::span<const std::int64_t> to(places, 4);
    const KvScales kv{.k = 0.02f, .v_per_head = {s, 2}};
    append_paged_kv_cache(k, k, rows, positions, cache(0), indptr, ids, last, on, kv);
    append_paged_kv_cache(k, k, to, cache(1), on, kv);
    rope_pos_ids_append_paged_kv_cache(q, k, k, rows, positions, cache(2), indptr, ids, last, {}, on, kv);
    rope_pos_ids_append_paged_kv_cache(q, k, k, positions, to, cache(3), {}, on, kv);
    rope_with_cos_sin_cache_append_paged_kv_cache(q, k, k, table, rows, positions, cache(4), indptr, ids, last, true, on, kv);
    rope_with_cos_sin_cache_append_paged_kv_cache(q, k, k, table, positions, to, cache(5), true, on, kv);
    rmsnorm_quant(t, w, contiguous(memory(6), DType::f8_e4m3, {4, 256}), {.stored = s}, 1e-6f, on);
    fused_add_rmsnorm_quant(t, r, w, contiguous(memory(6) + 1024, DType::f8_e5m2, {4, 256}), {.number = 0.01f}, 1e-6f, on);
    layernorm_quant(t, w, w, contiguous(memory(6) + 2048, DType::f8_e4m3, {4, 256}), {.stored = s}, 1e-6f, on);
  };
  std::vector<std::uint8_t> want(7 * bytes, 0), got(7 * bytes, 0);
  const gpu::DeviceBuffer got_gpu(got.data(), got.size());
  all(got_gpu.data(), over(x_gpu, x.t()), over(residual_gpu, residual.t()), over(weight_gpu, weight.t()),
    scales_gpu.as<float>(),
      angles_gpu.as<float>(), ints_gpu.as<std::int32_t>(), slots_gpu.as<std::int64_t>(), {Device::gpu, stream});
  gpu::check(cudaStreamSynchronize(stream));
  got_gpu.download(got.data());
  all(want.data(), x.t(), residual.t(), weight.t(), scales.data(), angles.data(), ints.data(), slots.data(), {});
  for (std::size_t n = 0; n < 7; ++n) {
    CAPTURE(n);
    int far = 0, written = 0;
    for (std::size_t i = n * bytes; i < (n + 1) * bytes; ++i) {
      far += std::abs(got[i] - want[i]) > (n < 2 ? 0 : 1);
      written += want[i] != 0;
    }
    CHECK(far == 0);
    CHECK(written > 1000);
  }
}
