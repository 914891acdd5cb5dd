// A custom mask as bits against the same mask as bytes.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "core/mask_bits.hpp"
#include "core/score_transform.hpp"
#include "core/visibility.hpp"

using namespace flashladder;

namespace {

// What a row of words must be, key by key; bits behind the last key are 0, and behind the last row there is poison.
std::vector<std::uint32_t> bits_of(const std::vector<std::uint8_t>& bytes, int qo_len, int kv_len) {
  std::vector<std::uint32_t> words(static_cast<std::size_t>(qo_len) * words_of_row(kv_len), 0);
  for (int i = 0; i < qo_len; ++i) {
    for (int j = 0; j < kv_len; ++j) {
      if (bytes[i * kv_len + j] != 0) words[i * words_of_row(kv_len) + j / 32] |= 1u << (j % 32);
    }
  }
  words.insert(words.end(), 8, 0xaaaaaaaau);
  return words;
}

struct Wrong {
  int shown = 0, all = 0, visible = 0, last = 0, origin = 0;
};

void compare(const AttentionParams& p, int qo_len, int kv_len, const std::vector<std::uint8_t>& bytes, Wrong& wrong) {
  const std::vector<std::uint32_t> words = bits_of(bytes, qo_len, kv_len);
  const MaskBits bits{words.data()};
  for (int i = 0; i < qo_len; ++i) {
    for (int j = 0; j < kv_len; ++j) {
      wrong.shown += shows(bits, kv_len, i, j) != (bytes[i * kv_len + j] != 0);
      wrong.visible += visible(p, qo_len, kv_len, i, j, bits) != visible(p, qo_len, kv_len, i, j, bytes.data());
    }
    wrong.last += last_visible_key(p, qo_len, kv_len, i, bits) != last_visible_key(p, qo_len, kv_len, i, bytes.data());
    wrong.origin += alibi_origin(p, qo_len, kv_len, i, bits) != alibi_origin(p, qo_len, kv_len, i, bytes.data());
    for (int begin = 0; begin <= kv_len; begin += 7) {
      bool all = true;
      for (int end = begin; end <= kv_len; ++end) {
        wrong.all += shows_all(bits, kv_len, i, {begin, end}) != all;
        if (end < kv_len) all = all && bytes[i * kv_len + end] != 0;
      }
    }
  }
}

}  // namespace

TEST_CASE("a mask's bits say what its bytes say, of keys and of ranges of keys") {
  std::mt19937 random(11);
  Wrong wrong;
  AttentionParams p{.mask = MaskMode::custom, .pos_encoding_mode = PosEncodingMode::ALIBI};
  for (const int kv_len : {0, 1, 8, 31, 32, 33, 63, 64, 65, 96, 130}) {
    for (const int qo_len : {1, 2, 5}) {
      for (const unsigned hidden_of : {0u, 2u, 40u}) {  // none, every other, few
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(qo_len) * kv_len);
        for (auto& byte : bytes) {
          const bool hidden = hidden_of != 0 && random() % hidden_of == 0;
          byte = hidden ? 0 : static_cast<std::uint8_t>(1 + random() % 255);
        }
        for (const int window : {-1, 40}) {
          p.window_left = window;
          compare(p, qo_len, kv_len, bytes, wrong);
        }
      }
    }
  }
  CHECK(wrong.shown == 0);
  CHECK(wrong.visible == 0);
  CHECK(wrong.last == 0);
  CHECK(wrong.origin == 0);
  CHECK(wrong.all == 0);
}

TEST_CASE("one hidden key is found wherever it lies, and none is missed at the edges of words") {
  for (int hidden = 0; hidden < 200; ++hidden) {
    std::vector<std::uint8_t> bytes(200, 1);
    bytes[hidden] = 0;
    const std::vector<std::uint32_t> words = bits_of(bytes, 1, 200);
    int wrong = 0;
    for (int begin = 0; begin < 200; ++begin) {
      for (int end = begin; end <= 200; ++end) {
        wrong += shows_all(MaskBits{words.data()}, 200, 0, {begin, end}) != !Range{begin, end}.contains(hidden);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("rows of words: lengths up to the largest") {
  CHECK(words_of_row(0) == 0);
  CHECK(words_of_row(1) == 1);
  CHECK(words_of_row(32) == 1);
  CHECK(words_of_row(33) == 2);
  CHECK(words_of_row(0x7fffffff) == 1 << 26);
}

TEST_CASE("the rows of requests never overlap, and lie close together") {
  std::mt19937 random(12);
  for (int trial = 0; trial < 300; ++trial) {
    std::int64_t queries = 0, pairs = 0, rows = 0;
    for (int b = 0; b < 12; ++b) {
      const auto qo_len = static_cast<std::int64_t>(random() % 5), kv_len = static_cast<std::int64_t>(random() % 100);
      const std::int64_t begin = mask_words(queries, pairs), words = qo_len * words_of_row(static_cast<std::int32_t>(kv_len));
      queries += qo_len, pairs += qo_len * kv_len, rows += words;
      CHECK(begin + words <= mask_words(queries, pairs));
    }
    CHECK(mask_words(queries, pairs) <= rows + queries);
  }
  CHECK(mask_words(1 << 20, std::int64_t{0x7fffffff} << 20) < (std::int64_t{1} << 46) + (1 << 20));
}
