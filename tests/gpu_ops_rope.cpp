// RoPE on the GPU, in place: every rotated feature is the exact answer rounded once, the others keep their bits.
#include "gpu/rope/rope.hpp"
#include "gpu/rope/turns.hpp"
#include "reference/rope_ops.hpp"
#include "tests/gpu_ops_data.hpp"
#include "tests/options.hpp"
#include "tests/rope_exact.hpp"

using namespace flashladder;
using namespace ops_test;
using Ints = std::vector<std::int32_t>;

namespace {

Ints random_positions(int nnz, std::int32_t most, std::mt19937& random) {
  Ints positions(nnz);
  std::uniform_int_distribution<std::int32_t> any(0, most);
  for (std::int32_t& p : positions) p = any(random);
  if (nnz > 1) positions[0] = 0, positions[1] = most;
  return positions;
}

struct Tensors {
  Padded q, k;
  Tensors(DType dtype, const RopeCase& c, std::mt19937& random)
      : q(dtype, {c.nnz, c.q_heads, c.dim}, c.pad), k(dtype, {c.nnz, c.k_heads, c.dim}, c.pad) {
    q.fill(random, -2, 2);
    k.fill(random, -2, 2);
  }
};

// After the GPU and after the CPU, from what was before. trig[token * rotary_dim / 2 + pair] are exact cosines and sines.
void check_heads(DType dtype, const RopeCase& c, const std::vector<LongRotation>& trig, bool computed, const Padded& before,
                 const Padded& gpu, const Padded& cpu) {
  Wrong wrong;
  const std::int64_t heads = before.t().shape[1];
  std::int64_t changed = 0;
  for (std::int64_t row = 0; row < c.nnz * heads; ++row) {
    std::vector<double> head(c.dim);
    for (int i = 0; i < c.dim; ++i) head[i] = before.get(row * c.dim + i);
    const auto* rotations = trig.data() + row / heads * (c.rotary_dim / 2);
    const RotatedRow exact = rotated_row(head, c, [&](int pair) { return rotations[pair]; });
    for (int i = 0; i < c.dim; ++i) {
      const std::int64_t at = row * c.dim + i;
      wrong.check(dtype, at, gpu.get(at), exact.exact[i], rotation_slack(computed) * exact.scale[i], cpu.get(at));
      changed += i >= c.rotary_dim && gpu.get(at) != before.get(at);
    }
  }
  CHECK_MESSAGE(wrong.count() == 0, wrong.first());
  CHECK(changed == 0);
  CHECK(gpu.padding_untouched());
}

void check_case(DType dtype, const RopeCase& c, std::int32_t most_position, std::uint64_t seed) {
  INFO("rope ", name_of(dtype), " nnz ", c.nnz, " heads ", c.q_heads, "/", c.k_heads, " dim ", c.dim, " rotary ",
       c.rotary_dim, " interleave ", c.interleave, " pad ", c.pad, " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  const std::int32_t max_pos = 700;
  const std::vector<float> cache = reference::make_cos_sin_cache(max_pos, c.rotary_dim, c.scale, c.theta, c.llama31);
  Padded table(DType::f32, {max_pos, c.rotary_dim}, c.pad % 4 == 0 ? 4 : 1);
  for (std::int64_t i = 0; i < table.size(); ++i) table.set(i, cache[i]);
  for (const bool computed : {false, true}) {
    const Ints positions = random_positions(c.nnz, computed ? most_position : max_pos - 1, random);
    const Tensors before(dtype, c, random);
    Tensors cpu(dtype, c, random), got(dtype, c, random);
    cpu.q.copy(before.q);
    cpu.k.copy(before.k);
    const OnDevice q(before.q), k(before.k), device_table(table);
    const DeviceArray<std::int32_t> device_positions(positions);
    std::vector<LongRotation> trig;
    for (const std::int32_t position : positions) {
      const float* row = cache.data() + static_cast<std::int64_t>(computed ? 0 : position) * c.rotary_dim;
      for (int p = 0; p < c.rotary_dim / 2; ++p) {
        trig.push_back(computed ? exact_rotation(position, p, c) : LongRotation{row[p], row[c.rotary_dim / 2 + p]});
      }
    }
    if (computed) {
      gpu::apply_rope_pos_ids_inplace(q.t(), k.t(), device_positions.span(), c.rotary_dim, c.interleave, c.scale, c.theta,
                                      nullptr, false, c.llama31);
      reference::apply_rope_pos_ids_inplace(cpu.q.t(), cpu.k.t(), positions, c.rotary_dim, c.interleave, c.scale, c.theta,
                                            c.llama31);
    } else {
      gpu::apply_rope_with_cos_sin_cache_inplace(device_positions.span(), q.t(), k.t(), device_table.t(), !c.interleave,
                                                 nullptr);
      reference::apply_rope_with_cos_sin_cache_inplace(positions, cpu.q.t(), cpu.k.t(), table.t(), !c.interleave);
    }
    q.fetch(got.q);
    k.fetch(got.k);
    check_heads(dtype, c, trig, computed, before.q, got.q, cpu.q);
    check_heads(dtype, c, trig, computed, before.k, got.k, cpu.k);
    CHECK(q.guards_intact());
    CHECK(k.guards_intact());
  }
}

const RopeCase rope_shapes[] = {
    {.nnz = 0}, {.nnz = 1}, {.nnz = 64, .q_heads = 32, .k_heads = 8}, {.nnz = 5, .q_heads = 7, .k_heads = 1},
    {.nnz = 9, .q_heads = 64, .k_heads = 8}, {.nnz = 3, .q_heads = 130, .k_heads = 2},
    {.nnz = 4, .q_heads = 3, .k_heads = 0},
    {.nnz = 5, .q_heads = 4, .k_heads = 2, .dim = 64, .rotary_dim = 64},
    {.nnz = 5, .q_heads = 4, .k_heads = 2, .dim = 128, .rotary_dim = 64},
    {.nnz = 5, .q_heads = 4, .k_heads = 2, .dim = 80, .rotary_dim = 32, .pad = 0},
    {.nnz = 5, .q_heads = 4, .k_heads = 2, .dim = 256, .rotary_dim = 256},
    {.nnz = 5, .q_heads = 2, .k_heads = 2, .dim = 512, .rotary_dim = 512},
    {.nnz = 6, .q_heads = 3, .k_heads = 2, .dim = 96, .rotary_dim = 72},               // 72 is no multiple of 16
    {.nnz = 6, .q_heads = 3, .k_heads = 2, .dim = 33, .rotary_dim = 2, .pad = 3},
    {.nnz = 6, .q_heads = 3, .k_heads = 2, .dim = 128, .rotary_dim = 128, .pad = 3},   // rows that are not aligned
    {.nnz = 500, .q_heads = 32, .k_heads = 8}, {.nnz = 2001, .q_heads = 8, .k_heads = 1, .rotary_dim = 96},
    {.nnz = 300, .q_heads = 41, .k_heads = 3, .dim = 64, .rotary_dim = 64},
    {.nnz = 190, .q_heads = 130, .k_heads = 2},                     // eight pairs a lane, four chunks of heads
    {.nnz = 1400, .q_heads = 20, .k_heads = 4, .dim = 80, .rotary_dim = 72},           // many, but four pairs a lane
    {.nnz = 200, .q_heads = 1, .k_heads = 0, .dim = 64, .rotary_dim = 8},              // many tokens a block
    {.nnz = 34000, .q_heads = 1, .k_heads = 0, .dim = 64, .rotary_dim = 64},           // the same, eight pairs a lane
    {.nnz = 6, .q_heads = 3, .k_heads = 2, .dim = 64, .rotary_dim = 64, .pad = 4}};    // rows at multiples of 8 bytes

}  // namespace

TEST_CASE("RoPE on the GPU: both sources of angles and both styles equal the exact rotation rounded once") {
  for (RopeCase c : rope_shapes) {
    for (const bool interleave : {false, true}) {
      c.interleave = interleave;
      for (const DType dtype : gpu_dtypes) check_case(dtype, c, 1 << 20, 1);
    }
  }
}

TEST_CASE("RoPE on the GPU: angles are as good at the last position as at the first") {
  for (const float theta : {10000.0f, 500000.0f}) {
    RopeCase c{.nnz = 40, .q_heads = 2, .k_heads = 1, .scale = 8, .theta = theta};
    check_case(DType::f16, c, 2147483647, 2);
    c.scale = 0.25;  // frequencies above 1
    check_case(DType::f16, c, 1 << 24, 3);
  }
}

TEST_CASE("RoPE on the GPU: Llama 3.1's angles, and a call without them in between") {
  RopeCase c{.nnz = 40, .q_heads = 4, .k_heads = 1, .scale = 8, .theta = 500000, .llama31 = Llama31Scaling{}};
  check_case(DType::bf16, c, 131071, 4);
  c.interleave = true;
  check_case(DType::f16, c, 2147483647, 5);
  c.llama31 = {};
  check_case(DType::f16, c, 131071, 6);
  c.llama31 = {.low_freq_factor = 2, .high_freq_factor = 8, .old_context_len = 1000};
  c.rotary_dim = 70;
  check_case(DType::bf16, c, 131071, 7);
}

TEST_CASE("RoPE on the GPU: positions of int64 give the bits that int32 gives, whatever lies in their upper halves") {
  std::mt19937 random(8);
  const std::int32_t max_pos = 700;
  for (RopeCase c : rope_shapes) {
    const std::vector<float> cache = reference::make_cos_sin_cache(max_pos, c.rotary_dim);
    Padded table(DType::f32, {max_pos, c.rotary_dim}, 4);
    for (std::int64_t i = 0; i < table.size(); ++i) table.set(i, cache[i]);
    const OnDevice device_table(table);
    const Ints positions = random_positions(c.nnz, max_pos - 1, random);
    std::vector<std::int64_t> wide(positions.begin(), positions.end()), filled = wide;
    for (std::int64_t& position : filled) position |= std::int64_t{0x7fffffff} << 32;
    const DeviceArray<std::int32_t> narrow_positions(positions);
    const DeviceArray<std::int64_t> wide_positions(wide), filled_positions(filled);
    for (const DType dtype : gpu_dtypes) {
      for (const bool is_neox : {false, true}) {
        INFO("rope ", name_of(dtype), " nnz ", c.nnz, " heads ", c.q_heads, "/", c.k_heads, " dim ", c.dim, " rotary ",
             c.rotary_dim, " neox ", is_neox, " pad ", c.pad);
        const Tensors before(dtype, c, random);
        const auto rotated = [&](const auto& at) {
          const OnDevice q(before.q), k(before.k);
          gpu::apply_rope_with_cos_sin_cache_inplace(at.span(), q.t(), k.t(), device_table.t(), is_neox, nullptr);
          Tensors got(dtype, c, random);
          q.fetch(got.q);
          k.fetch(got.k);
          CHECK((q.guards_intact() && k.guards_intact()));
          return std::pair{got.q.bytes(), got.k.bytes()};
        };
        const auto expected = rotated(narrow_positions);
        CHECK((c.nnz < 2 || expected.first != before.q.bytes()));
        CHECK(rotated(wide_positions) == expected);
        CHECK(rotated(filled_positions) == expected);
      }
    }
  }
}

TEST_CASE("RoPE on the GPU: random shapes") {
  const int cases = test::options().cases_or(60);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto any = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    RopeCase c{.nnz = any(0, 60), .q_heads = any(1, 48), .k_heads = any(0, 9),
               .dim = any(0, 2) == 0 ? any(2, 130) : 16 * any(1, 16), .interleave = any(0, 1) == 1,
               .pad = any(0, 1) == 0 ? 8 : any(0, 9), .theta = any(0, 1) == 0 ? 1e4f : 5e5f};
    c.rotary_dim = any(0, 1) == 0 ? c.dim / 2 * 2 : 2 * any(1, c.dim / 2);
    check_case(any(0, 1) == 0 ? DType::f16 : DType::bf16, c, 1 << 20, seed);
  }
}
