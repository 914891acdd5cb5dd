#include "picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace {

constexpr double width = 960, left = 64, right = 936, plot_height = 220;
// The colours of Okabe and Ito, which stay apart for colour-blind readers; [Part].
constexpr std::array<const char*, part_names.size()> colours{"#0072b2", "#56b4e9", "#cc79a7", "#d55e00",
                                                             "#e69f00", "#009e73", "#f0e442", "#6e7780"};
constexpr std::array<const char*, part_names.size()> inks{"#fff",    "#1b2733", "#1b2733", "#fff",
                                                          "#1b2733", "#fff",    "#1b2733", "#fff"};

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", std::round(x * 100) / 100);
  return text;
}
// Three digits, so that a step of a GPU and one of a CPU are both readable.
std::string milliseconds(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, ms < 1000 ? "%.3g ms" : "%.0f ms", ms);
  return text;
}

struct Drawing {
  std::string svg{};

  void rect(double x, double y, double w, double h, const std::string& fill, const std::string& tooltip = "") {
    svg += "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(w) + "\" height=\"" + number(h) +
           "\" fill=\"" + fill + "\">" + (tooltip.empty() ? "" : "<title>" + escaped(tooltip) + "</title>") + "</rect>\n";
  }
  void line(double x1, double y1, double x2, double y2) {
    svg += "<path d=\"M" + number(x1) + " " + number(y1) + "L" + number(x2) + " " + number(y2) + "\" stroke=\"#ced5dc\"/>\n";
  }
  void text(double x, double y, const std::string& words, const std::string& style = "") {
    svg += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" " + style + ">" + escaped(words) + "</text>\n";
  }
  static std::string escaped(const std::string& words) {
    std::string out;
    for (const char c : words) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
    return out;
  }
};

struct Total {
  int steps = 0, tokens = 0;
  Milliseconds times{};
  double milliseconds = 0;
};

Total total_of(const std::vector<StepRecord>& steps, bool prefill) {
  Total sum;
  for (const StepRecord& s : steps) {
    if (s.prefill != prefill) continue;
    ++sum.steps, sum.tokens += s.tokens, sum.milliseconds += s.milliseconds();
    for (std::size_t p = 0; p < s.times.size(); ++p) sum.times[p] += s.times[p];
  }
  return sum;
}

double draw_legend(Drawing& d, double y) {
  double x = left;
  for (std::size_t p = 0; p < part_names.size(); ++p) {
    d.rect(x, y - 10, 12, 12, colours[p]);
    d.text(x + 17, y, part_names[p]);
    x += 40 + 7.2 * static_cast<double>(std::string(part_names[p]).size());
  }
  return y + 30;
}

// One bar over the whole width: each part's share.
double draw_shares(Drawing& d, double y, const std::string& what, const Total& total) {
  d.text(left, y,
         what + ": " + milliseconds(total.milliseconds) + ", " +
             number(std::round(1e3 * total.tokens / total.milliseconds)) + " tokens/s",
         "font-weight=\"bold\"");
  double x = left;
  for (std::size_t p = 0; p < total.times.size() && total.milliseconds > 0; ++p) {
    const double share = total.times[p] / total.milliseconds, w = share * (right - left);
    const std::string percent = number(std::round(share * 1000) / 10) + " %";
    d.rect(x, y + 8, w, 34, colours[p], std::string(part_names[p]) + ": " + percent + ", " + milliseconds(total.times[p]));
    if (w > 48) d.text(x + w / 2, y + 30, percent, "text-anchor=\"middle\" fill=\"" + std::string(inks[p]) + "\"");
    x += w;
  }
  return y + 72;
}

// 1, 2 or 5 times a power of ten, so that `high` has at most five steps.
double tick(double high) {
  const double rough = high / 5, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

// A column for every decode step, and under it how many requests were answered in it.
double draw_steps(Drawing& d, double y, const std::vector<StepRecord>& decodes) {
  double high = 0;
  for (const StepRecord& s : decodes) high = std::max(high, s.milliseconds());
  if (!(high > 0)) return y;
  d.text(left, y, "Every decode step, milliseconds", "font-weight=\"bold\"");
  const double top = y + 14, bottom = top + plot_height, step = tick(high),
               scale = plot_height / (std::ceil(high / step) * step);
  for (int i = 0; i * step * scale <= plot_height + 0.5; ++i) {
    d.line(left, bottom - i * step * scale, right, bottom - i * step * scale);
    d.text(left - 8, bottom - i * step * scale + 4, number(i * step), "text-anchor=\"end\" fill=\"#5b6770\"");
  }
  const double column = (right - left) / static_cast<double>(decodes.size());
  for (std::size_t i = 0; i < decodes.size(); ++i) {
    double from = bottom;
    for (std::size_t p = 0; p < decodes[i].times.size(); ++p) {
      const double h = decodes[i].times[p] * scale;
      d.rect(left + static_cast<double>(i) * column, from -= h, column * 0.86, h, colours[p],
             "step " + std::to_string(i) + ", " + part_names[p] + ": " + milliseconds(decodes[i].times[p]));
    }
  }
  for (std::size_t i = 0, end = 0; i < decodes.size(); i = end) {
    while (end < decodes.size() && decodes[end].requests == decodes[i].requests) ++end;
    const double x = left + static_cast<double>(i) * column, w = static_cast<double>(end - i) * column;
    d.rect(x, bottom + 8, w - column * 0.14, 20, "#eceff2", std::to_string(decodes[i].requests) + " requests");
    const std::string words =
        std::to_string(decodes[i].requests) + (w > 90 ? decodes[i].requests == 1 ? " request" : " requests" : "");
    d.text(x + w / 2, bottom + 22, words, "text-anchor=\"middle\" fill=\"#5b6770\"");
  }
  return bottom + 44;
}

}  // namespace

std::string picture(const std::vector<StepRecord>& steps, const std::string& title) {
  const Total prefill = total_of(steps, true), decode = total_of(steps, false);
  std::vector<StepRecord> decodes;
  std::ranges::copy_if(steps, std::back_inserter(decodes), [](const StepRecord& s) { return !s.prefill; });
  Drawing d;
  d.text(left, 34, "Where the time of a language model goes", "font-size=\"20\" font-weight=\"bold\"");
  d.text(left, 56, title, "fill=\"#5b6770\"");
  double y = draw_legend(d, 88);
  y = draw_shares(d, y, "Prefill, " + std::to_string(prefill.tokens) + " tokens of prompts", prefill);
  y = draw_shares(d, y, "Decode, " + std::to_string(decode.tokens) + " tokens in " + std::to_string(decode.steps) + " steps",
                  decode);
  y = draw_steps(d, y, decodes);
  const std::string size =
      number(width) + "\" height=\"" + number(y + 8) + "\" viewBox=\"0 0 " + number(width) + " " + number(y + 8);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + size +
         "\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1b2733\" role=\"img\">\n"
         "<title>Shares of prefill and decode, and the time of every decode step</title>\n<rect width=\"100%\" "
         "height=\"100%\" fill=\"#fff\"/>\n" +
         d.svg + "</svg>\n";
}
