#include "bench/cta_profile.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "draw/cta_chart.hpp"
#include "draw/html.hpp"

namespace flashladder::bench {

CtaFit fit(const CtaProfile& p) {
  CtaFit f;
  double sum_x = 0, sum_y = 0, most_x = 0, first = 0, last = 0;
  const auto has_work = [&](std::size_t i) { return p.predicted[i] > 0; };
  for (std::size_t i = 0; i < p.predicted.size(); ++i) {
    if (!has_work(i)) continue;
    const double x = p.predicted[i], y = p.end_us[i] - p.begin_us[i];
    first = f.ctas == 0 ? p.begin_us[i] : std::min(first, p.begin_us[i]);
    last = std::max(last, p.end_us[i]);
    sum_x += x;
    sum_y += y;
    most_x = std::max(most_x, x);
    f.longest_us = std::max(f.longest_us, y);
    ++f.ctas;
  }
  if (f.ctas == 0) return f;
  const double mean_x = sum_x / f.ctas;
  f.mean_us = sum_y / f.ctas;
  f.kernel_us = last - first;
  f.predicted_imbalance = most_x / mean_x;
  f.measured_imbalance = f.longest_us / f.mean_us;
  double xx = 0, xy = 0, yy = 0;
  for (std::size_t i = 0; i < p.predicted.size(); ++i) {
    if (!has_work(i)) continue;
    const double x = p.predicted[i] - mean_x, y = p.end_us[i] - p.begin_us[i] - f.mean_us;
    xx += x * x;
    xy += x * y;
    yy += y * y;
  }
  // Costs that differ by less than 1 % say nothing about a slope: then a key costs what it does on average.
  const bool varied = std::sqrt(xx / f.ctas) > 0.01 * mean_x;
  f.ns_per_key = 1e3 * (varied ? xy / xx : f.mean_us / mean_x);
  f.fixed_us = varied ? f.mean_us - xy / xx * mean_x : 0;
  f.correlation = xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
  return f;
}

std::string text(const CtaProfile& profile, const CtaFit& f, const std::string& lane) {
  char kernel[48] = "", line[256];
  if (lane == "CTA") std::snprintf(kernel, sizeof kernel, "kernel %.1f us, ", f.kernel_us);
  std::snprintf(line, sizeof line,
                "mean %.1f us, longest %.1f us; longest / mean predicted %.3f, measured %.3f; "
                "%.2f us + %.2f ns a key, r = %.3f",
                f.mean_us, f.longest_us, f.predicted_imbalance, f.measured_imbalance, f.fixed_us, f.ns_per_key,
                f.correlation);
  return profile.work + ", " + profile.policy + ": " + std::to_string(f.ctas) + " " + lane + "s, " + kernel + line;
}

draw::Svg picture(const CtaProfile& p, const CtaFit& f, const std::string& lane) {
  std::vector<draw::CtaTime> times;
  for (std::size_t i = 0; i < p.predicted.size(); ++i) {
    times.push_back({p.begin_us[i], p.end_us[i], p.predicted[i] > 0 ? f.predicted_us(p.predicted[i]) : 0});
  }
  return draw::cta_chart(times, {.title = p.work + ", policy " + p.policy}, lane);
}

std::string cta_page(const std::vector<CtaProfile>& profiles, const std::string& machine) {
  draw::HtmlPage page("CTAs, predicted and measured", machine);
  page.paragraph("Each column is a CTA of D6, from when it starts to when it ends, by the GPU's clock. The mark is where it "
                 "should have ended: a line through all CTAs of the picture, cost to time, that the paragraph gives.");
  for (const CtaProfile& p : profiles) {
    const CtaFit f = fit(p);
    page.section(p.work + ", policy " + p.policy);
    page.paragraph(text(p, f));
    page.figure(picture(p, f), "Microseconds from the first CTA's start.");
  }
  return page.str();
}

}  // namespace flashladder::bench
