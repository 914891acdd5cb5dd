// Appending to fp8 caches on the GPU: rows that are quantised on their way are the CPU reference's, in every byte of the
// pools. With RoPE the rotations of the cache of cosines are repeated here to the bit; those of positions have float's slack.
#include <cmath>
#include <limits>

#include "gpu/append/append.hpp"
#include "gpu/rope/rope.hpp"
#include "reference/append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/gpu_append_data.hpp"
#include "tests/options.hpp"
#include "tests/rope_exact.hpp"

using namespace flashladder;
using namespace ops_test;

namespace fp8 {
namespace {

constexpr DType fp8_dtypes[] = {DType::f8_e4m3, DType::f8_e5m2};

enum class Scaling { none, numbers, per_head, k_per_head };
constexpr Scaling scalings[] = {Scaling::none, Scaling::numbers, Scaling::per_head, Scaling::k_per_head};

// The same scales on the host and on the device.
class Scales {
 public:
  Scales(Scaling scaling, int heads, bool extreme, std::mt19937& random)
      : k_(some(heads, extreme, random)), v_(some(heads, extreme, random)), k_gpu_(k_), v_gpu_(v_) {
    if (scaling == Scaling::numbers) host = {.k = 0.017f, .v = 0.3f};
    if (scaling == Scaling::k_per_head) host.v = 1.7f;
    if (scaling == Scaling::per_head || scaling == Scaling::k_per_head) host.k_per_head = k_;
    if (scaling == Scaling::per_head) host.v_per_head = v_;
    device = host;
    if (!host.k_per_head.empty()) device.k_per_head = k_gpu_.span();
    if (!host.v_per_head.empty()) device.v_per_head = v_gpu_.span();
  }
  KvScales host, device;

 private:
  // extreme: subnormal ones and those of which a quotient leaves float's range, too.
  static std::vector<float> some(int heads, bool extreme, std::mt19937& random) {
    std::uniform_real_distribution<float> exponent(-8, 3);
    std::vector<float> scales(static_cast<std::size_t>(heads));
    for (float& s : scales) s = std::exp2(exponent(random));
    for (std::size_t h = 0; extreme && h < scales.size(); ++h) {
      if (h % 4 == 1) scales[h] = 1e-41f;
      if (h % 4 == 2) scales[h] = 3e38f;
    }
    return scales;
  }
  std::vector<float> k_, v_;
  DeviceArray<float> k_gpu_, v_gpu_;
};

// Among the rows' numbers: NaN, infinities, what saturates, ties of both formats, signed zeros and subnormal numbers.
void put_specials(AppendRows& rows, const AppendBatch& batch) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const double specials[] = {NAN, -NAN, inf, -inf, 1e30, -6e4, 448, -464, 465, 57344, 61440, -0.0, 0, 0x1p-10, 0x1.8p-9,
                             -0x1p-17, 0x1.8p-16, 1.0625, 1.1875, 1.125, 1.375, 0x1p-24, 0x1p-130, -1e-40};
  for (Padded* p : {&rows.key, &rows.value}) {
    const std::int64_t row = p->size() / batch.nnz();
    for (std::int64_t i = 0; i < p->size(); i += 5) {
      if (batch.requests[static_cast<std::size_t>(i / row)] >= 0) p->set(i, specials[i / 5 % std::ssize(specials)]);
    }
  }
}

void check_quantised(const AppendCase& c, DType rows_dtype, Scaling scaling, std::uint64_t seed) {
  INFO("append ", name_of(rows_dtype), " to ", name_of(c.dtype), " scaling ", static_cast<int>(scaling), " heads ", c.heads,
       " dims ", c.dim_k, "/", c.dim_v, " page ", c.page_size, " ", name_of(c.layout), c.one_tensor ? " one tensor" : "",
       " pad ", c.pad, " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  const AppendBatch batch(c, random);
  AppendRows rows(rows_dtype, c, batch, random);
  put_specials(rows, batch);
  const Scales scales(scaling, c.heads, seed % 2 == 0, random);
  const AppendPools pools(c, batch.pages), expected(c, batch.pages);
  const DevicePools by_table(pools), by_slots(pools);
  const DeviceBatch arrays(batch);
  const DeviceArray<std::int64_t> slots(batch.slots(c.page_size));
  const OnDevice key(rows.key), value(rows.value);
  gpu::append_paged_kv_cache(key.t(), value.t(), arrays.requests.span(), arrays.positions.span(), by_table.cache(),
                             arrays.table(), nullptr, false, scales.device);
  gpu::append_paged_kv_cache(key.t(), value.t(), slots.span(), by_slots.cache(), nullptr, false, scales.device);
  reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), batch.requests, batch.positions, expected.cache(),
                                   batch.indptr, batch.indices, batch.last, scales.host);
  CHECK(by_table.difference(expected) == "");
  CHECK(by_slots.difference(expected) == "");
}

struct Rope {
  int q_heads, rotary_dim;
  bool interleave, computed;
};

// The rows' keys in f32 as RoPE leaves them, before they are quantised: the smallest and the largest that the GPU may have.
struct RotatedKeys {
  Padded low, high;
  RotatedKeys(const AppendCase& c, const AppendBatch& batch, const Padded& key, const Rope& rope, const Padded& cos_sin)
      : low(DType::f32, {batch.nnz(), c.heads, c.dim_k}), high(DType::f32, {batch.nnz(), c.heads, c.dim_k}) {
    const RopeCase turn{.dim = c.dim_k, .rotary_dim = rope.rotary_dim, .interleave = rope.interleave, .scale = 2,
                        .theta = 5e5f};
    for (int i = 0; i < batch.nnz() * c.heads; ++i) {
      const int request = batch.requests[static_cast<std::size_t>(i / c.heads)];
      const int position = request < 0 ? 0 : batch.positions[static_cast<std::size_t>(i / c.heads)];
      std::vector<double> head;
      for (int d = 0; d < c.dim_k; ++d) head.push_back(key.get(std::int64_t{i} * c.dim_k + d));
      const RotatedRow exact = rotated_row(head, turn, [&](int p) {
        return rope.computed ? exact_rotation(position, p, turn) : LongRotation{1, 0};
      });
      for (int d = 0; d < c.dim_k; ++d) {
        const std::int64_t at = std::int64_t{i} * c.dim_k + d;
        const double x = exact.exact[static_cast<std::size_t>(d)];
        const bool off = rope.computed && d < rope.rotary_dim;
        const double slack = rotation_slack(true) * exact.scale[static_cast<std::size_t>(d)];
        low.set(at, off ? x - slack : x);
        high.set(at, off ? x + slack : x);
      }
      if (!rope.computed) rotate_as_the_gpu(head, i, position, rope, cos_sin);
    }
  }

 private:
  // gpu/rope/rotate.cuh, its roundings too.
  void rotate_as_the_gpu(const std::vector<double>& head, int i, int position, const Rope& rope, const Padded& cos_sin) {
    const int half = rope.rotary_dim / 2;
    for (int p = 0; p < half; ++p) {
      const int a = rope.interleave ? 2 * p : p, b = rope.interleave ? 2 * p + 1 : p + half;
      const auto cos = static_cast<float>(cos_sin.get(std::int64_t{position} * rope.rotary_dim + p));
      const auto sin = static_cast<float>(cos_sin.get(std::int64_t{position} * rope.rotary_dim + half + p));
      const auto x = static_cast<float>(head[static_cast<std::size_t>(a)]);
      const auto y = static_cast<float>(head[static_cast<std::size_t>(b)]);
      for (Padded* to : {&low, &high}) {
        to->set(std::int64_t{i} * std::ssize(head) + a, std::fma(x, cos, -(y * sin)));
        to->set(std::int64_t{i} * std::ssize(head) + b, std::fma(y, cos, x * sin));
      }
    }
  }
};

void check_rope_quantised(const AppendCase& c, DType rows_dtype, const Rope& rope, Scaling scaling, std::uint64_t seed) {
  INFO("rope and append ", name_of(rows_dtype), " to ", name_of(c.dtype), " scaling ", static_cast<int>(scaling), " heads ",
       rope.q_heads, "/", c.heads, " dims ", c.dim_k, "/", c.dim_v, " rotary ", rope.rotary_dim, " interleave ",
       rope.interleave, " computed ", rope.computed, " page ", c.page_size, " ", name_of(c.layout), " pad ", c.pad, " seed ",
       seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  const AppendBatch batch(c, random);
  AppendRows rows(rows_dtype, c, batch, random);
  if (!rope.computed) put_specials(rows, batch);
  const Scales scales(scaling, c.heads, false, random);
  Padded q(rows_dtype, {batch.nnz(), rope.q_heads, c.dim_k}, c.pad), no_k(rows_dtype, {batch.nnz(), 0, c.dim_k});
  Padded q_expected(rows_dtype, {batch.nnz(), rope.q_heads, c.dim_k}, c.pad);
  q.fill(random, -2, 2);
  const std::vector<float> table = reference::make_cos_sin_cache(c.longest, rope.rotary_dim, 2, 5e5f);
  Padded cos_sin(DType::f32, {c.longest, rope.rotary_dim}, c.pad % 4 == 0 ? 4 : 1);
  for (std::int64_t i = 0; i < cos_sin.size(); ++i) cos_sin.set(i, table[static_cast<std::size_t>(i)]);

  const AppendPools pools(c, batch.pages), low(c, batch.pages), high(c, batch.pages);
  const DevicePools by_table(pools), by_slots(pools);
  const DeviceBatch arrays(batch);
  const DeviceArray<std::int64_t> slots(batch.slots(c.page_size));
  Ints places = batch.positions;  // a row of padding has none
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = batch.requests[i] < 0 ? 0 : places[i];
  const DeviceArray<std::int32_t> positions(places);
  const OnDevice key(rows.key), value(rows.value), q_table(q), q_slots(q), q_alone(q), alone(no_k), angles(cos_sin);
  const auto at = arrays.positions.span();
  if (rope.computed) {
    gpu::rope_pos_ids_append_paged_kv_cache(q_table.t(), key.t(), value.t(), rope.rotary_dim, rope.interleave, 2, 5e5f,
                                            arrays.requests.span(), at, by_table.cache(), arrays.table(), nullptr, false, {},
                                            scales.device);
    gpu::rope_pos_ids_append_paged_kv_cache(q_slots.t(), key.t(), value.t(), rope.rotary_dim, rope.interleave, 2, 5e5f, at,
                                            slots.span(), by_slots.cache(), nullptr, false, {}, scales.device);
    gpu::apply_rope_pos_ids_inplace(q_alone.t(), alone.t(), positions.span(), rope.rotary_dim, rope.interleave, 2, 5e5f,
                                    nullptr);
  } else {
    gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q_table.t(), key.t(), value.t(), angles.t(), !rope.interleave,
                                                       arrays.requests.span(), at, by_table.cache(), arrays.table(), nullptr,
                                                       false, scales.device);
    gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q_slots.t(), key.t(), value.t(), angles.t(), !rope.interleave, at,
                                                       slots.span(), by_slots.cache(), nullptr, false, scales.device);
    gpu::apply_rope_with_cos_sin_cache_inplace(positions.span(), q_alone.t(), alone.t(), angles.t(), !rope.interleave,
                                               nullptr);
  }
  const RotatedKeys keys(c, batch, rows.key, rope, cos_sin);
  Padded wide_value(DType::f32, {batch.nnz(), c.heads, c.dim_v});
  for (std::int64_t i = 0; i < wide_value.size(); ++i) wide_value.set(i, rows.value.get(i));
  for (const auto& [key32, pool] : {std::pair{&keys.low, &low}, {&keys.high, &high}}) {
    reference::append_paged_kv_cache(key32->t(), wide_value.t(), batch.requests, batch.positions, pool->cache(),
                                     batch.indptr, batch.indices, batch.last, scales.host);
  }
  CHECK(by_table.difference(low, high) == "");
  CHECK(by_slots.difference(low, high) == "");
  q_alone.fetch(q_expected);  // which tests/gpu_ops_rope.cpp holds to the exact rotation
  const std::int64_t row = q.size() / batch.nnz();
  for (std::int64_t i = 0; i < q.size(); ++i) {
    if (batch.requests[static_cast<std::size_t>(i / row)] < 0) q_expected.set(i, q.get(i));  // padding stays as it was
  }
  const bool q_right = q_table.bytes() == q_expected.bytes() && q_slots.bytes() == q_expected.bytes();
  CHECK(q_right);
  CHECK((key.bytes() == rows.key.bytes() && value.bytes() == rows.value.bytes()));  // rows are only read
  CHECK((q_table.guards_intact() && q_slots.guards_intact()));
}

}  // namespace

TEST_CASE("append to fp8 on the GPU: the pools are the CPU reference's in every byte") {
  for (const DType cache : fp8_dtypes) {
    for (const DType rows : all_dtypes) {
      for (const KvLayout layout : layouts) {
        for (const Scaling scaling : scalings) {
          AppendCase c{.dtype = cache, .layout = layout};
          check_quantised(c, rows, scaling, 1);
          c.one_tensor = true;
          check_quantised(c, rows, scaling, 2);
          c.pad = 3;  // not aligned: element by element
          check_quantised(c, rows, scaling, 3);
          check_quantised({.dtype = cache, .heads = 33, .dim_k = 64, .dim_v = 80, .batch = 1, .layout = layout}, rows, scaling,
                          4);
        }
        check_quantised({.dtype = cache, .heads = 3, .dim_k = 80, .dim_v = 96, .page_size = 5, .layout = layout}, rows,
                        Scaling::numbers, 5);
        check_quantised({.dtype = cache, .heads = 5, .dim_k = 576, .dim_v = 512, .layout = layout}, rows, Scaling::per_head,
                        6);
        check_quantised({.dtype = cache, .heads = 2, .dim_k = 5, .dim_v = 7, .page_size = 3, .layout = layout, .pad = 1}, rows,
                        Scaling::per_head, 7);
        check_quantised({.dtype = cache, .batch = 40, .longest = 500, .most_rows = 3000, .layout = layout}, rows,
                        Scaling::per_head, 8);
      }
    }
  }
}

TEST_CASE("append with RoPE to fp8 on the GPU: rotated in float and rounded once") {
  for (const DType cache : fp8_dtypes) {
    for (const DType rows : gpu_dtypes) {
      for (const bool interleave : {false, true}) {
        for (const bool computed : {false, true}) {
          const auto check = [&](AppendCase c, int q_heads, int rotary_dim, Scaling scaling, std::uint64_t seed) {
            c.dtype = cache;
            c.layout = layouts[seed % 2];
            check_rope_quantised(c, rows, {q_heads, rotary_dim, interleave, computed}, scaling, seed);
          };
          check({}, 32, 128, Scaling::per_head, 1);
          check({.page_size = 1, .one_tensor = true}, 5, 64, Scaling::numbers, 2);
          check({.heads = 2, .dim_k = 192, .dim_v = 128}, 6, 96, Scaling::none, 3);
          check({.heads = 2, .dim_k = 64, .dim_v = 128}, 6, 64, Scaling::per_head, 4);
          check({.heads = 3, .dim_k = 70, .dim_v = 33}, 4, 10, Scaling::per_head, 5);
          check({.pad = 3}, 8, 128, Scaling::k_per_head, 6);
          check({.batch = 20, .longest = 300, .most_rows = 300}, 32, 128, Scaling::per_head, 7);
        }
      }
    }
  }
}

TEST_CASE("append to fp8 on the GPU: random cases") {
  const int cases = test::options().cases_or(60);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    AppendCase c = random_append_case(random);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    c.dtype = fp8_dtypes[below(2)];
    check_quantised(c, all_dtypes[below(3)], scalings[below(4)], seed);
    const int rotary_dim = below(2) == 0 ? c.dim_k / 2 * 2 : 2 * (1 + below(c.dim_k / 2));
    c.most_rows = std::min(c.most_rows, 100);
    const Rope rope{1 + below(40), rotary_dim, below(2) == 0, below(2) == 0};
    check_rope_quantised(c, gpu_dtypes[below(2)], rope, scalings[below(4)], seed);
  }
}

}  // namespace fp8
