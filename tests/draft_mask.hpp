// A drawn case of a draft: as many queries in every request, a mask among them as FlashInfer's xqa takes it, and the same as a
// custom mask of the whole case, which the oracle reads.
#pragma once

#include <cstdint>
#include <vector>

#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::test {

struct DraftCase {
  ladder::Case c;
  std::vector<std::uint32_t> lens, words;  // words [batch, q_len, ceil(q_len / 32)]: random, the bits that are nobody's too

  // Without a mask: causal. Requests of many keys, of fewer than queries, of as many, of none.
  DraftCase(std::int32_t q_len, std::int32_t window_left, bool masked, DType dtype = DType::bf16, std::int32_t head_dim = 64)
      : c(drawn(q_len, window_left, masked, dtype, head_dim)), lens(c.spec.kv_lens.begin(), c.spec.kv_lens.end()) {
    if (!masked) return;
    ladder::Random random(c.spec.seed, 5);
    const std::size_t words_of_row = static_cast<std::size_t>(q_len + 31) / 32;
    for (std::size_t i = 0; i < lens.size() * static_cast<std::size_t>(q_len) * words_of_row; ++i) {
      words.push_back(random.below(0xffffffff));
    }
    c.custom_mask.clear();
    for (std::size_t b = 0; b < lens.size(); ++b) {
      for (std::int32_t i = 0; i < q_len; ++i) {
        const std::size_t at = b * static_cast<std::size_t>(q_len) + static_cast<std::size_t>(i);
        const std::uint32_t* row = words.data() + at * words_of_row;
        for (std::int32_t j = 0; j < c.spec.kv_lens[b]; ++j) {
          const std::int32_t k = j - (c.spec.kv_lens[b] - q_len);  // the query whose key this is
          c.custom_mask.push_back(k < 0 || (row[k / 32] >> (k % 32) & 1) != 0 ? 1 : 0);
        }
      }
    }
  }
  std::int32_t q_len() const { return c.spec.qo_lens[0]; }

 private:
  static ladder::Case drawn(std::int32_t q_len, std::int32_t window_left, bool masked, DType dtype, std::int32_t head_dim) {
    ladder::CaseSpec spec{.name = "draft", .seed = 5, .qo_lens = {}, .kv_lens = {300, q_len / 2, 129, q_len, 0},
                          .page_size = 16, .dtype = dtype};
    spec.qo_lens.assign(5, q_len);
    spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = head_dim, .head_dim_vo = head_dim,
                   .sm_scale = head_dim == 64 ? 0.2f : 0.09f,
                   .mask = masked ? MaskMode::custom : MaskMode::causal, .window_left = window_left, .sinks = true};
    if (masked) spec.custom_mask = ladder::CustomMask::random;
    return ladder::draw_case(spec);
  }
};

}  // namespace flashladder::test
