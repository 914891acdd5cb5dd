// For which batches P12 pays, and how many of its CTAs begin with decode. Fitted on four mixed batches on an H200
// (docs/measurements/h200-mixed.md); where a figure is off, a batch is slower, and no less right.
#pragma once

#include <cstdint>

namespace flashladder::gpu::p12 {

// A batch in two parts.
struct MixedWork {
  std::int64_t decode_keys = 0;    // (key, KV head) pairs that the requests of one query read
  std::int64_t prefill_pairs = 0;  // (query, key, query head) that the others see
};

// In a microsecond an SM reads so many bytes for decode while others multiply, and does so many operations of prefill.
inline constexpr double bytes_per_us = 43e3, operations_per_us = 4.85e6;
// What each part takes of an SM, us. A key and its value are 512 bytes, a pair is 512 operations.
constexpr double decode_us(const MixedWork& work) { return static_cast<double>(work.decode_keys) * 512 / bytes_per_us; }
constexpr double prefill_us(const MixedWork& work) {
  return static_cast<double>(work.prefill_pairs) * 512 / operations_per_us;
}
constexpr double decode_share(const MixedWork& work) {
  const double decode = decode_us(work), both = decode + prefill_us(work);
  return both > 0 ? decode / both : 0;
}

// With less decode there is nothing to gain; with less prefill the SMs that don't read have nothing to do.
inline constexpr double least_share = 0.05, most_share = 0.72;
constexpr bool pays(const MixedWork& work) { return decode_share(work) >= least_share && decode_share(work) <= most_share; }

// CTAs of so many that begin with decode: as many as keep memory busy; where prefill is most of the work, only as many as have
// read all before it ends; and all of them where there is hardly any prefill.
constexpr std::int32_t decode_ctas(std::int32_t num_sms, const MixedWork& work) {
  const double share = decode_share(work);
  return share > most_share ? num_sms : share > 1.0 / 3 ? (num_sms * 3 + 3) / 4 : (num_sms * 7 + 15) / 16;
}

}  // namespace flashladder::gpu::p12
