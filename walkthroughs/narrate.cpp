#include "walkthroughs/narrate.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <stdexcept>

#include "api/version.hpp"
#include "core/write_file.hpp"
#include "ladder/arguments.hpp"

namespace flashladder::walkthroughs {
namespace {

constexpr std::size_t columns = 80;

std::string vtext(const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (size < 0) throw std::runtime_error("a sentence of the walkthrough cannot be formatted");
  std::string out(static_cast<std::size_t>(size), '\0');
  std::vsnprintf(out.data(), out.size() + 1, format, arguments);
  return out;
}

void print(std::string_view s) { std::fwrite(s.data(), 1, s.size(), stdout); }

// Words after lead, in lines of at most `columns`; later lines stand under the first word.
std::string wrapped(const std::string& lead, std::string_view words) {
  std::string out, line = lead;
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(word.size() + 1, words.size()));
    const bool fresh = line.size() == lead.size();
    if (!fresh && line.size() + 1 + word.size() > columns) {
      out += line + "\n";
      line = std::string(lead.size(), ' ');
    } else if (!fresh) {
      line += ' ';
    }
    line += word;
  }
  return out + line + "\n";
}

std::string indented(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    out += line.empty() ? "\n" : "    " + std::string(line) + "\n";
  }
  return out;
}

// Columns as wide as their widest cell; a column whose first cell starts like a number is set to the right.
std::string aligned(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const std::string& cell : header) widths.push_back(cell.size());
  for (const auto& row : rows) {
    if (row.size() > header.size()) throw std::logic_error("a table row has more cells than the header");
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto is_number = [&](std::size_t c) {
    return !rows.empty() && c < rows[0].size() && !rows[0][c].empty() &&
           std::string_view("+-.0123456789").find(rows[0][c][0]) != std::string_view::npos;
  };
  std::string out;
  const auto add_row = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - row[c].size(), ' ');
      line += (c > 0 ? "  " : "") + (is_number(c) ? padding + row[c] : row[c] + padding);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  add_row(header);
  for (const auto& row : rows) add_row(row);
  return out;
}

}  // namespace

std::string text(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string out = vtext(format, arguments);
  va_end(arguments);
  return out;
}

Narrator::Narrator(const Chapter& chapter, Options options)
    : chapter_(chapter), options_(std::move(options)), page_(text("%02d  ", chapter.number) + chapter.title, chapter.idea) {
  const char* no_color = std::getenv("NO_COLOR");
  bold_ = ::isatty(STDOUT_FILENO) && (no_color == nullptr || *no_color == '\0');
  const std::string title = text("FlashLadder, chapter %02d: %s", chapter.number, chapter.title.c_str());
  print((bold_ ? "\033[1m" + title + "\033[0m" : title) + "\n" + wrapped("", chapter.idea));
}

void Narrator::section(std::string_view heading) {
  wait();
  after_proof_ = false;
  const std::string line = "== " + std::string(heading) + " ==";
  print("\n" + (bold_ ? "\033[1m" + line + "\033[0m" : line) + "\n");
  page_.section(heading);
}

void Narrator::paragraph(const std::string& lead, std::string_view words) {
  after_proof_ = false;
  print("\n" + wrapped(lead, words));
  page_.paragraph(lead.substr(std::min(lead.find_first_not_of(' '), lead.size())) + std::string(words));
}

void Narrator::step(const char* words, ...) {
  wait();
  va_list arguments;
  va_start(arguments, words);
  paragraph(text("%2d. ", ++steps_), vtext(words, arguments));
  va_end(arguments);
  waiting_ = options_.step;
}

void Narrator::say(const char* words, ...) {
  va_list arguments;
  va_start(arguments, words);
  paragraph("    ", vtext(words, arguments));
  va_end(arguments);
}

void Narrator::block(std::string_view preformatted) {
  after_proof_ = false;
  print("\n" + indented(preformatted));
  page_.preformatted(preformatted);
}

void Narrator::table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  after_proof_ = false;
  print("\n" + indented(aligned(header, rows)));
  page_.table(header, rows);
}

void Narrator::figure(std::string_view name, const draw::Svg& svg, std::string_view caption) {
  page_.figure(svg, caption);
  print("\n" + wrapped(text("    [figure %d] ", ++figures_), caption));
  if (options_.figures.empty()) return;
  const std::filesystem::path folder(options_.figures);
  std::filesystem::create_directories(folder);
  write_file_whole(folder / text("%02d_%.*s.svg", chapter_.number, static_cast<int>(name.size()), name.data()), svg.text);
}

void Narrator::record(Proof proof) {
  const std::string within = proof.tolerance.empty() ? "" : ", within " + proof.tolerance;
  const std::string failure = proof.error.empty() ? "" : ": " + proof.error;
  const std::string line = proof.what + within + (proof.holds ? "" : failure);
  print((std::exchange(after_proof_, true) ? "" : "\n") + wrapped(proof.holds ? "    [ok]    " : "    [WRONG] ", line));
  proofs_.push_back(std::move(proof));
}

void Narrator::check(std::string_view what, double error, double tolerance) {
  record({std::string(what), text("%.1e", error), text("%.1e", tolerance),
          error <= tolerance && std::isfinite(tolerance)});
}

void Narrator::check_that(std::string_view what, bool holds, std::string_view detail) {
  record({std::string(what), std::string(detail), "", holds});
}

void Narrator::question(const char* words, ...) {
  wait();
  va_list arguments;
  va_start(arguments, words);
  paragraph("Question: ", vtext(words, arguments));
  va_end(arguments);
}

// Called before whatever follows a step, so that its blocks and tables stand on the screen with it.
void Narrator::wait() {
  if (!std::exchange(waiting_, false)) return;
  std::fflush(stdout);
  if (::isatty(STDERR_FILENO)) std::fputs("    [Enter] ", stderr);
  for (int c = std::getchar(); c != '\n' && c != EOF;) c = std::getchar();
}

int Narrator::finish() {
  wait();
  const auto failed = std::ranges::count(proofs_, false, &Proof::holds);
  std::vector<std::vector<std::string>> rows;
  for (const Proof& p : proofs_) rows.push_back({p.holds ? "ok" : "WRONG", p.what, p.error, p.tolerance});
  page_.section("What was proved");
  page_.table({"", "what", "error", "tolerance"}, rows);
  print(failed == 0 ? text("\n%zu checks hold.\n", proofs_.size())
                    : text("\n%td of %zu checks FAILED.\n", failed, proofs_.size()));
  if (!options_.html.empty()) {
    write_file_whole(options_.html, page_.str());
    print("The page is " + options_.html + "\n");
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw std::runtime_error("cannot write to standard output");
  return failed == 0 ? 0 : 1;
}

int walk(int argc, char** argv, const Chapter& chapter, const std::function<void(Narrator&)>& story,
         const std::vector<Number>& numbers) {
  try {
    Narrator::Options options;
    ladder::Program program(text("walkthrough_%02d", chapter.number),
                            text("FlashLadder, chapter %02d: %s. %s", chapter.number, chapter.title.c_str(),
                                 chapter.idea.c_str()),
                            "flashladder " FLASHLADDER_VERSION);
    program.root().add("--step", &options.step, "wait for Enter after each step");
    program.root().add("--html", &options.html, "write the page with its pictures", {.value = "FILE"});
    program.root().add("--figures", &options.figures, "write each picture as an SVG file", {.value = "DIR"});
    for (const Number& n : numbers) {
      if (const auto* count = std::get_if<std::int32_t*>(&n.value)) {
        program.root().add(n.option, *count, n.meaning, {.least = n.least, .most = n.most});
      } else {
        program.root().add(n.option, std::get<std::uint64_t*>(n.value), n.meaning);
      }
    }
    program.run(argc, argv);
    if (program.asked_for_help()) return 0;
    Narrator narrator(chapter, options);
    story(narrator);
    return narrator.finish();
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}

}  // namespace flashladder::walkthroughs
