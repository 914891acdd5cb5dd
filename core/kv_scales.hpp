// What the stored numbers of a KV cache stand for: a stored k for k * k scale, a stored v for v * v scale, each scale one
// number or one for each KV head. They fold: k's multiplies the logits together with sm_scale, before the soft cap, and v's
// multiplies o, once a row, by its final writer. An fp8 cache needs them to use its range; every other dtype takes them too.
// Scales must be finite and greater than 0. Numbers are checked everywhere; what lies per head in a device's memory nobody
// reads before the kernels do, and there the rule is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flashladder {

struct KvScales {
  float k = 1, v = 1;
  std::span<const float> k_per_head{}, v_per_head{};  // [num_kv_heads], where the data lie; empty: the number k or v

  float k_of(std::int32_t kv_head) const { return k_per_head.empty() ? k : k_per_head[static_cast<std::size_t>(kv_head)]; }
  float v_of(std::int32_t kv_head) const { return v_per_head.empty() ? v : v_per_head[static_cast<std::size_t>(kv_head)]; }
};

// The same of latent rows (core/mla_problem.hpp): a stored ckv stands for k * ckv as a part of a key and for v * ckv as a
// value, a stored kpe for kpe * kpe's scale. Where both parts were quantised with one scale, all three are that scale.
struct MlaScales {
  float k = 1, kpe = 1, v = 1;
};

// The scale of one output that is quantised: out = saturate(y / scale), rounded to nearest even. A number, or one that lies
// where the data lie.
struct QuantScale {
  float number = 1;
  const float* stored = nullptr;

  float value() const { return stored == nullptr ? number : *stored; }  // of what the host can read
};

}  // namespace flashladder
