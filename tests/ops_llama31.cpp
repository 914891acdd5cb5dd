// Llama 3.1's frequencies on the CPU: against FlashInfer's form of the formula in double, in each call that takes them.
#include <complex>
#include <numbers>

#include "core/rope.hpp"
#include "reference/append.hpp"
#include "reference/rope_append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/llama31_exact.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;
using Ints = std::vector<std::int32_t>;

namespace {

constexpr int llama_heads = 2, llama_dim = 128;
const Ints llama_positions{0, 1, 8191, 131071};

struct LlamaTensors {
  Padded q, k;
  explicit LlamaTensors(DType dtype) : q(dtype, {4, llama_heads, llama_dim}), k(dtype, {4, 1, llama_dim}) {
    std::mt19937 random(41);
    q.fill(random, -2, 2), k.fill(random, -2, 2);
  }
};

}  // namespace

TEST_CASE("Llama 3.1: fast pairs keep their frequency, slow ones are divided, and those between are FlashInfer's") {
  constexpr Llama31Scaling its;
  int kept = 0, divided = 0, between = 0;
  double before = 1e9;
  for (int k = 0; k < 64; ++k) {
    const double f = std::pow(5e5, -2.0 * k / 128), got = rope_frequency<double>(k, 128, 8, 5e5, its);
    const double exact = llama31_frequency(f, 8.0, its);
    CHECK(std::abs(got - exact) <= 64 * 0x1p-53 * f);  // b and s are of size 1: some 10 roundings of at most 4
    CHECK(got < before);
    before = got;
    const bool all = got == f, none = got == f / 8;
    kept += all, divided += none, between += !all && !none;
  }
  CHECK(kept == 29);  // the wavelength 2 pi / f is less than 8192 / 4 tokens
  CHECK(divided == 29);  // more than 8192 tokens
  CHECK(between == 6);
  CHECK(rope_frequency<double>(10, 128, 8, 5e5, {}) == std::pow(5e5, -20.0 / 128) / 8);
}

TEST_CASE("Llama 3.1: RoPE by positions is a complex rotation by those angles and other frequencies would be seen") {
  const Llama31Scaling other{.low_freq_factor = 2, .high_freq_factor = 8, .old_context_len = 1000};
  for (const DType dtype : all_dtypes) {
    for (const Llama31Scaling& scaling : {Llama31Scaling{}, other}) {
      for (const bool interleave : {false, true}) {
        const LlamaTensors was(dtype);
        LlamaTensors is(dtype), plain(dtype);
        reference::apply_rope_pos_ids_inplace(is.q.t(), is.k.t(), llama_positions, 0, interleave, 8, 5e5, scaling);
        reference::apply_rope_pos_ids_inplace(plain.q.t(), plain.k.t(), llama_positions, 0, interleave, 8, 5e5);
        CHECK(is.q.bytes() != plain.q.bytes());
        for (int row = 0; row < 4 * llama_heads; ++row) {
          for (int k = 0; k < llama_dim / 2; ++k) {
            const int re = row * llama_dim + (interleave ? 2 * k : k), im = re + (interleave ? 1 : llama_dim / 2);
            const double f = std::pow(5e5, -2.0 * k / llama_dim), position = llama_positions[row / llama_heads];
            const double angle = position * llama31_frequency(f, 8.0, scaling);
            const auto z = std::complex(was.q.get(re), was.q.get(im)) * std::polar(1.0, angle);
            // As without the scaling, and both sides' roundings of an angle.
            const double slack = 10 * 0x1p-24 + 4 * 64 * 0x1p-53 * position * f;
            CHECK(is_rounded_once(dtype, is.q.get(re), z.real(), slack));
            CHECK(is_rounded_once(dtype, is.q.get(im), z.imag(), slack));
          }
        }
      }
    }
  }
}

TEST_CASE("Llama 3.1: a table, and RoPE with append, give the bits of RoPE by positions") {
  const Ints positions{0, 5, 699, 77};
  const std::vector<float> cache = reference::make_cos_sin_cache(700, llama_dim, 8, 5e5f, Llama31Scaling{});
  CHECK(cache != reference::make_cos_sin_cache(700, llama_dim, 8, 5e5f));
  LlamaTensors by_table(DType::bf16), by_position(DType::bf16), fused(DType::bf16);
  reference::apply_rope_with_cos_sin_cache_inplace(positions, by_table.q.t(), by_table.k.t(),
                                                   contiguous(cache.data(), DType::f32, {700, llama_dim}));
  reference::apply_rope_pos_ids_inplace(by_position.q.t(), by_position.k.t(), positions, 0, false, 8, 5e5f,
                                        Llama31Scaling{});
  CHECK((by_table.q.bytes() == by_position.q.bytes() && by_table.k.bytes() == by_position.k.bytes()));
  Padded k(DType::bf16, {1, 700, 1, llama_dim}), v(DType::bf16, {1, 700, 1, llama_dim});
  const PagedKvCache pool = paged_kv_cache(k.t(), v.t(), KvLayout::NHD);
  reference::rope_pos_ids_append_paged_kv_cache(fused.q.t(), fused.k.t(), fused.k.t(), 0, false, 8, 5e5f, Ints{0, 0, 0, 0},
                                                positions, pool, {Ints{0, 1}, Ints{0}, Ints{700}}, Llama31Scaling{});
  CHECK(fused.q.bytes() == by_position.q.bytes());
  for (int row = 0; row < 4; ++row) {
    for (int i = 0; i < llama_dim; ++i) {
      CHECK(k.get(positions[row] * llama_dim + i) == by_position.k.get(row * llama_dim + i));
    }
  }
}

TEST_CASE("Llama 3.1: numbers that make no frequencies are refused by name and nothing is written") {
  LlamaTensors t(DType::f16);
  const auto refused = [&](const std::string& argument, const Llama31Scaling& scaling) {
    check_refused(argument, {&t.q, &t.k}, [&] {
      reference::apply_rope_pos_ids_inplace(t.q.t(), t.k.t(), llama_positions, 0, false, 8, 5e5, scaling);
    });
    check_refused(argument, {}, [&] { reference::make_cos_sin_cache(4, 8, 8, 5e5, scaling); });
  };
  refused("low_freq_factor", {.low_freq_factor = 0});
  refused("low_freq_factor", {.low_freq_factor = NAN});
  refused("high_freq_factor", {.high_freq_factor = 1});
  refused("high_freq_factor", {.high_freq_factor = std::numeric_limits<float>::infinity()});
  refused("old_context_len", {.old_context_len = 0});
  refused("old_context_len", {.old_context_len = -8192});
}
