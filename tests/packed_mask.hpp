// The bytes of a batch's custom mask as bits: the lowest of a byte first, each request's from a byte on. Bits that are
// nobody's are set, so that who reads them notices.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace flashladder::test {

inline std::vector<std::uint8_t> packed_mask(std::span<const std::uint8_t> bytes, std::span<const std::int32_t> qo_lens,
                                             std::span<const std::int32_t> kv_lens) {
  std::vector<std::uint8_t> packed;
  for (std::size_t b = 0; b < qo_lens.size(); ++b) {
    const std::size_t pairs = static_cast<std::size_t>(qo_lens[b]) * kv_lens[b], begin = packed.size();
    packed.resize(begin + (pairs + 7) / 8, 0xff);
    for (std::size_t at = 0; at < pairs; ++at) {
      if (bytes[at] == 0) packed[begin + at / 8] &= static_cast<std::uint8_t>(~(1u << at % 8));
    }
    bytes = bytes.subspan(pairs);
  }
  return packed;
}

}  // namespace flashladder::test
