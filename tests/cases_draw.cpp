// What draw_case() draws, the poison around it, and the guard bands of outputs.
#include <algorithm>
#include <cmath>
#include <set>

#include "core/score_transform.hpp"
#include "core/validate.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "ladder/cases/memory/memory.hpp"
#include "tests/cases_helpers.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

namespace {

float element(const void* data, DType t, std::int64_t i) {
  if (t == DType::f32) return static_cast<const float*>(data)[i];
  if (t == DType::f16) return static_cast<float>(static_cast<const Half*>(data)[i]);
  return static_cast<float>(static_cast<const BFloat16*>(data)[i]);
}

// FNV-1a over bytes.
std::uint64_t hash(std::uint64_t h, const void* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) h = (h ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return h;
}

std::uint64_t hash(const Case& c) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const OwnedTensor* t : {&c.q, &c.kv_cache, &c.k_cache, &c.v_cache}) h = hash(h, t->bytes.data(), t->bytes.size());
  for (const Lengths* v : {&c.qo_indptr, &c.paged_kv_indptr, &c.paged_kv_indices, &c.paged_kv_last_page_len}) {
    h = hash(h, v->data(), v->size() * 4);
  }
  h = hash(h, c.custom_mask.data(), c.custom_mask.size());
  return hash(h, c.sinks.data(), c.sinks.size() * 4);
}

// The dot product of a query row and a key, in double.
double dot(const AttentionProblem& p, std::int32_t b, std::int32_t i, std::int32_t qo_head, std::int32_t key) {
  const std::int64_t k = p.kv.k_strides.offset(p.page_table().locate(b, key), qo_head / p.params.group_size());
  const std::int64_t q = ((p.qo_indptr[b] + i) * std::int64_t{p.params.num_qo_heads} + qo_head) * p.params.head_dim_qk;
  double sum = 0;
  for (int d = 0; d < p.params.head_dim_qk; ++d) {
    sum += double{element(p.q.data, p.q.dtype, q + d)} * element(p.kv.k, p.kv.dtype, k + d);
  }
  return sum;
}

CaseSpec values_spec(Values values) {
  CaseSpec s;
  s.qo_lens = {2, 5};
  s.kv_lens = {40, 3};
  s.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64};
  s.values = values;
  s.dtype = DType::f16;
  return s;
}

}  // namespace

TEST_CASE("random numbers: mean 0 and variance 1; even below n; streams differ") {
  Random random(7);
  double sum = 0, squares = 0;
  constexpr int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
    CHECK_FALSE(!(std::abs(x) < 4.9));
  }
  CHECK(std::abs(sum / n) < 4 / std::sqrt(double{n}));  // four standard errors
  CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(1.85 / n));
  int counts[3] = {};
  for (int i = 0; i < 30000; ++i) ++counts[random.below(3)];
  for (int count : counts) CHECK(std::abs(count - 10000) < 4 * std::sqrt(30000 * 2 / 9.0));
  CHECK(Random(1, 0).next() != Random(1, 1).next());
  CHECK(Random(1, 0).next() != Random(2, 0).next());
}

TEST_CASE("drawn data: the same bits on every machine") {
  CaseSpec s = small_spec();
  CHECK(hash(draw_case(s)) == 8353488712340223468u);
  s.dtype = DType::f16;
  s.params.mask = MaskMode::custom;
  s.custom_mask = CustomMask::empty_rows;
  s.params.sinks = true;
  s.values = Values::large;
  CHECK(hash(draw_case(s)) == 6086584170817130971u);
  const std::uint64_t before = hash(draw_case(s));
  s.seed = 2;
  CHECK(hash(draw_case(s)) != before);
}

TEST_CASE("drawn data: a valid problem whose values don't depend on pages or layout or dtype") {
  const CaseSpec base = small_spec();
  const Case expected = draw_case(base);
  const AttentionProblem p = expected.problem();
  for (const int page_size : {1, 3, 16}) {
    for (const KvLayout layout : {KvLayout::NHD, KvLayout::HND}) {
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        for (const bool combined : {true, false}) {
          CaseSpec s = base;
          s.page_size = page_size, s.kv_layout = layout, s.dtype = dtype, s.combined_cache = combined;
          const Case c = draw_case(s);
          const AttentionProblem other = c.problem();
          CHECK_NOTHROW(validate(other));
          CHECK(other.page_table().page_size == page_size);
          CHECK(std::set(c.paged_kv_indices.begin(), c.paged_kv_indices.end()).size() == c.paged_kv_indices.size());
          const double close = 8 * 8 * 2 * unit_roundoff(dtype) * 5 * 5;
          for (int b = 0; b < base.batch(); ++b) {
            for (int i = 0; i < base.qo_lens[b]; ++i) {
              for (int key = 0; key < base.kv_lens[b]; ++key) {
                CHECK_FALSE(!(std::abs(dot(other, b, i, 4, key) - dot(p, b, i, 4, key)) <= close));
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("drawn data: every unused slot is NaN and every used one is not") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const int head_dim_vo : {8, 12}) {
      CaseSpec s = small_spec();
      s.dtype = dtype;
      s.params.head_dim_vo = head_dim_vo;
      const Case c = draw_case(s);
      const AttentionProblem p = c.problem();
      CHECK(p.kv.num_pages == 8);  // twice the four pages in use
      std::set<std::pair<std::int64_t, std::int32_t>> used;
      for (int b = 0; b < s.batch(); ++b) {
        for (int token = 0; token < s.kv_lens[b]; ++token) {
          const KvSlot slot = p.page_table().locate(b, token);
          used.insert({slot.page, slot.entry});
        }
      }
      CHECK(static_cast<std::int64_t>(used.size()) == s.total_kv());
      for (int page = 0; page < p.kv.num_pages; ++page) {
        for (int entry = 0; entry < s.page_size; ++entry) {
          for (int head = 0; head < 2; ++head) {
            const KvSlot slot{page, entry};
            const std::int64_t k = p.kv.k_strides.offset(slot, head), v = p.kv.v_strides.offset(slot, head);
            const bool is_used = used.contains({page, entry});
            for (int d = 0; d < 8; ++d) CHECK(std::isnan(element(p.kv.k, dtype, k + d)) != is_used);
            for (int d = 0; d < head_dim_vo; ++d) CHECK(std::isnan(element(p.kv.v, dtype, v + d)) != is_used);
          }
        }
      }
    }
  }
}

TEST_CASE("drawn values: logits are what their kind promises") {
  const auto logits = [](const AttentionProblem& p, int b, int i, int head) {
    std::vector<double> x;
    for (int key = 0; key < p.kv_len(b); ++key) x.push_back(dot(p, b, i, head, key) * p.params.sm_scale);
    return x;
  };
  for (const Values values : {Values::equal, Values::large, Values::first_max, Values::last_max}) {
    CAPTURE(name_of(values));
    const Case c = draw_case(values_spec(values));
    const AttentionProblem p = c.problem();
    for (int head = 0; head < 4; ++head) {
      for (int i = 0; i < 2; ++i) {
        std::vector<double> x = logits(p, 0, i, head);
        const auto top = std::max_element(x.begin(), x.end());
        const auto place = top - x.begin();
        if (values == Values::equal) CHECK(*top == *std::min_element(x.begin(), x.end()));
        if (values == Values::large) {
          for (double logit : x) CHECK_FALSE(!(std::abs(std::abs(logit) - 1e5) < 1e3));
          CHECK(std::count_if(x.begin(), x.end(), [](double logit) { return logit > 0; }) % 40 != 0);
        } else if (values != Values::equal) {
          CHECK((values == Values::first_max ? place < 16 : place >= 24));
          const double highest = *top;
          *top = -1e9;
          CHECK_FALSE(!(highest - *std::max_element(x.begin(), x.end()) > 15));
        }
      }
    }
  }
}

TEST_CASE("drawn masks: bottom-right causal and trees and empty rows") {
  CaseSpec s = small_spec();
  s.params.mask = MaskMode::custom;
  s.qo_lens = {9, 4};
  s.kv_lens = {6, 300};
  const auto row = [&](const Case& c, int b, int i) {
    return c.custom_mask.data() + (b == 0 ? 0 : 9 * 6) + i * s.kv_lens[b];
  };
  s.custom_mask = CustomMask::causal;
  const Case causal = draw_case(s);
  s.custom_mask = CustomMask::tree;
  const Case tree = draw_case(s);
  s.custom_mask = CustomMask::empty_rows;
  const Case empty = draw_case(s);
  CHECK_NOTHROW(validate(empty.problem()));
  int ones = 0, branches = 0;
  for (int b = 0; b < 2; ++b) {
    for (int i = 0; i < s.qo_lens[b]; ++i) {
      const int diagonal = i + s.kv_lens[b] - s.qo_lens[b];
      for (int j = 0; j < s.kv_lens[b]; ++j) {
        CHECK(row(causal, b, i)[j] == (j <= diagonal));
        const bool sees = row(tree, b, i)[j];
        if (j > diagonal) CHECK_FALSE(sees);
        if (j == diagonal || j < s.kv_lens[b] - s.qo_lens[b]) CHECK(sees);
        branches += j < diagonal && !sees;
        const int node = j - s.kv_lens[b] + s.qo_lens[b];  // a draft that i descends from: i sees all that the draft sees
        for (int k = 0; sees && node >= 0 && k < s.kv_lens[b]; ++k) CHECK(row(tree, b, node)[k] <= row(tree, b, i)[k]);
        ones += row(empty, b, i)[j];
        if (i == 0) CHECK(row(empty, b, i)[j] == 0);
      }
    }
  }
  CHECK(branches > 0);  // no mere causal mask
  CHECK(ones > 100);
  CHECK(ones < 1000);
}

TEST_CASE("drawn masks: holes in rows that see nearly everything") {
  CaseSpec s = small_spec();
  s.params.mask = MaskMode::custom, s.custom_mask = CustomMask::holes;
  s.qo_lens = {40, 3, 2};
  s.kv_lens = {333, 31, 0};
  const Case c = draw_case(s);
  CHECK_NOTHROW(validate(c.problem()));
  int hidden = 0, of_all = 0, single = 0, whole_words = 0;
  for (int j = 0; j < 333; ++j) {
    int rows = 0;
    for (int i = 0; i < 40; ++i) {
      const std::uint8_t* row = c.custom_mask.data() + i * 333;
      rows += row[j] == 0;
      single += row[j] == 0 && (j == 0 || row[j - 1] == 1) && (j == 332 || row[j + 1] == 1);
      whole_words += j % 32 == 0 && std::find(row + j, row + std::min(j + 32, 333), 0) == row + std::min(j + 32, 333);
    }
    hidden += rows, of_all += rows == 40;
  }
  CHECK(of_all >= 13);  // one block of 64, which may be cut off at the end
  CHECK(of_all <= 64);
  CHECK(single > 10);
  CHECK(whole_words > 150);
  CHECK(hidden < 40 * 333 / 2);
}

TEST_CASE("a case that does not fit is refused with both numbers before anything is allocated") {
  CaseSpec s = small_spec();
  s.kv_lens[0] = 2000000000;
  s.params.num_kv_heads = 3;
  s.params.head_dim_qk = s.params.head_dim_vo = 16384;
  check_refused(refusal([&] { draw_case(s); }), {"case \"small\"", "PiB of memory", "this machine has", "GiB available"});
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(available_memory() > (1u << 20));
  CHECK(refusal([] { require_memory(1, "x"); }) == "");
}

TEST_CASE("guarded output: starts as NaN and sees a write on either side") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64}) {
    GuardedOutput out(3, 2, 5, dtype);
    const AttentionOutput view = out.view();
    CHECK(view.o.size() == 30);
    CHECK(view.lse_log2.size() == 6);
    for (int i = 0; i < 30; ++i) {
      CHECK(std::isnan(dtype == DType::f64 ? view.o.data_as<double>()[i] : element(view.o.data, dtype, i)));
    }
    for (float lse : view.lse_log2) CHECK(std::isnan(lse));
    const auto bytes = static_cast<std::int64_t>(30 * size_of(dtype));
    for (const std::int64_t at : {std::int64_t{-64}, std::int64_t{-1}, bytes, bytes + 63}) {
      CHECK(out.guards_intact());
      view.o.data_as<std::uint8_t>()[at] ^= 1;
      CHECK_FALSE(out.guards_intact());
      out.poison();
    }
    view.lse_log2.data()[6] = 0;
    CHECK_FALSE(out.guards_intact());
  }
}
