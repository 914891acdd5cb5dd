#include "bench/report/targets.hpp"

#include <algorithm>

#include "bench/roofline.hpp"

namespace flashladder::bench {
namespace {

// A copy or a read of a case's bytes is that case's floor, not what memory gives at most: "read 4 GiB" is.
bool names_itself(const Work& w, const char* what) { return w.work.starts_with(std::string(what) + " "); }

const Work* larger(const Work* a, const Work& b, std::optional<double> Work::*rate) {
  if (!(b.*rate)) return a;
  return a == nullptr || *(b.*rate) > *(a->*rate) ? &b : a;
}

bool is_our_fastest(const Lines& lines, const Work& work) {
  return work.ours() && std::none_of(lines.works.begin(), lines.works.end(), [&](const Work& w) {
    return w.ours() && w.us < work.us && w.family == work.family && w.work == work.work;
  });
}

Target target(const Lines& lines, const char* name, Kind kind, double there) {
  Target t{.name = name, .there = there, .here = {}};
  const std::optional<double> peak = lines.peak_tera_bytes_per_s(), ridge = ridge_of(lines);
  if (peak) t.here = there / a100_peak * *peak;
  if (!lines.on_gpu()) return t;
  for (const Work& w : lines.works) {
    if (kind_of(w) != kind || !w.tera_bytes_per_s || w.work.ends_with(" warm") || !is_our_fastest(lines, w)) continue;
    if (peak && w.us * *w.tera_bytes_per_s / *peak < least_us_at_peak) continue;
    if (kind == Kind::prefill) {
      const std::optional<double> intensity = intensity_of(w);
      if (!ridge || !intensity || *intensity >= *ridge) continue;
    }
    ++t.cases;
    t.meet_there += *w.tera_bytes_per_s > there;
    t.meet_here += t.here && *w.tera_bytes_per_s > *t.here;
    t.best = larger(t.best, w, &Work::tera_bytes_per_s);
  }
  return t;
}

}  // namespace

Ceilings ceilings_of(const Lines& lines) {
  Ceilings c;
  for (const Work& w : lines.works) {
    if (kind_of(w) != Kind::ceiling) continue;
    if (names_itself(w, "copy")) c.copy = larger(c.copy, w, &Work::tera_bytes_per_s);
    if (names_itself(w, "read")) c.read = larger(c.read, w, &Work::tera_bytes_per_s);
    if (w.tera_flops && !w.tera_bytes_per_s) c.gemm = larger(c.gemm, w, &Work::tera_flops);
  }
  return c;
}

std::optional<double> ridge_of(const Lines& lines) {
  const Ceilings c = ceilings_of(lines);
  double flops = c.gemm != nullptr ? *c.gemm->tera_flops : 0;
  for (const Work& w : lines.works) {
    if (c.gemm == nullptr && kind_of(w) != Kind::ceiling) flops = std::max(flops, tera_flops_of(w).value_or(0));
  }
  if (c.memory() == nullptr || flops <= 0) return std::nullopt;
  return flops / *c.memory()->tera_bytes_per_s;
}

std::vector<Target> targets_of(const Lines& lines) {
  return {target(lines, "prefill", Kind::prefill, 1.5), target(lines, "decode", Kind::decode, 1.6),
          target(lines, "RMSNorm", Kind::norm, 1.8), target(lines, "RoPE", Kind::rope, 1.5)};
}

}  // namespace flashladder::bench
