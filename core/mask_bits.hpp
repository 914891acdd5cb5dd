// A custom mask in its two forms. Callers give bytes [qo_len, kv_len] of each request, 1 = visible. GPU kernels read bits: an
// eighth of the memory, and a look at one word says of 32 keys whether any of them is hidden.
//
//   bytes  row i begins at i * kv_len                     1 1 1 0 1 | 1 1 0 1 1 ...
//   bits   row i begins at word i * words_of_row(kv_len), key j is bit j % 32 of word j / 32. Bits behind kv_len are 0
#pragma once

#include <cstdint>

#include "core/host_device.hpp"
#include "core/range.hpp"

namespace flashladder {

inline constexpr std::int32_t keys_of_word = 32;

FL_HD constexpr std::int32_t words_of_row(std::int32_t kv_len) {  // unsigned: a shift, without a question
  return static_cast<std::int32_t>(div_up(static_cast<std::uint32_t>(kv_len), std::uint32_t{keys_of_word}));
}
// Where a request's first row begins, in words, behind requests with so many queries, and pairs of a query and a key, in all;
// behind the last request: how many words there are. A row of kv_len keys has at most (kv_len + 31) / 32 words, so that
// requests never overlap; some words between them may be nobody's.
FL_HD constexpr std::int64_t mask_words(std::int64_t queries, std::int64_t pairs) {
  return (pairs + queries * (keys_of_word - 1)) / keys_of_word;
}

// Of one request.
struct MaskBits {
  const std::uint32_t* words = nullptr;
  FL_HD constexpr const std::uint32_t* row(std::int32_t kv_len, std::int32_t i) const {
    return words + std::int64_t{i} * words_of_row(kv_len);
  }
};

// Does the mask of a request show key j to query i?
FL_HD constexpr bool shows(const std::uint8_t* bytes, std::int32_t kv_len, std::int32_t i, std::int32_t j) {
  return bytes[std::int64_t{i} * kv_len + j] != 0;
}
FL_HD constexpr bool shows(MaskBits bits, std::int32_t kv_len, std::int32_t i, std::int32_t j) {
  return (bits.row(kv_len, i)[j / keys_of_word] >> (j % keys_of_word) & 1) != 0;
}

// Does it show all of these keys, which are keys of the request? An empty range: yes.
FL_HD constexpr bool shows_all(MaskBits bits, std::int32_t kv_len, std::int32_t i, Range keys) {
  if (keys.empty()) return true;
  const std::uint32_t* row = bits.row(kv_len, i);
  const std::int32_t first = keys.begin / keys_of_word, last = (keys.end - 1) / keys_of_word;
  std::uint32_t hidden = ~row[first] >> (keys.begin % keys_of_word) << (keys.begin % keys_of_word);
  const std::uint32_t within_last = ~0u >> (keys_of_word - 1 - (keys.end - 1) % keys_of_word);
  if (first == last) return (hidden & within_last) == 0;
  for (std::int32_t word = first + 1; word < last; ++word) hidden |= ~row[word];
  return (hidden | (~row[last] & within_last)) == 0;
}

}  // namespace flashladder
