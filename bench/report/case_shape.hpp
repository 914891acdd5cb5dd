// What a case string says of its work, as far as a picture needs it (docs/case_format.md has the strings).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bench/report/lines.hpp"

namespace flashladder::bench {

enum class Kind : std::uint8_t { decode, prefill, norm, rope, append, ceiling, other };
Kind kind_of(const Work& work);  // chains and plans are other

struct CaseShape {
  double batch = 0, kv_len = 0, qo_len = 0;  // 0: the string has no single one
  double group = 0;                          // query heads of a KV head
  double element_bytes = 2;                  // of K and V
  bool causal = false, window = false;
  std::string rest;  // the string without batch and lengths: equal for works that differ only in them
};
CaseShape shape_of(const Work& work);

// FLOP for each byte of K and V that has to move: of the line's two rates, else of its case. Nothing where neither says it.
std::optional<double> intensity_of(const Work& work);
// TFLOP/s: the line's, else its TB/s times the intensity.
std::optional<double> tera_flops_of(const Work& work);

// "D3" of "flashladder D3 count"; empty: no rung's name.
std::string rung_of(const Work& work);

// Whom a picture names: the rung, else the backend. A rung with several plans is one of them, the fastest on a case.
std::string shown_as(const Work& work);
// Whether no other line of this family and case is shown under the same name and faster.
bool is_fastest(const Lines& lines, const Work& work);

}  // namespace flashladder::bench
