#include "draw/html.hpp"

#include <algorithm>

#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr std::string_view styles = R"(
:root { color-scheme: light dark; --ink: #1b2733; --muted: #5b6770; --rule: #d5dbe1; --page: #ffffff; --block: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe5ea; --muted: #9aa7b2; --rule: #37424d; --page: #14191f; --block: #1e252d; }
}
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
p { margin: .7rem 0; max-width: 46rem; }
.subtitle, figcaption, nav { color: var(--muted); }
nav ol { margin: 1rem 0; padding-left: 1.8rem; }
nav a { color: inherit; }
pre { background: var(--block); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }
pre, code { font: .86rem/1.45 ui-monospace, Consolas, "DejaVu Sans Mono", monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th { color: var(--muted); font-weight: 600; }
.n { text-align: right; white-space: nowrap; }
figure { margin: 1.4rem 0; }
figure svg { display: block; max-width: 100%; height: auto; border: 1px solid var(--rule); border-radius: 6px; }
figcaption { font-size: .9rem; margin-top: .5rem; max-width: 46rem; }
@media (max-width: 42rem) {
  .picture { overflow-x: auto; }
  figure svg { max-width: none; }
  .s { white-space: nowrap; }
  td:not(.n, .s) { min-width: 14rem; }
}
)";

// Escaped, with `code` set as code; an odd backquote stands for itself.
std::string marked_up(std::string_view text) {
  std::string out;
  for (std::size_t open; (open = text.find('`')) != std::string_view::npos;) {
    const std::size_t close = text.find('`', open + 1);
    if (close == std::string_view::npos) break;
    out += escape(text.substr(0, open)) + "<code>" + escape(text.substr(open + 1, close - open - 1)) + "</code>";
    text.remove_prefix(close + 1);
  }
  return out + escape(text);
}

bool starts_like_a_number(std::string_view cell) {
  const std::size_t first = cell.find_first_not_of("+-");
  return first != std::string_view::npos && first <= 1 && cell[first] >= '0' && cell[first] <= '9';
}

// classes: of each column; n numbers, s short texts, which are not wrapped where a table has to be moved sideways anyway.
std::string row_of(const std::vector<std::string>& cells, const std::vector<std::string>& classes, const std::string& tag) {
  std::string row = "<tr>";
  for (std::size_t c = 0; c < classes.size(); ++c) {
    row += "<" + tag + (classes[c].empty() ? "" : " class=\"" + classes[c] + "\"") + ">" + (c < cells.size() ? marked_up(cells[c]) : "") + "</" + tag + ">";
  }
  return row + "</tr>\n";
}

}  // namespace

HtmlPage::HtmlPage(std::string_view title, std::string_view subtitle) : title_(title), subtitle_(subtitle) {}

void HtmlPage::section(std::string_view heading) {
  const std::string id = "s" + std::to_string(++sections_);
  contents_ += "<li><a href=\"#" + id + "\">" + escape(heading) + "</a></li>\n";
  body_ += "<h2 id=\"" + id + "\">" + escape(heading) + "</h2>\n";
}

void HtmlPage::paragraph(std::string_view text) { body_ += "<p>" + marked_up(text) + "</p>\n"; }

void HtmlPage::preformatted(std::string_view text) { body_ += "<pre>" + escape(text) + "</pre>\n"; }

void HtmlPage::table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::size_t columns = header.size();
  for (const auto& row : rows) columns = std::max(columns, row.size());
  constexpr std::size_t short_text = 32;
  std::vector<std::string> classes(columns, "s");
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (row[c].size() > short_text) classes[c] = "";
    }
  }
  for (std::size_t c = 0; !rows.empty() && c < rows[0].size(); ++c) {  // a column of numbers is one whose first row is one
    if (starts_like_a_number(rows[0][c])) classes[c] = "n";
  }
  body_ += "<div class=\"wide\"><table>\n<thead>" + row_of(header, classes, "th") + "</thead>\n<tbody>\n";
  for (const auto& row : rows) body_ += row_of(row, classes, "td");
  body_ += "</tbody>\n</table></div>\n";
}

void HtmlPage::figure(const Svg& svg, std::string_view caption) {
  body_ += "<figure>\n<div class=\"picture\">\n" + svg.text + "</div>\n<figcaption>Figure " + std::to_string(++figures_) + ". " + marked_up(caption) +
           "</figcaption>\n</figure>\n";
}

std::string HtmlPage::str() const {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
  page += "<title>" + escape(title_) + "</title>\n<style>" + std::string(styles) + "</style>\n</head>\n<body>\n";
  page += "<h1>" + escape(title_) + "</h1>\n";
  if (!subtitle_.empty()) page += "<p class=\"subtitle\">" + marked_up(subtitle_) + "</p>\n";
  if (sections_ > 1) page += "<nav><ol>\n" + contents_ + "</ol></nav>\n";
  return page + body_ + "</body>\n</html>\n";
}

}  // namespace flashladder::draw
