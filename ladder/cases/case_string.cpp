// The line that names a case's work in tables of measurements. Lengths first, then heads and pages, then what is unusual.
#include <algorithm>
#include <numeric>

#include "ladder/cases/case_spec.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::ladder {
namespace {

using Lengths = std::vector<std::int32_t>;

bool uniform(const Lengths& lens) { return std::count(lens.begin(), lens.end(), lens[0]) == std::ssize(lens); }

// "4 x q512 + 60 x q1"; empty if that takes more than four terms.
std::string as_runs(const Lengths& lens, const std::string& prefix) {
  std::string text;
  int runs = 0;
  for (auto it = lens.begin(); it != lens.end();) {
    const auto end = std::find_if(it, lens.end(), [&](std::int32_t n) { return n != *it; });
    if (++runs > 4) return "";
    text += (text.empty() ? "" : " + ") + std::to_string(end - it) + " x " + prefix + std::to_string(*it);
    it = end;
  }
  return text;
}

// "kv31..9251 (106057)": extremes and the sum.
std::string as_range(const Lengths& lens, const std::string& prefix) {
  const auto [least, most] = std::minmax_element(lens.begin(), lens.end());
  const auto sum = std::accumulate(lens.begin(), lens.end(), std::int64_t{0});
  if (*least == *most) return prefix + std::to_string(*least);
  return prefix + std::to_string(*least) + ".." + std::to_string(*most) + " (" + std::to_string(sum) + ")";
}

// The two helpers above want at least one length: a file may hold a batch of none.
std::string lengths_text(const CaseSpec& s, bool decode) {
  const std::string batch = std::string("B") + std::to_string(s.batch()) + " ";
  if (s.kv_lens.empty()) return "B0";
  if (uniform(s.qo_lens) && uniform(s.kv_lens)) {
    const std::string qo = std::to_string(s.qo_lens[0]), kv = std::to_string(s.kv_lens[0]);
    if (decode) return batch + "kv" + kv;
    return batch + (qo == kv ? "S" + qo : "q" + qo + " kv" + kv);
  }
  if (decode) {
    const std::string runs = as_runs(s.kv_lens, "");
    if (!runs.empty()) return runs;
  } else if (uniform(s.kv_lens)) {
    const std::string runs = as_runs(s.qo_lens, "q");
    if (!runs.empty()) return runs + ", kv" + std::to_string(s.kv_lens[0]);
  }
  return batch + (decode ? "" : as_range(s.qo_lens, "q") + " ") + as_range(s.kv_lens, "kv");
}

std::string mask_text(const CaseSpec& s, bool decode) {
  if (s.custom_mask != CustomMask::none) return std::string(" mask ") + name_of(s.custom_mask);
  if (decode) return "";  // one query, the last token: causal or not is the same work
  return s.params.mask == MaskMode::causal ? " causal" : " full";
}

}  // namespace

namespace {

std::string dtypes_text(const CaseSpec& s) {
  std::string text;
  if (s.dtype != DType::f16) text += std::string(" ") + name_of(s.dtype);
  if (is_fp8(s.cache_dtype())) text += s.cache_dtype() == DType::f8_e4m3 ? " float8_e4m3fn" : " float8_e5m2";
  if (s.kv_scales != usual_scaling(s.cache_dtype())) text += std::string(" kv_scales ") + name_of(s.kv_scales);
  return text;
}

// "B128 kv4096 h16", "B32 kv8192 h16 q4": as the peers' tables call them. What is usual is left out: DeepSeek's head dims,
// pages of 64, f16, and causal where a request has several queries.
std::string mla_case_string(const CaseSpec& s) {
  const MlaParams p = s.mla_params();
  const bool decode = std::all_of(s.qo_lens.begin(), s.qo_lens.end(), [](std::int32_t n) { return n == 1; });
  const bool alike = !s.kv_lens.empty() && uniform(s.kv_lens) && uniform(s.qo_lens);
  std::string text = lengths_text(s, decode || alike) + " h" + std::to_string(p.num_heads);
  if (alike && !decode) text.append(" q").append(std::to_string(s.qo_lens[0]));
  if (!decode && p.mask != MaskMode::causal) text += " full";
  if (s.page_size != 64) text.append(" p").append(std::to_string(s.page_size));
  if (p.head_dim_ckv != 512 || p.head_dim_kpe != 64) {
    text.append(" d").append(std::to_string(p.head_dim_ckv)).append("+").append(std::to_string(p.head_dim_kpe));
  }
  if (s.block_table) text += " block table";
  return text + dtypes_text(s);
}

}  // namespace

std::string case_string(const CaseSpec& s) {
  if (s.op == Op::mla) return mla_case_string(s);
  const AttentionParams& p = s.params;
  const bool decode = std::all_of(s.qo_lens.begin(), s.qo_lens.end(), [](std::int32_t n) { return n == 1; });
  std::string text = lengths_text(s, decode) + " " + std::to_string(p.num_qo_heads) + "/" + std::to_string(p.num_kv_heads) +
                     " p" + std::to_string(s.page_size);
  if (p.head_dim_qk != 128 || p.head_dim_vo != 128) text.append(" d").append(std::to_string(p.head_dim_qk));
  if (p.head_dim_qk != p.head_dim_vo) text.append("/").append(std::to_string(p.head_dim_vo));
  text += mask_text(s, decode);
  if (p.window_left >= 0) text += " w" + std::to_string(p.window_left);
  if (p.logits_soft_cap > 0) text += " cap" + shortest(p.logits_soft_cap);
  if (p.pos_encoding_mode != PosEncodingMode::NONE) text += std::string(" ") + name_of(p.pos_encoding_mode);
  if (p.sinks) text += " sinks";
  if (s.block_table) text += " block table";
  if (s.kv_layout != KvLayout::NHD) text += std::string(" ") + name_of(s.kv_layout);
  return text + dtypes_text(s);
}

}  // namespace flashladder::ladder
