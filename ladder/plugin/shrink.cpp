#include "ladder/plugin/shrink.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/error.hpp"

namespace flashladder::ladder {
namespace {

using Specs = std::vector<CaseSpec>;

bool drawable(const CaseSpec& spec) {
  try {
    validate(spec);
    return true;
  } catch (const InputError&) {
    return false;
  }
}

template <class Change>
void add(Specs& list, const CaseSpec& from, Change change) {
  CaseSpec spec = from;
  change(spec);
  list.push_back(std::move(spec));
}

CaseSpec with_requests(const CaseSpec& from, std::int32_t begin, std::int32_t end, bool kept) {
  CaseSpec spec = from;
  spec.qo_lens.clear(), spec.kv_lens.clear();
  for (std::int32_t b = 0; b < from.batch(); ++b) {
    if ((b >= begin && b < end) != kept) continue;
    spec.qo_lens.push_back(from.qo_lens[b]);
    spec.kv_lens.push_back(from.kv_lens[b]);
  }
  return spec;
}

void fewer_requests(Specs& list, const CaseSpec& s) {
  if (s.batch() < 2) return;
  for (std::int32_t b = 0; b < s.batch(); ++b) list.push_back(with_requests(s, b, b + 1, true));
  for (std::int32_t b = 0; b < s.batch(); ++b) list.push_back(with_requests(s, b, b + 1, false));
}

// Targets below n, bold ones first: 0, 1, n / 2, 3 n / 4, n - 1.
std::vector<std::int32_t> below(std::int32_t n, std::int32_t least) {
  std::vector<std::int32_t> targets;
  for (const std::int32_t t : {least, least + 1, n / 2, n - n / 4, n - 1}) {
    if (t >= least && t < n && (targets.empty() || t > targets.back())) targets.push_back(t);
  }
  return targets;
}

void shorter(Specs& list, const CaseSpec& s) {
  for (std::int32_t b = 0; b < s.batch(); ++b) {
    for (const std::int32_t n : below(s.kv_lens[b], 0)) add(list, s, [&](CaseSpec& c) { c.kv_lens[b] = n; });
    for (const std::int32_t n : below(s.qo_lens[b], 0)) add(list, s, [&](CaseSpec& c) { c.qo_lens[b] = n; });
    if (s.qo_lens[b] > 1 && s.kv_lens[b] > 1) {  // the causal corner stays where it was
      add(list, s, [&](CaseSpec& c) { c.qo_lens[b] -= 1, c.kv_lens[b] -= 1; });
    }
  }
}

void smaller_heads(Specs& list, const CaseSpec& s) {
  const AttentionParams& p = s.params;
  const std::int32_t group = p.group_size();
  for (const std::int32_t n : below(p.num_kv_heads, 1)) {
    add(list, s, [&](CaseSpec& c) { c.params.num_kv_heads = n, c.params.num_qo_heads = n * group; });
  }
  for (const std::int32_t n : below(group, 1)) {
    add(list, s, [&](CaseSpec& c) { c.params.num_qo_heads = p.num_kv_heads * n; });
  }
  for (const std::int32_t n : {1, 2, 4, 8, 16, 32, 64}) {
    if (n >= std::max(p.head_dim_qk, p.head_dim_vo)) break;
    add(list, s, [&](CaseSpec& c) { c.params.head_dim_qk = c.params.head_dim_vo = n; });
  }
  for (const std::int32_t n : below(s.page_size, 1)) add(list, s, [&](CaseSpec& c) { c.page_size = n; });
}

void fewer_features(Specs& list, const CaseSpec& s) {
  const auto without = [&](bool has, auto change) {
    if (has) add(list, s, change);
  };
  const AttentionParams& p = s.params;
  without(s.custom_mask != CustomMask::none,
          [](CaseSpec& c) { c.custom_mask = CustomMask::none, c.params.mask = MaskMode::none; });
  without(p.mask == MaskMode::causal, [](CaseSpec& c) { c.params.mask = MaskMode::none; });
  without(p.window_left >= 0, [](CaseSpec& c) { c.params.window_left = -1; });
  for (const std::int32_t w : below(p.window_left, 0)) add(list, s, [&](CaseSpec& c) { c.params.window_left = w; });
  without(p.logits_soft_cap > 0, [](CaseSpec& c) { c.params.logits_soft_cap = 0; });
  without(p.pos_encoding_mode != PosEncodingMode::NONE,
          [](CaseSpec& c) { c.params.pos_encoding_mode = PosEncodingMode::NONE; });
  without(p.sinks, [](CaseSpec& c) { c.params.sinks = false; });
  without(s.block_table, [](CaseSpec& c) { c.block_table = false; });
  without(!s.combined_cache, [](CaseSpec& c) { c.combined_cache = true; });
  without(s.kv_layout != KvLayout::NHD, [](CaseSpec& c) { c.kv_layout = KvLayout::NHD; });
  without(s.kv_scales == KvScaling::per_head, [](CaseSpec& c) { c.kv_scales = KvScaling::number; });
  without(s.kv_dtype.has_value(), [](CaseSpec& c) { c.kv_dtype = {}, c.kv_scales = KvScaling::none; });
  without(s.dtype != DType::f32, [](CaseSpec& c) { c.dtype = DType::f32; });
  without(s.values != Values::normal, [](CaseSpec& c) { c.values = Values::normal; });
}

Specs smaller(const CaseSpec& s) {
  Specs list;
  fewer_requests(list, s);
  fewer_features(list, s);
  shorter(list, s);
  smaller_heads(list, s);
  return list;
}

}  // namespace

Shrunk shrink(const CaseSpec& failing, const std::function<bool(const CaseSpec&)>& still_fails, const ShrinkLimits& limits) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(limits.seconds);
  Shrunk best{.spec = failing};
  const auto spent = [&] { return best.runs >= limits.runs || std::chrono::steady_clock::now() > end; };
  const auto step = [&] {
    for (CaseSpec& spec : smaller(best.spec)) {
      if (spent()) return false;
      if (!drawable(spec)) continue;
      ++best.runs;
      if (!still_fails(spec)) continue;
      best.spec = std::move(spec);
      return true;
    }
    return false;
  };
  while (step()) {
  }
  best.spec.name = case_string(best.spec);
  return best;
}

}  // namespace flashladder::ladder
