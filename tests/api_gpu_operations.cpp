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
