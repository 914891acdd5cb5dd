// The frame of every walkthrough: it numbers the sentences, sets blocks and tables, keeps the pictures, and records proofs.
//
//   int main(int argc, char** argv) {
//     return walk(argc, argv, {.number = 2, .title = "Online softmax", .idea = "One pass over the keys is enough."},
//                 [](Narrator& n) {
//                   n.section("One row");
//                   n.step("The maximum grew from %g to %g.", before.m, after.m);   // values of the layer's own state
//                   n.check("o equals C0's", error, tolerance);
//                   n.question("Why ...?");
//                 });
//   }
//
// Straight through by default; the same run prints the same text on every machine (few digits, no times), because the
// chapters in docs/ quote it. Off a terminal, or with NO_COLOR, it is plain. Every program takes
//   --step (waits for Enter after each step)   --html FILE (the page, with its pictures)
//   --figures DIR (each picture as NN_name.svg)   --version   and the options that its chapter adds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "draw/html.hpp"
#include "draw/svg.hpp"

namespace flashladder::walkthroughs {

struct Chapter {
  int number = 0;
  std::string title, idea;  // the idea: one line
};

// A number that a chapter takes as an option. `value` is a variable of main that holds the default; a count has limits.
struct Number {
  const char* option;   // "--tile"
  const char* meaning;  // for --help
  std::variant<std::int32_t*, std::uint64_t*> value;
  std::int32_t least = 0, most = 0;  // of a count, both included; a seed (64 bits) has none
};

class Narrator {
 public:
  void section(std::string_view heading);

  // printf-style sentences, wrapped to 80 columns. A step is numbered; say() goes on in the same step. `backquotes` set code
  // on the page.
  [[gnu::format(printf, 2, 3)]] void step(const char* text, ...);
  [[gnu::format(printf, 2, 3)]] void say(const char* text, ...);

  void block(std::string_view preformatted);  // shown as it is, indented; lines end with \n
  void table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

  // The page shows it, --figures writes it as NN_name.svg, the terminal says that it is there.
  void figure(std::string_view name, const draw::Svg& svg, std::string_view caption);

  // Records a proof; one that fails makes the exit code 1. NaN fails, and so does a tolerance that is not finite. The error
  // itself differs between machines, so the text says the tolerance alone, and the page both.
  void check(std::string_view what, double error, double tolerance);
  void check_that(std::string_view what, bool holds, std::string_view detail = {});  // detail: as the error is

  [[gnu::format(printf, 2, 3)]] void question(const char* text, ...);  // the last word, to the reader

 private:
  struct Options {
    bool step = false;
    std::string html, figures;  // "": not wanted
  };
  struct Proof {
    std::string what, error, tolerance;  // error and tolerance may be empty
    bool holds;
  };

  Narrator(const Chapter& chapter, Options options);
  void paragraph(const std::string& lead, std::string_view text);
  void record(Proof proof);
  void wait();
  int finish();

  Chapter chapter_;
  Options options_;
  draw::HtmlPage page_;
  std::vector<Proof> proofs_;
  bool bold_ = false, waiting_ = false, after_proof_ = false;
  int steps_ = 0, figures_ = 0;

  friend int walk(int, char**, const Chapter&, const std::function<void(Narrator&)>&, const std::vector<Number>&);
};

// Parses the options, tells the story, writes what was asked for. Returns the exit code: 0 good, 1 a proof failed, 2 bad use
// or any other error (said on stderr).
int walk(int argc, char** argv, const Chapter& chapter, const std::function<void(Narrator&)>& story,
         const std::vector<Number>& numbers = {});

// One printf-formatted string: for cells of tables and lines of blocks.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

}  // namespace flashladder::walkthroughs
