// Where a token lies and who may see it: PageTable, KvLayout, the cache over tensors, visibility. Each against a formulation
// that shares nothing with the code: walking, hand-written indices, counting from the end.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/attention_problem.hpp"
#include "core/error.hpp"
#include "core/visibility.hpp"

using namespace flashladder;

namespace {

// What `call` refused, as "argument|message"; fails if it didn't.
template <class Call>
std::string refused(Call call) {
  try {
    call();
  } catch (const InputError& e) {
    return e.argument + "|" + e.what();
  }
  FAIL_CHECK("nothing was refused");
  return "";
}

}  // namespace

TEST_CASE("PageTable: locate and length equal a walk over the pages") {
  std::mt19937 random(7);
  for (int page_size : {1, 3, 16}) {
    for (bool identity : {false, true}) {
      CAPTURE(page_size);
      CAPTURE(identity);
      const std::vector<int> lengths = {0, 1, page_size - 1, page_size, page_size + 1, 0, 5 * page_size + 2, 97};
      std::vector<std::int32_t> indptr{0}, indices, last;
      for (int n : lengths) {
        indptr.push_back(indptr.back() + pages_for(n, page_size));
        last.push_back(last_page_len_for(n, page_size));
      }
      for (int i = 0; i < indptr.back(); ++i) indices.push_back(i);
      if (!identity) std::shuffle(indices.begin(), indices.end(), random);
      const PageTable table{indptr.data(), identity ? nullptr : indices.data(), last.data(), page_size,
                            static_cast<int>(lengths.size())};
      int position = 0;
      for (int r = 0; r < table.num_requests; ++r) {
        CHECK(table.length(r) == lengths[r]);
        for (int token = 0, entry = 0; token < lengths[r]; ++token) {
          CHECK(table.locate(r, token) == KvSlot{indices[position], entry});
          if (++entry == page_size) ++position, entry = 0;
        }
        position = indptr[r + 1];
      }
    }
  }
}

TEST_CASE("PageTable: a request without pages is empty whatever last_page_len says") {
  const std::int32_t indptr[] = {0, 0, 1}, indices[] = {4}, last[] = {9, 2};
  const PageTable table{indptr, indices, last, 16, 2};
  CHECK(table.length(0) == 0);
  CHECK(table.length(1) == 2);
}

TEST_CASE("page counts reach 2^31 - 1 tokens") {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  CHECK(pages_for(most, 1) == most);
  CHECK(pages_for(most, 16) == 134217728);
  CHECK(last_page_len_for(most, 16) == 15);
  CHECK(last_page_len_for(48, 16) == 16);
  CHECK(last_page_len_for(0, 16) == 0);
}

TEST_CASE("a 5-D cache: both layouts reach the hand-written index") {
  constexpr int pages = 3, page_size = 4, heads = 2, dim = 5;
  std::vector<float> pool(pages * 2 * page_size * heads * dim);
  for (std::size_t i = 0; i < pool.size(); ++i) pool[i] = static_cast<float>(i);
  const auto nhd = paged_kv_cache(contiguous(pool.data(), DType::f32, {pages, 2, page_size, heads, dim}), KvLayout::NHD);
  const auto hnd = paged_kv_cache(contiguous(pool.data(), DType::f32, {pages, 2, heads, page_size, dim}), KvLayout::HND);
  for (int p = 0; p < pages; ++p) {
    for (int e = 0; e < page_size; ++e) {
      for (int h = 0; h < heads; ++h) {
        for (int kv = 0; kv < 2; ++kv) {
          const auto at = [&](const PagedKvCache& c) {
            const auto* base = static_cast<const float*>(kv == 0 ? c.k : c.v);
            return base[(kv == 0 ? c.k_strides : c.v_strides).offset({p, e}, h)];
          };
          CHECK(at(nhd) == (((p * 2 + kv) * page_size + e) * heads + h) * dim);
          CHECK(at(hnd) == (((p * 2 + kv) * heads + h) * page_size + e) * dim);
        }
      }
    }
  }
  for (const PagedKvCache& c : {nhd, hnd}) {
    CHECK(c.num_pages == pages);
    CHECK(c.page_size == page_size);
    CHECK(c.num_kv_heads == heads);
    CHECK(c.head_dim_qk == dim);
    CHECK(c.head_dim_vo == dim);
  }
}

TEST_CASE("two 4-D tensors: own dims and strides") {
  float k[1], v[1];
  Tensor kt = contiguous(k, DType::f32, {7, 16, 3, 192}), vt = contiguous(v, DType::f32, {7, 16, 3, 128});
  vt.strides[0] = 100000;  // a pool with room between its pages
  const PagedKvCache nhd = paged_kv_cache(kt, vt, KvLayout::NHD);
  CHECK(nhd.k_strides.offset({5, 11}, 2) == ((5 * 16 + 11) * 3 + 2) * 192);
  CHECK(nhd.v_strides.offset({5, 11}, 2) == 5 * 100000 + (11 * 3 + 2) * 128);
  CHECK(nhd.head_dim_qk == 192);
  CHECK(nhd.head_dim_vo == 128);
  const PagedKvCache hnd = paged_kv_cache(kt, vt, KvLayout::HND);  // the same shape read as 16 heads, 3 tokens a page
  CHECK(hnd.page_size == 3);
  CHECK(hnd.num_kv_heads == 16);
  CHECK(hnd.k_strides.offset({5, 2}, 11) == ((5 * 16 + 11) * 3 + 2) * 192);
}

TEST_CASE("offsets go past 2^31 and 2^32 elements") {
  float one[1];
  const Tensor t = contiguous(one, DType::f16, {1 << 20, 16, 8, 128});
  const PagedKvCache c = paged_kv_cache(t, t, KvLayout::NHD);
  CHECK(c.k_strides.offset({(1 << 20) - 1, 15}, 7) == 17179869184 - 128);
  CHECK(c.v_strides.offset({131072, 0}, 0) == 2147483648);
}

TEST_CASE("paged_kv_cache refuses what contradicts itself") {
  float one[1];
  const Tensor good = contiguous(one, DType::f32, {4, 8, 2, 16});
  const auto two = [&](auto change) {
    Tensor v = good;
    change(v);
    return refused([&] { paged_kv_cache(good, v, KvLayout::NHD); });
  };
  CHECK(two([](Tensor& v) { v.rank = 3; }).starts_with("v_cache rank|v_cache rank = 3"));
  CHECK(two([](Tensor& v) { v.dtype = DType::bf16; }).starts_with("v_cache dtype|v_cache dtype = bf16"));
  CHECK(two([](Tensor& v) { v.shape[0] = 5; }).starts_with("v_cache shape|v_cache shape = 5"));
  CHECK(two([](Tensor& v) { v.shape[1] = 9; }).starts_with("v_cache shape|v_cache shape = 9"));
  CHECK(two([](Tensor& v) { v.strides[3] = 2; }).starts_with("v_cache stride|v_cache stride = 2"));
  CHECK(two([](Tensor& v) { v.shape[2] = 3; }).starts_with("v_cache shape|v_cache shape = 3"));
  CHECK(two([](Tensor& v) { v.dtype = DType{77}; }).starts_with("v_cache dtype|v_cache dtype = 77"));
  CHECK(two([](Tensor& v) { v.shape[3] = 0; }).starts_with("head_dim_vo|head_dim_vo = 0"));
  const auto five = [&](std::initializer_list<std::int64_t> shape) {
    return refused([&] { paged_kv_cache(contiguous(one, DType::f32, shape), KvLayout::NHD); });
  };
  CHECK(five({4, 8, 2, 16}).starts_with("kv_cache rank|kv_cache rank = 4"));
  CHECK(five({4, 3, 8, 2, 16}).starts_with("kv_cache shape[1]|kv_cache shape[1] = 3"));
  CHECK(five({0, 2, 8, 2, 16}).starts_with("pages|pages = 0"));
  CHECK(five({1, 2, std::int64_t{1} << 32, 2, 16}).starts_with("page_size|page_size = 4294967296"));
}

namespace {

struct Wrong {
  int keys = 0, rows = 0, tiles = 0, last = 0, checked = 0;
};

// Counted from the end of the sequence, where queries and keys are aligned: query i has qo - 1 - i tokens behind it, key j
// has kv - 1 - j, and the difference is how far the key lies to the left.
void compare_visibility(const AttentionParams& p, int qo, int kv, const std::vector<std::uint8_t>& mask, Wrong& wrong) {
  std::vector<std::vector<int>> reach(qo);  // what each row's hull must hold: all but the custom mask
  for (int i = 0; i < qo; ++i) {
    int last = -1;
    for (int j = 0; j < kv; ++j) {
      const int distance = (kv - 1 - j) - (qo - 1 - i);
      const bool reached = (p.mask != MaskMode::causal || distance >= 0) && (p.window_left < 0 || distance <= p.window_left);
      if (reached) reach[i].push_back(j);
      const bool expected = reached && (p.mask != MaskMode::custom || mask[i * kv + j]);
      wrong.keys += visible(p, qo, kv, i, j, mask.data()) != expected;
      if (expected) last = j;
      ++wrong.checked;
    }
    wrong.last += last_visible_key(p, qo, kv, i, mask.data()) != last;
    const Range keys = visible_keys(p, qo, kv, i);
    wrong.rows += keys.size() != static_cast<int>(reach[i].size()) || (!keys.empty() && keys.begin != reach[i][0]);
  }
  for (int begin = 0; begin < qo; ++begin) {
    std::vector<int> all;
    for (int end = begin; end <= qo; ++end) {
      const Range keys = visible_keys(p, qo, kv, Range{begin, end});
      const Range hull = all.empty() ? Range{} : Range{*std::ranges::min_element(all), *std::ranges::max_element(all) + 1};
      wrong.tiles += all.empty() ? !keys.empty() : keys != hull;
      if (end < qo) all.insert(all.end(), reach[end].begin(), reach[end].end());
    }
  }
}

}  // namespace

TEST_CASE("visible and its hulls equal a brute force over all small shapes") {
  std::mt19937 random(3);
  Wrong wrong;
  for (MaskMode mode : {MaskMode::none, MaskMode::causal, MaskMode::custom}) {
    for (int window = -1; window <= 7; ++window) {
      for (int qo = 1; qo <= 7; ++qo) {
        for (int kv = 0; kv <= 7; ++kv) {
          AttentionParams p;
          p.mask = mode;
          p.window_left = window;
          std::vector<std::uint8_t> mask(qo * kv);
          for (auto& m : mask) m = random() % 2;
          compare_visibility(p, qo, kv, mask, wrong);
        }
      }
    }
  }
  CHECK(wrong.checked == 3 * 9 * 28 * 28);
  CHECK(wrong.keys == 0);
  CHECK(wrong.rows == 0);
  CHECK(wrong.tiles == 0);
  CHECK(wrong.last == 0);
}

TEST_CASE("visibility holds at the ends of int32") {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  AttentionParams p;
  p.mask = MaskMode::causal;
  CHECK(visible_keys(p, most, most, most - 1) == Range{0, most});
  CHECK(visible_keys(p, 1, most, 0) == Range{0, most});
  CHECK(visible_keys(p, most, 1, 0) == Range{0, 0});
  p.window_left = most;
  CHECK(visible_keys(p, 1, most, 0) == Range{0, most});
  p.window_left = 0;
  CHECK(visible_keys(p, 1, most, 0) == Range{most - 1, most});
  CHECK(last_visible_key(p, 1, most, 0, nullptr) == most - 1);
  CHECK(last_visible_key(p, most, 1, 0, nullptr) == -1);
}

TEST_CASE("ranges") {
  CHECK(Range{3, 2}.size() == 0);
  CHECK(intersect({0, 5}, {3, 9}) == Range{3, 5});
  CHECK(intersect({0, 2}, {3, 9}).empty());
  CHECK(div_up(std::numeric_limits<std::int32_t>::max(), 2) == 1073741824);
}

TEST_CASE("mask_offsets counts past int32") {
  const std::int32_t qo_indptr[] = {0, 100000, 100000, 100003}, indptr[] = {0, 100000, 100007, 100009}, last[] = {1, 1, 1};
  AttentionProblem problem;
  problem.qo_indptr = qo_indptr;
  problem.paged_kv_indptr = indptr;
  problem.paged_kv_last_page_len = last;
  CHECK(mask_offsets(problem) == std::vector<std::int64_t>{0, 10000000000, 10000000000, 10000000006});
}
