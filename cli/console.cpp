#include "cli/console.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace flashladder::cli {
namespace {

bool colour_wanted() {
  const char* no_colour = std::getenv("NO_COLOR");  // no-color.org: set and not empty
  return isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == '\0');
}

bool is_number(const std::string& cell) {
  const std::size_t first = cell.find_first_not_of("+-");
  return first != cell.npos && cell[first] >= '0' && cell[first] <= '9' && std::count(cell.begin(), cell.end(), ' ') <= 1;
}

}  // namespace

std::string text_table(const Row& header, const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  std::vector<bool> right;
  for (std::size_t c = 0; c < header.size(); ++c) {
    widths.push_back(header[c].size());
    right.push_back(false);
    for (const Row& row : rows) {
      widths[c] = std::max(widths[c], row[c].size());
      if (is_number(row[c])) right[c] = true;
    }
  }
  std::string text;
  const auto add = [&](const Row& row) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(widths[c] - row[c].size(), ' ');
      text += (c == 0 ? "" : "  ") + (right[c] ? blanks + row[c] : c + 1 == row.size() ? row[c] : row[c] + blanks);
    }
    text += "\n";
  };
  add(header);
  for (const Row& row : rows) add(row);
  return text;
}

std::string verdict(bool ok) {
  if (!colour_wanted()) return ok ? "ok" : "FAIL";
  return ok ? "\033[32mok\033[0m" : "\033[1;31mFAIL\033[0m";
}

std::string short_number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", x);
  return text;
}

std::string three_digits(double x) {
  const int before_point = x == 0 ? 1 : static_cast<int>(std::floor(std::log10(std::abs(x)))) + 1;
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", std::clamp(3 - before_point, 0, 9), x);
  return text;
}

std::string milliseconds(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, ms < 1 ? "%.3f ms" : ms < 100 ? "%.2f ms" : "%.0f ms", ms);
  return text;
}

std::string counted(std::int64_t n, const char* noun) { return std::to_string(n) + " " + noun + (n == 1 ? "" : "s"); }

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_json(const ladder::Json& json) { print(report_json(json) + "\n"); }

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0), last_(std::chrono::steady_clock::now()) {}

Progress::~Progress() { clear(); }

void Progress::say(const std::string& what) {
  if (terminal_) {
    const std::string line = what.substr(0, 78);
    const std::string blanks(width_ > line.size() ? width_ - line.size() : 0, ' ');  // no escape code, and any terminal
    std::fprintf(stderr, "\r%s%s\r", line.c_str(), blanks.c_str());
    width_ = line.size();
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::seconds(5)) return;
  last_ = now;
  std::fprintf(stderr, "... %s\n", what.c_str());
}

void Progress::clear() {
  if (width_ > 0) std::fprintf(stderr, "\r%s\r", std::string(width_, ' ').c_str());
  width_ = 0;
}

}  // namespace flashladder::cli
