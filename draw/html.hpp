// A page of text, tables and pictures in one file: styles inside, no script, nothing loaded from elsewhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "draw/svg.hpp"

namespace flashladder::draw {

// Text is escaped. In paragraphs, captions and table cells `backquotes` set code. Follows the reader's light or dark
// scheme; pictures keep their own paper.
class HtmlPage {
 public:
  explicit HtmlPage(std::string_view title, std::string_view subtitle = {});

  void section(std::string_view heading);  // listed at the top, with a link
  void paragraph(std::string_view text);
  void preformatted(std::string_view text);
  // Cells that start like a number are set to the right. A short row is filled up with empty cells.
  void table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
  void figure(const Svg& svg, std::string_view caption);

  std::string str() const;  // the whole document; core/write_file.hpp puts it on the disk

 private:
  std::string title_, subtitle_, contents_, body_;
  int sections_ = 0, figures_ = 0;
};

}  // namespace flashladder::draw
