// Appending on the GPU: every byte of the pools is what the CPU reference leaves, and the index arrays are, bit for bit.
#include "gpu/append/append.hpp"
#include "gpu/rope/rope.hpp"
#include "reference/append.hpp"
#include "reference/mla/append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/gpu_append_data.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

void check_append_case(const AppendCase& c, std::uint64_t seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  const AppendBatch batch(c, random);
  const AppendRows rows(c.dtype, c, batch, random);
  const AppendPools pools(c, batch.pages), expected(c, batch.pages);
  const DevicePools device(pools);
  const DeviceBatch arrays(batch);
  const OnDevice key(rows.key), value(rows.value);
  gpu::append_paged_kv_cache(key.t(), value.t(), arrays.requests.span(), arrays.positions.span(), device.cache(),
                             arrays.table(), nullptr);
  reference::append_paged_kv_cache(rows.key.t(), rows.value.t(), batch.requests, batch.positions, expected.cache(),
                                   batch.indptr, batch.indices, batch.last);
  const std::string wrong = device.difference(expected);
  CHECK_MESSAGE(wrong == "", "seed ", seed);
  const DevicePools by_slots(pools);
  const DeviceArray<std::int64_t> slots(batch.slots(c.page_size));
  gpu::append_paged_kv_cache(key.t(), value.t(), slots.span(), by_slots.cache(), nullptr);
  const std::string slots_wrong = by_slots.difference(expected);
  CHECK_MESSAGE(slots_wrong == "", "by slots, seed ", seed);
  if (wrong != "" || slots_wrong != "") info(c);
}

// Latent rows, of one pool or of two: as keys and values of one head of other widths.
void check_latent_case(DType dtype, DType cache, bool one_tensor, std::int64_t pad, std::uint64_t seed) {
  constexpr int ckv = 512, kpe = 64;
  std::mt19937 random(static_cast<unsigned>(seed));
  const AppendBatch batch({.page_size = 16}, random);
  Padded rows(dtype, {batch.nnz(), ckv}, pad), pe(dtype, {batch.nnz(), kpe}, pad);
  rows.fill(random, -2, 2);
  pe.fill(random, -2, 2);
  const MlaScales scales = dtype == cache ? MlaScales{} : MlaScales{.k = 0.013f, .kpe = 0.3f};
  Padded both(cache, {batch.pages, 16, ckv + kpe}, pad), a(cache, {batch.pages, 16, ckv}, pad),
      b(cache, {batch.pages, 16, kpe}, pad);
  const OnDevice device_both(both), device_a(a), device_b(b), device_rows(rows), device_pe(pe);
  const DeviceBatch arrays(batch);
  gpu::append_paged_mla_kv_cache(device_rows.t(), device_pe.t(), arrays.requests.span(), arrays.positions.span(),
                                 one_tensor ? paged_mla_cache(device_both.t(), ckv)
                                            : paged_mla_cache(device_a.t(), device_b.t()),
                                 arrays.table(), nullptr, false, scales);
  reference::append_paged_mla_kv_cache(rows.t(), pe.t(), batch.requests, batch.positions,
                                       one_tensor ? paged_mla_cache(both.t(), ckv) : paged_mla_cache(a.t(), b.t()),
                                       batch.indptr, batch.indices, batch.last, scales);
  CHECK_MESSAGE(device_both.bytes() == both.bytes(), "seed ", seed, " pad ", pad);
  CHECK_MESSAGE(device_a.bytes() == a.bytes(), "seed ", seed, " pad ", pad);
  CHECK_MESSAGE(device_b.bytes() == b.bytes(), "seed ", seed, " pad ", pad);
}

// Fused against the two steps on the same device, which tests of their own hold to the CPU.
void check_fused_case(const AppendCase& c, int q_heads, int rotary_dim, bool interleave, std::uint64_t seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  AppendBatch batch(c, random);
  const AppendRows rows(c.dtype, c, batch, random);
  Padded q(c.dtype, {batch.nnz(), q_heads, c.dim_k}, c.pad);
  q.fill(random, -2, 2);
  const std::vector<float> cache_rows = reference::make_cos_sin_cache(c.longest, rotary_dim, 2, 5e5f);
  Padded table(DType::f32, {c.longest, rotary_dim}, c.pad % 4 == 0 ? 4 : 1);
  for (std::int64_t i = 0; i < table.size(); ++i) table.set(i, cache_rows[i]);
  const OnDevice cos_sin(table), value(rows.value);
  const DeviceBatch arrays(batch);
  Ints rotated_positions = batch.positions;
  for (int i = 0; i < batch.nnz(); ++i) {
    if (batch.requests[i] < 0) rotated_positions[i] = 0;  // a row of padding has no position
  }
  const DeviceArray<std::int32_t> positions(rotated_positions);
  const DeviceArray<std::int64_t> slots(batch.slots(c.page_size));
  for (const bool computed : {false, true}) {
    const AppendPools pools(c, batch.pages), expected(c, batch.pages);
    const DevicePools fused(pools), steps(pools), by_slots(pools);
    const OnDevice q_fused(q), q_steps(q), q_slots(q), key_fused(rows.key), key_steps(rows.key);
    if (computed) {
      gpu::rope_pos_ids_append_paged_kv_cache(q_fused.t(), key_fused.t(), value.t(), rotary_dim, interleave, 2, 5e5f,
                                              arrays.requests.span(), arrays.positions.span(), fused.cache(), arrays.table(),
                                              nullptr);
      gpu::rope_pos_ids_append_paged_kv_cache(q_slots.t(), key_fused.t(), value.t(), rotary_dim, interleave, 2, 5e5f,
                                              arrays.positions.span(), slots.span(), by_slots.cache(), nullptr);
      gpu::apply_rope_pos_ids_inplace(q_steps.t(), key_steps.t(), positions.span(), rotary_dim, interleave, 2, 5e5f,
                                      nullptr);
    } else {
      gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q_fused.t(), key_fused.t(), value.t(), cos_sin.t(), !interleave,
                                                         arrays.requests.span(), arrays.positions.span(), fused.cache(),
                                                         arrays.table(), nullptr);
      gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q_slots.t(), key_fused.t(), value.t(), cos_sin.t(), !interleave,
                                                         arrays.positions.span(), slots.span(), by_slots.cache(), nullptr);
      gpu::apply_rope_with_cos_sin_cache_inplace(positions.span(), q_steps.t(), key_steps.t(), cos_sin.t(), !interleave,
                                                 nullptr);
    }
    Padded key_rotated(c.dtype, {batch.nnz(), c.heads, c.dim_k}, c.pad);
    Padded q_expected(c.dtype, {batch.nnz(), q_heads, c.dim_k}, c.pad);
    key_steps.fetch(key_rotated);
    q_steps.fetch(q_expected);
    reference::append_paged_kv_cache(key_rotated.t(), rows.value.t(), batch.requests, batch.positions, expected.cache(),
                                     batch.indptr, batch.indices, batch.last);
    for (int i = 0; i < batch.nnz(); ++i) {  // padding: q stays as it was
      for (int x = 0; batch.requests[i] < 0 && x < q_heads * c.dim_k; ++x) {
        q_expected.set(i * q_heads * c.dim_k + x, q.get(i * q_heads * c.dim_k + x));
      }
    }
    const bool equal = fused.difference(expected) == "", q_equal = q_fused.bytes() == q_expected.bytes();
    CHECK_MESSAGE(equal, "seed ", seed, " computed ", computed, " rotary ", rotary_dim, " interleave ", interleave);
    CHECK_MESSAGE(q_equal, "seed ", seed, " computed ", computed, " rotary ", rotary_dim, " interleave ", interleave);
    const bool slots_equal = by_slots.difference(expected) == "", q_slots_equal = q_slots.bytes() == q_expected.bytes();
    CHECK_MESSAGE(slots_equal, "by slots, seed ", seed, " computed ", computed, " rotary ", rotary_dim);
    CHECK_MESSAGE(q_slots_equal, "by slots, seed ", seed, " computed ", computed, " rotary ", rotary_dim);
    CHECK(key_fused.bytes() == rows.key.bytes());  // the rows themselves are only read
    CHECK((q_fused.guards_intact() && q_slots.guards_intact()));
    if (!equal || !q_equal || !slots_equal || !q_slots_equal) info(c);
  }
}

}  // namespace

TEST_CASE("append of latent rows on the GPU: the pools are the CPU reference's in every byte") {
  std::uint64_t seed = test::options().seed;
  for (const DType dtype : all_dtypes) {
    for (const DType cache : {dtype, DType::f8_e4m3, DType::f8_e5m2}) {
      for (const bool one_tensor : {false, true}) {
        for (const int pad : {0, 8, 1}) check_latent_case(dtype, cache, one_tensor, pad, ++seed);
      }
    }
  }
  for (const int pad : {0, 8, 1}) check_latent_case(DType::f8_e4m3, DType::f8_e4m3, true, pad, ++seed);
}

TEST_CASE("append on the GPU: the pools are the CPU reference's in every byte") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2}) {
    for (const KvLayout layout : layouts) {
      for (const bool one_tensor : {false, true}) {
        AppendCase c{.dtype = dtype, .layout = layout, .one_tensor = one_tensor, .pad = 16};
        check_append_case(c, 1);
        c.page_size = 1;
        check_append_case(c, 2);
        c.pad = 3;  // not aligned: element by element
        check_append_case(c, 3);
        c = {.dtype = dtype, .heads = 3, .dim_k = 80, .dim_v = 80, .page_size = 5, .layout = layout,
             .one_tensor = one_tensor};
        check_append_case(c, 4);
        c = {.dtype = dtype, .heads = 33, .dim_k = 64, .dim_v = 64, .batch = 1, .layout = layout, .one_tensor = one_tensor};
        check_append_case(c, 5);
        c = {.dtype = dtype, .batch = 40, .longest = 500, .most_rows = 3000, .layout = layout, .one_tensor = one_tensor};
        check_append_case(c, 6);
      }
      check_append_case({.dtype = dtype, .heads = 2, .dim_k = 192, .dim_v = 128, .layout = layout}, 7);
      check_append_case({.dtype = dtype, .heads = 5, .dim_k = 576, .dim_v = 512, .layout = layout}, 9);
      check_append_case({.dtype = dtype, .heads = 2, .dim_k = 5, .dim_v = 7, .page_size = 3, .layout = layout, .pad = 1}, 8);
    }
  }
}

TEST_CASE("append with RoPE on the GPU: the same bits as RoPE and then the append") {
  for (const DType dtype : gpu_dtypes) {
    for (const KvLayout layout : layouts) {
      for (const bool interleave : {false, true}) {
        check_fused_case({.dtype = dtype, .layout = layout}, 32, 128, interleave, 1);
        check_fused_case({.dtype = dtype, .page_size = 1, .layout = layout, .one_tensor = true}, 5, 64, interleave, 2);
        check_fused_case({.dtype = dtype, .heads = 2, .dim_k = 192, .dim_v = 128, .layout = layout}, 6, 96, interleave, 3);
        check_fused_case({.dtype = dtype, .heads = 2, .dim_k = 64, .dim_v = 128, .layout = layout}, 6, 64, interleave, 4);
        check_fused_case({.dtype = dtype, .heads = 3, .dim_k = 70, .dim_v = 33, .layout = layout}, 4, 10, interleave, 5);
        check_fused_case({.dtype = dtype, .layout = layout, .pad = 3}, 8, 128, interleave, 6);
        check_fused_case({.dtype = dtype, .batch = 20, .longest = 300, .most_rows = 900, .layout = layout}, 32, 128,
                         interleave, 7);
      }
    }
  }
}

TEST_CASE("append on the GPU: random cases") {
  const int cases = test::options().cases_or(60);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    const AppendCase c = random_append_case(random);
    check_append_case(c, seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const int rotary_dim = below(2) == 0 ? c.dim_k / 2 * 2 : 2 * (1 + below(c.dim_k / 2));
    check_fused_case(c, 1 + below(40), rotary_dim, below(2) == 0, seed);
  }
}

// What a padded graph batch does: positions of its own, which are no places, and slots that no page list knows.
TEST_CASE("append with RoPE by slots on the GPU: positions are angles alone") {
  const AppendCase c{.heads = 2, .page_size = 4};
  std::mt19937 random(9);
  Padded key(c.dtype, {4, 2, 128}), value(c.dtype, {4, 2, 128}), q(c.dtype, {4, 8, 128});
  key.fill(random, -2, 2), value.fill(random, -2, 2), q.fill(random, -2, 2);
  const Ints angles{1 << 20, 7, 0, 500};
  const std::vector<std::int64_t> places{11, -1, 0, 6};
  const AppendPools pools(c, 3), expected(c, 3);
  const DevicePools device(pools);
  const OnDevice q_gpu(q), key_gpu(key), value_gpu(value);
  const DeviceArray<std::int32_t> positions(angles);
  const DeviceArray<std::int64_t> slots(places);
  const OnDevice q_steps(q), key_steps(key);
  gpu::rope_pos_ids_append_paged_kv_cache(q_gpu.t(), key_gpu.t(), value_gpu.t(), 0, false, 8, 5e5f, positions.span(),
                                          slots.span(), device.cache(), nullptr, false, Llama31Scaling{});
  gpu::apply_rope_pos_ids_inplace(q_steps.t(), key_steps.t(), positions.span(), 0, false, 8, 5e5f, nullptr, false,
                                  Llama31Scaling{});
  Padded q_rotated(c.dtype, {4, 8, 128}), key_rotated(c.dtype, {4, 2, 128});
  q_steps.fetch(q_rotated), key_steps.fetch(key_rotated);
  for (int i = 8 * 128; i < 2 * 8 * 128; ++i) q_rotated.set(i, q.get(i));
  reference::append_paged_kv_cache(key_rotated.t(), value.t(), places, expected.cache());
  CHECK(q_gpu.bytes() == q_rotated.bytes());
  CHECK(device.difference(expected) == "");
}

TEST_CASE("get_batch_indices_positions and get_seq_lens on the GPU: the CPU reference's entries") {
  std::mt19937 random(5);
  const auto any = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (const int batch : {0, 1, 2, 7, 64, 1000}) {
    Ints append_indptr{0}, lens, kv_indptr{0}, last;
    for (int b = 0; b < batch; ++b) {
      append_indptr.push_back(append_indptr.back() + any(0, any(0, 3) == 0 ? 40 : 2));
      lens.push_back(append_indptr[b + 1] - append_indptr[b] + any(0, 1000));
      kv_indptr.push_back(kv_indptr.back() + any(0, 5));
      last.push_back(any(1, 16));  // also where a request has no pages
    }
    for (const int padding : {0, 1, 300}) {
      const int nnz = append_indptr.back() + padding;
      const auto expected = reference::get_batch_indices_positions(append_indptr, lens, nnz);
      const DeviceArray<std::int32_t> indptr(append_indptr), seq_lens(lens);
      const DeviceArray<std::int32_t> requests(Ints(nnz, 77)), positions(Ints(nnz, 77));
      gpu::get_batch_indices_positions(indptr.span(), seq_lens.span(), requests.span(), positions.span(), nullptr);
      CHECK(requests.fetch() == expected.batch_indices);
      CHECK(positions.fetch() == expected.positions);
      CHECK((requests.guards_intact() && positions.guards_intact()));
    }
    const DeviceArray<std::int32_t> indptr(kv_indptr), last_page_len(last), seq_lens(Ints(batch, 77));
    gpu::get_seq_lens(indptr.span(), last_page_len.span(), 16, seq_lens.span(), nullptr);
    CHECK(seq_lens.fetch() == reference::get_seq_lens(kv_indptr, last, 16));
    CHECK(seq_lens.guards_intact());
  }
}
