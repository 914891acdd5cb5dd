#include "cli/console.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/text.hpp"

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

// A verdict in colour, which verdict() made; nothing else may hold an escape code.
bool is_coloured_verdict(std::string_view cell) {
  const auto of = [&](const char* colour) {
    const std::string_view start = colour, reset = "\033[0m";
    if (!cell.starts_with(start) || !cell.ends_with(reset) || cell.size() < start.size() + reset.size()) return false;
    const std::string_view word = cell.substr(start.size(), cell.size() - start.size() - reset.size());
    return std::all_of(word.begin(), word.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
  };
  return of("\033[32m") || of("\033[33m") || of("\033[1;31m");
}

// What stands in a table, without the colours of a verdict: for its width.
std::string cell_text(const std::string& cell) {
  return is_coloured_verdict(cell) ? cell.substr(cell.find('m') + 1, cell.rfind('\033') - cell.find('m') - 1)
                                   : printable(cell);
}

// Text in lines of at most `columns`, cut at spaces; a longer word is cut anywhere.
std::vector<std::string> lines_of(std::string_view text, std::size_t columns) {
  std::vector<std::string> lines(1);
  const auto add = [&](std::string_view word) {
    for (; !word.empty(); word.remove_prefix(utf8_length(word))) {
      if (columns_of(lines.back()) >= columns) lines.emplace_back();
      lines.back() += word.substr(0, utf8_length(word));
    }
  };
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    const std::size_t used = columns_of(lines.back());
    if (used > 0 && used + 1 + columns_of(word) > columns) lines.emplace_back();
    else if (used > 0) lines.back() += ' ';
    add(word);
    begin = end + 1;
  }
  return lines;
}

std::size_t longest_word(const std::string& cell) {
  std::size_t longest = 0;
  for (std::size_t begin = 0; begin <= cell.size();) {
    const std::size_t end = std::min(cell.find(' ', begin), cell.size());
    longest = std::max(longest, columns_of(std::string_view(cell).substr(begin, end - begin)));
    begin = end + 1;
  }
  return longest;
}

// Takes columns from the widest column until the table fits: first only as far as cells can be cut at their spaces.
void shrink(std::vector<std::size_t>& widths, const std::vector<std::size_t>& words, std::size_t columns) {
  std::size_t total = 2 * (widths.size() - 1);
  for (const std::size_t width : widths) total += width;
  for (const bool within_words : {false, true}) {
    while (total > columns) {
      constexpr std::size_t least = 8;
      std::size_t widest = widths.size();
      for (std::size_t c = 0; c < widths.size(); ++c) {
        if (widths[c] <= (within_words ? least : words[c])) continue;
        if (widest == widths.size() || widths[c] > widths[widest]) widest = c;
      }
      if (widest == widths.size()) break;
      --widths[widest], --total;
    }
  }
}

// A row, in as many lines as its longest cell takes.
std::string row_text(const Row& row, const std::vector<std::size_t>& widths, const std::vector<bool>& right) {
  std::vector<std::vector<std::string>> cells;
  std::size_t height = 1;
  for (std::size_t c = 0; c < row.size(); ++c) {
    cells.push_back(lines_of(cell_text(row[c]), widths[c]));
    height = std::max(height, cells[c].size());
  }
  std::string text;
  for (std::size_t i = 0; i < height; ++i) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string part = i < cells[c].size() ? cells[c][i] : "";
      const std::string blanks(widths[c] - columns_of(part), ' ');
      const std::string shown = i == 0 && is_coloured_verdict(row[c]) ? row[c] : part;
      line += (c == 0 ? "" : "  ") + (right[c] ? blanks + shown : shown + blanks);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace

std::size_t output_columns() {
  winsize size{};
  const bool known = isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
  return std::max<std::size_t>(80, known ? size.ws_col : 0);
}

std::string paragraph(const std::string& text, std::size_t indent) {
  std::string out;
  for (const std::string& line : lines_of(printable(text), output_columns() - indent)) {
    out += std::string(out.empty() ? 0 : indent, ' ') + line + "\n";
  }
  return out;
}

std::string shortened(const std::string& text, std::size_t columns) {
  const std::vector<std::string> lines = lines_of(printable(text.substr(0, 4 * columns)), columns - 4);
  return lines.size() == 1 && text.size() <= 4 * columns ? lines[0] : lines[0] + " ...";
}

std::string text_table(const Row& header, const std::vector<Row>& rows) {
  std::vector<std::size_t> widths, words;
  std::vector<bool> right;
  for (std::size_t c = 0; c < header.size(); ++c) {
    widths.push_back(columns_of(header[c]));
    words.push_back(longest_word(header[c]));
    right.push_back(false);
    for (const Row& row : rows) {
      const std::string text = cell_text(row[c]);
      widths[c] = std::max(widths[c], columns_of(text));
      words[c] = std::max(words[c], longest_word(text));
      if (is_number(row[c])) right[c] = true;
    }
  }
  shrink(widths, words, output_columns());
  std::string text = row_text(header, widths, right);
  for (const Row& row : rows) text += row_text(row, widths, right);
  return text;
}

std::string verdict(ladder::Verdict verdict) {
  const std::string word = name_of(verdict);
  if (!colour_wanted()) return word;
  using ladder::Verdict;
  const char* colour = verdict == Verdict::ok ? "\033[32m" : verdict == Verdict::fail ? "\033[1;31m" : "\033[33m";
  return colour + word + "\033[0m";
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
    const std::string line = lines_of(printable(what), 78)[0];
    const std::size_t width = columns_of(line);
    const std::string blanks(width_ > width ? width_ - width : 0, ' ');  // no escape code, and any terminal
    std::fprintf(stderr, "\r%s%s\r", line.c_str(), blanks.c_str());
    width_ = width;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::seconds(5)) return;
  last_ = now;
  std::fprintf(stderr, "... %s\n", printable(what).c_str());
}

void Progress::clear() {
  if (width_ > 0) std::fprintf(stderr, "\r%s\r", std::string(width_, ' ').c_str());
  width_ = 0;
}

}  // namespace flashladder::cli
