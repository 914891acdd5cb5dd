#include "bench/report/case_shape.hpp"

#include <sstream>
#include <string_view>

#include "ladder/cases/input/text.hpp"

namespace flashladder::bench {
namespace {

// 2048 of "kv2048" with prefix "kv"; nothing for another token.
std::optional<double> after(std::string_view token, std::string_view prefix) {
  if (!token.starts_with(prefix)) return std::nullopt;
  return ladder::number_from<double>(token.substr(prefix.size()));
}

bool begins(const Work& w, std::string_view word) { return w.work.starts_with(word); }

}  // namespace

Kind kind_of(const Work& w) {
  const bool graph = w.family == "graph", cpu = w.family == "cpu";
  if (w.family == "copy" || w.family == "read" || w.family == "gemm" || begins(w, "GEMM ")) return Kind::ceiling;
  if (cpu && (begins(w, "copy ") || begins(w, "read "))) return Kind::ceiling;
  if (w.family == "norm" || (graph && (begins(w, "rmsnorm ") || begins(w, "fused_add_rmsnorm ")))) return Kind::norm;
  if (w.family == "rope" || (graph && begins(w, "rope "))) return Kind::rope;
  if (w.family == "append") return Kind::append;
  if (w.family == "decode" || (graph && !begins(w, "chain ")) || (cpu && begins(w, "decode "))) return Kind::decode;
  if (w.family == "prefill" || w.family == "prefill-ladder" || w.family == "attn") return Kind::prefill;
  return cpu && (begins(w, "prefill ") || begins(w, "append ")) ? Kind::prefill : Kind::other;
}

CaseShape shape_of(const Work& w) {
  CaseShape s;
  bool several = false;  // "4 x q512 + 60 x q1, kv4096"
  std::istringstream tokens(w.work);
  for (std::string token; tokens >> token;) {
    if (token == "+" || token == "x") several = true;
    if (const auto b = after(token, "B")) {
      s.batch = *b;
    } else if (const auto kv = after(token, "kv")) {
      s.kv_len = *kv;
    } else if (const auto both = after(token, "S")) {
      s.kv_len = s.qo_len = *both;
    } else if (const auto q = after(token, "q")) {
      s.qo_len = *q;
    } else {
      const std::size_t slash = token.find('/');
      const auto qo_heads = ladder::number_from<double>(std::string_view(token).substr(0, slash));
      if (slash != token.npos && qo_heads) {
        const auto kv_heads = ladder::number_from<double>(std::string_view(token).substr(slash + 1));
        if (kv_heads && *kv_heads > 0) s.group = *qo_heads / *kv_heads;
      }
      if (token == "f32") s.element_bytes = 4;
      if (token == "causal") s.causal = true;
      if (after(token, "w")) s.window = true;
      s.rest += (s.rest.empty() ? "" : " ") + token;
    }
  }
  if (several) s.batch = s.kv_len = s.qo_len = 0;
  if (kind_of(w) == Kind::decode) s.qo_len = 1;
  return s;
}

std::optional<double> intensity_of(const Work& w) {
  if (w.tera_flops && w.tera_bytes_per_s) return *w.tera_flops / *w.tera_bytes_per_s;
  const CaseShape s = shape_of(w);
  if (s.window || s.group <= 0 || s.qo_len <= 0 || (s.qo_len > 1 && s.kv_len < s.qo_len)) return std::nullopt;
  const double corner = s.causal && s.qo_len > 1 ? s.qo_len * (s.qo_len - 1) / 2 / s.kv_len : 0;
  // A key serves this many queries of each head of its group, with a multiplication and an addition for each feature.
  return 2 * (s.qo_len - corner) * s.group / s.element_bytes;
}

std::optional<double> tera_flops_of(const Work& w) {
  if (w.tera_flops) return w.tera_flops;
  const std::optional<double> intensity = intensity_of(w);
  if (!intensity || !w.tera_bytes_per_s) return std::nullopt;
  return *intensity * *w.tera_bytes_per_s;
}

std::string rung_of(const Work& w) {
  constexpr std::string_view ours = "flashladder ";
  if (!std::string_view(w.backend).starts_with(ours)) return "";
  const std::string_view rest = std::string_view(w.backend).substr(ours.size());
  const std::string_view name = rest.substr(0, rest.find_first_of(" ,"));
  if (name.size() < 2 || std::string_view("CDP").find(name[0]) == std::string_view::npos) return "";
  return ladder::number_from<int>(name.substr(1)) ? std::string(name) : "";
}

std::string shown_as(const Work& w) {
  const std::string rung = rung_of(w);
  return rung.empty() ? w.backend : rung;
}

bool is_fastest(const Lines& lines, const Work& work) {
  const std::string name = shown_as(work);
  for (const Work& w : lines.works) {
    if (w.us < work.us && w.family == work.family && w.work == work.work && shown_as(w) == name) return false;
  }
  return true;
}

}  // namespace flashladder::bench
