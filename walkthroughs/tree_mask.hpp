// A server's tree of drafts as a custom mask, in the words that kernels read (core/mask_bits.hpp): a draft sees all keys before
// the drafts, its ancestors and itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/mask_bits.hpp"
#include "core/range.hpp"

namespace flashladder::walkthroughs {

struct TreeMask {
  std::int32_t kv_len;
  std::vector<std::int32_t> parents;  // of each draft: the draft that it continues, an earlier one, or -1: the last key before
  std::vector<std::uint32_t> words;   // [drafts, words_of_row(kv_len)]

  TreeMask(std::int32_t kv_len_, std::vector<std::int32_t> parents_) : kv_len(kv_len_), parents(std::move(parents_)) {
    words.resize(parents.size() * static_cast<std::size_t>(words_of_row(kv_len)));
    for (std::int32_t i = 0; i < drafts(); ++i) {
      for (std::int32_t j = 0; j < kv_len - drafts(); ++j) show(i, j);
      for (std::int32_t at = i; at >= 0; at = parents[static_cast<std::size_t>(at)]) show(i, kv_len - drafts() + at);
    }
  }
  // Each draft is continued by two.
  static TreeMask binary(std::int32_t kv_len, std::int32_t drafts) {
    std::vector<std::int32_t> parents;
    for (std::int32_t i = 0; i < drafts; ++i) parents.push_back(i == 0 ? -1 : (i - 1) / 2);
    return {kv_len, std::move(parents)};
  }

  std::int32_t drafts() const { return static_cast<std::int32_t>(parents.size()); }
  MaskBits bits() const { return {words.data()}; }
  std::int64_t whole_words() const { return std::ranges::count(words, ~0u); }
  // Of so many keys each, the last one shorter: how many all drafts see whole.
  std::int32_t whole_tiles(std::int32_t tile) const {
    std::int32_t whole = 0;
    for (Range keys{0, tile}; keys.begin < kv_len; keys = {keys.end, keys.end + tile}) {
      keys.end = std::min(keys.end, kv_len);
      bool all = true;
      for (std::int32_t i = 0; i < drafts(); ++i) all = all && shows_all(bits(), kv_len, i, keys);
      whole += all;
    }
    return whole;
  }
  // A row's bits from key `first` on, the first at the left, with a space where keys, drafts and what is nobody's meet.
  std::string row_text(std::int32_t i, std::int32_t first) const {
    std::string line;
    for (std::int32_t j = first; j < words_of_row(kv_len) * keys_of_word; ++j) {
      if (j == kv_len - drafts() || j == kv_len) line += ' ';
      line += shows(bits(), kv_len, i, j) ? '1' : '0';
    }
    return line;
  }

 private:
  void show(std::int32_t i, std::int32_t j) {
    words[static_cast<std::size_t>(i * words_of_row(kv_len) + j / keys_of_word)] |= 1u << (j % keys_of_word);
  }
};

}  // namespace flashladder::walkthroughs
