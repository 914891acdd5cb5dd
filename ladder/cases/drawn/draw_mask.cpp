#include <algorithm>

#include "ladder/cases/drawn/draw_parts.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::ladder {
namespace {

// One request's mask, [qo_len, kv_len]. Query i is token kv_len - qo_len + i, which lies before the first key if negative.
struct Request {
  std::uint8_t* mask;
  std::int64_t qo_len, kv_len;

  std::int64_t token(std::int64_t i) const { return kv_len - qo_len + i; }
  void see(std::int64_t i, std::int64_t key) const {
    if (key >= 0) mask[i * kv_len + key] = 1;
  }
};

void draw_causal(const Request& r) {
  for (std::int64_t i = 0; i < r.qo_len; ++i) {
    for (std::int64_t key = 0; key <= r.token(i); ++key) r.see(i, key);
  }
}

void draw_tree(const Request& r, Random& random) {
  std::vector<std::int64_t> parent(r.qo_len);
  for (std::int64_t i = 0; i < r.qo_len; ++i) {
    parent[i] = static_cast<std::int64_t>(random.below(static_cast<std::uint32_t>(i + 1))) - 1;  // -1: follows the prefix
    for (std::int64_t key = 0; key < r.token(0); ++key) r.see(i, key);
    for (std::int64_t node = i; node >= 0; node = parent[node]) r.see(i, r.token(node));
  }
}

void draw_random(const Request& r, Random& random, bool empty_rows) {
  for (std::int64_t i = 0; i < r.qo_len; ++i) {
    if (empty_rows && (i == 0 || random.below(3) == 0)) continue;
    for (std::int64_t key = 0; key < r.kv_len; ++key) r.mask[i * r.kv_len + key] = random.sign() > 0;
  }
}

void draw_holes(const Request& r, Random& random) {
  if (r.kv_len == 0) return;
  const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random.below(static_cast<std::uint32_t>(n))); };
  const auto hide = [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
    const std::int64_t first = std::max<std::int64_t>(begin, 0), last = std::min(end, r.kv_len);
    if (first < last) std::fill(r.mask + i * r.kv_len + first, r.mask + i * r.kv_len + last, std::uint8_t{0});
  };
  const std::int64_t of_all = 64 * below(r.kv_len / 64 + 1);
  for (std::int64_t i = 0; i < r.qo_len; ++i) {
    std::fill_n(r.mask + i * r.kv_len, r.kv_len, std::uint8_t{1});
    if (r.kv_len > 64) hide(i, of_all, of_all + 64);
    const std::int64_t kind = below(3);
    for (std::int64_t hole = 0; kind > 0 && hole < 3; ++hole) {
      const std::int64_t edge = 32 * below(r.kv_len / 32 + 2), key = edge - below(2);
      hide(i, key, key + 1);
    }
    if (kind == 2 && r.kv_len > 64) {
      const std::int64_t begin = 32 * below(r.kv_len / 32);
      hide(i, begin, begin + 64);
    }
  }
}

}  // namespace

std::vector<std::uint8_t> draw_mask(const CaseSpec& spec) {
  std::vector<std::uint8_t> mask(spec.mask_bytes(), 0);
  Random random(spec.seed, static_cast<std::uint64_t>(Stream::mask));
  std::uint8_t* at = mask.data();
  for (std::int32_t b = 0; b < spec.batch(); ++b) {
    const Request request{at, spec.qo_lens[b], spec.kv_lens[b]};
    if (spec.custom_mask == CustomMask::causal) draw_causal(request);
    if (spec.custom_mask == CustomMask::tree) draw_tree(request, random);
    if (spec.custom_mask == CustomMask::random) draw_random(request, random, false);
    if (spec.custom_mask == CustomMask::empty_rows) draw_random(request, random, true);
    if (spec.custom_mask == CustomMask::holes) draw_holes(request, random);
    at += request.qo_len * request.kv_len;
  }
  return mask;
}

}  // namespace flashladder::ladder
