// What people and programs read: aligned tables, verdicts in colour (only on a terminal, never under NO_COLOR), JSON, and
// progress on stderr.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ladder/cases/input/json.hpp"

#include "ladder/compare.hpp"

namespace flashladder::cli {

using Row = std::vector<std::string>;

std::size_t output_columns();  // of the terminal, at least 80; 80 where there is none

// In lines that fit the output, those after the first indented; what came from a file can't do harm (core/text.hpp).
std::string paragraph(const std::string& text, std::size_t indent = 0);

// The beginning of a text, in one line of at most so many columns.
std::string shortened(const std::string& text, std::size_t columns);

// Columns as wide as their widest cell, as long as the table fits the output: else the widest are set in several lines. A
// column with a number in it (and at most a unit: "12.3 ms") is set to the right. Cells are made printable.
std::string text_table(const Row& header, const std::vector<Row>& rows);

// "ok", "FAIL", or "undecided" (ladder/compare.hpp); coloured: put it last in a row.
std::string verdict(ladder::Verdict verdict);
inline std::string verdict(bool ok) { return verdict(ok ? ladder::Verdict::ok : ladder::Verdict::fail); }
std::string short_number(double x);    // three digits: 2.1e-07, 0.31, 12.3
std::string three_digits(double x);    // for columns, without exponents: 0.0993, 4.00, 63.9, 1206
std::string milliseconds(double ms);   // 12.3 ms
std::string counted(std::int64_t n, const char* noun);  // 1 case, 2 cases

void print(const std::string& text);                   // to stdout, as it is
void print_json(const ladder::Json& json);              // stdout then holds nothing else

// One line that is overwritten on a terminal. Elsewhere (a log) a plain line, at most every few seconds. Gone when it ends.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void say(const std::string& what);
  void clear();  // before something else is printed

 private:
  bool terminal_;
  std::size_t width_ = 0;  // of what stands on the terminal's line
  std::chrono::steady_clock::time_point last_;
};

}  // namespace flashladder::cli
