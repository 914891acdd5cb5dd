// Output buffers for a rung under test: they start as NaN, so that a row nobody wrote can't pass a comparison, and lie
// between guard bands, so that a write outside of them is seen.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/attention_problem.hpp"

namespace flashladder::ladder {

class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t size) : bytes_(size + 2 * guard) { paint(); }

  std::byte* data() { return bytes_.data() + guard; }
  std::size_t size() const { return bytes_.size() - 2 * guard; }
  void paint() {
    for (std::size_t i = 0; i < guard; ++i) bytes_[i] = bytes_[bytes_.size() - 1 - i] = pattern(i);
  }
  bool guards_intact() const {
    for (std::size_t i = 0; i < guard; ++i) {
      if (bytes_[i] != pattern(i) || bytes_[bytes_.size() - 1 - i] != pattern(i)) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t guard = 256;  // bytes on each side, four cache lines; keeps the buffer's alignment
  static constexpr std::byte pattern(std::size_t i) { return static_cast<std::byte>(0xa5 ^ i); }

  std::vector<std::byte> bytes_;
};

class GuardedOutput {
 public:
  // o [nnz_qo, num_qo_heads, head_dim_vo] of dtype f32, f16, bf16 or f64; lse_log2 [nnz_qo * num_qo_heads] f32.
  GuardedOutput(std::int64_t nnz_qo, std::int32_t num_qo_heads, std::int32_t head_dim_vo, DType o_dtype = DType::f32)
      : shape_{nnz_qo, num_qo_heads, head_dim_vo}, dtype_(o_dtype),
        o_(static_cast<std::size_t>(nnz_qo * num_qo_heads * head_dim_vo) * size_of(o_dtype)),
        lse_(static_cast<std::size_t>(nnz_qo * num_qo_heads) * sizeof(float)) {
    poison();
  }

  // Valid as long as this object stays where it is.
  AttentionOutput view() {
    return {.o = contiguous(o_.data(), dtype_, {shape_[0], shape_[1], shape_[2]}),
            .lse_log2 = {reinterpret_cast<float*>(lse_.data()), lse_.size() / sizeof(float)}};
  }

  // NaN everywhere and guards as new: before each run.
  void poison() {
    o_.paint();
    lse_.paint();
    if (dtype_ == DType::f64) fill_with_nan<double>(o_);
    if (dtype_ == DType::f32) fill_with_nan<float>(o_);
    if (dtype_ == DType::f16) fill_with_nan<Half>(o_);
    if (dtype_ == DType::bf16) fill_with_nan<BFloat16>(o_);
    fill_with_nan<float>(lse_);
  }

  bool guards_intact() const { return o_.guards_intact() && lse_.guards_intact(); }

 private:
  template <class T>
  static void fill_with_nan(GuardedBytes& bytes) {
    std::fill_n(reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T),
                static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
  }

  std::array<std::int64_t, 3> shape_;
  DType dtype_;
  GuardedBytes o_, lse_;
};

}  // namespace flashladder::ladder
