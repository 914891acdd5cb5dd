// Text and numbers as they enter pictures, the HTML page, and files that appear whole or not at all.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <locale>
#include <sstream>
#include <system_error>

#include "core/write_file.hpp"
#include "draw/figure.hpp"
#include "draw/html.hpp"
#include "tests/draw_check.hpp"

using namespace flashladder;
using namespace flashladder::draw;
namespace fs = std::filesystem;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("flashladder-draw-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::int64_t entries() const { return std::distance(fs::directory_iterator(path), fs::directory_iterator()); }
};
std::string content(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("numbers are short, finite and say what they are") {
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
  };
  const std::locale before = std::locale::global(std::locale(std::locale(), new Comma));
  CHECK(number(1.5) == "1.5");
  CHECK(number(-0.001) == "0");
  CHECK(number(120) == "120");
  CHECK(number(nan_value) == "0");
  CHECK(number(infinity) == "0");
  CHECK(number(-1e30) == "-1000000");
  CHECK(label(0.25) == "0.25");
  CHECK(label(-infinity) == "-inf");
  CHECK(label(1234.5678) == "1235");
  CHECK(percent(0.934) == "93.4 %");
  CHECK(with_unit(0.0031, "s") == "3.1 ms");
  CHECK(with_unit(3 << 20, "B") == "3 MiB");
  CHECK(with_unit(0, "s") == "0 s");
  CHECK(ticks_up_to(8, 4) == std::vector<double>{0, 2, 4, 6, 8});
  CHECK(ticks_up_to(nan_value, 4) == std::vector<double>{0});
  std::locale::global(before);
}

TEST_CASE("text is escaped and bytes that are no text are replaced") {
  const std::string bad = "\xef\xbf\xbd";
  CHECK(escape("a<b & \"c\">") == "a&lt;b &amp; &quot;c&quot;&gt;");
  CHECK(escape("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80") == "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  CHECK(escape("\x01") == bad);
  CHECK(escape("\xc3") == bad);              // cut off
  CHECK(escape("\xc0\xaf") == bad + bad);    // overlong
  CHECK(escape("\xed\xa0\x80") == bad + bad + bad);  // a surrogate
}

TEST_CASE("colours keep apart and the ramp has its ends") {
  CHECK(hex(blue) == "#0072b2");
  for (int i = 0; i < num_categories; ++i) {
    for (int j = 0; j < i; ++j) CHECK(category(i) != category(j));
  }
  CHECK(category(num_categories + 3) == category(3));
  CHECK(ramp(-1) == ramp(0));
  CHECK(ramp(2) == Rgb{253, 231, 37});
  CHECK(ramp(nan_value) == fog);
  CHECK(ink_on(yellow) == ink);
  CHECK(ink_on(blue) == paper);
}

TEST_CASE("a page is one well-formed file that loads nothing") {
  Canvas canvas;
  canvas.rect({1, 2, 3, 4}, {.fill = canvas.hatch(blue)}, hostile);
  const Svg svg = canvas.finish(10, 10, hostile);
  HtmlPage page(hostile, "sub `code`");
  page.section(hostile);
  page.section("two");
  page.paragraph("a `x < y` b " + hostile);
  page.paragraph("an odd ` stays");
  page.preformatted("  m = 1 < 2\n" + hostile);
  page.table({"rung", "time"}, {{"C0", "12 ms"}, {"C1"}});
  page.figure(svg, hostile);
  page.figure(svg, "again");
  const std::string text = page.str();
  const std::vector<Element> elements = elements_of(text);
  REQUIRE_MESSAGE(elements.size() > 1, elements[0].name);
  CHECK(occurrences(text, "<svg ") == 2);
  CHECK(occurrences(text, "<tr>") == 3);
  CHECK(occurrences(text, "<td") == 4);
  CHECK(occurrences(text, "<td class=\"n\">12 ms</td>") == 1);
  CHECK(occurrences(text, "<code>x &lt; y</code>") == 1);
  CHECK(occurrences(text, "an odd ` stays") == 1);
  CHECK(occurrences(text, "href=\"#s2\"") == 1);
  CHECK(occurrences(text, "Figure 2. again") == 1);
  CHECK(occurrences(text, "<b>") == 0);
  CHECK(occurrences(text, "<script") == 0);
  CHECK(occurrences(text, "src=") == 0);
  CHECK(occurrences(text, "://") == occurrences(text, "http://www.w3.org/2000/svg"));
  CHECK(text == page.str());
}

TEST_CASE("a file is written whole and replaces the old one") {
  const Folder folder;
  const fs::path path = folder.path / "a.svg";
  write_file_whole(path, "old text that is longer");
  const std::string bytes("new\0\n\xff", 6);
  write_file_whole(path, std::as_bytes(std::span(bytes)));
  CHECK(content(path) == bytes);
  fs::create_symlink("a.svg", folder.path / "link");
  write_file_whole(folder.path / "link", "through the link");
  CHECK(fs::is_symlink(folder.path / "link"));
  CHECK(content(path) == "through the link");
  CHECK(folder.entries() == 2);
}

TEST_CASE("a file that is replaced keeps its mode and a link to nothing its target") {
  const Folder folder;
  const fs::path path = folder.path / "private";
  write_file_whole(path, "old");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  write_file_whole(path, "new");
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  fs::create_symlink("not yet", folder.path / "link");
  write_file_whole(folder.path / "link", "through the link");
  CHECK(fs::is_symlink(folder.path / "link"));
  CHECK(content(folder.path / "not yet") == "through the link");
  fs::create_symlink("round", folder.path / "round");
  CHECK_THROWS_AS(write_file_whole(folder.path / "round", "x"), std::system_error);
  CHECK(folder.entries() == 4);
}

TEST_CASE("whether a file can be written is asked without leaving one") {
  const Folder folder;
  require_writable(folder.path / "new");
  CHECK(folder.entries() == 0);
  write_file_whole(folder.path / "there", "kept");
  require_writable(folder.path / "there");
  CHECK(content(folder.path / "there") == "kept");
  CHECK_THROWS_AS(require_writable(folder.path), std::system_error);
  CHECK_THROWS_AS(require_writable(folder.path / "there" / "x"), std::system_error);
  CHECK_THROWS_AS(require_writable(folder.path / "missing" / "x"), std::system_error);
  CHECK_THROWS_AS(require_writable(""), std::system_error);
  remove_unfinished_files();  // none
  CHECK(folder.entries() == 1);
}

TEST_CASE("a pipe is written to and stays a pipe") {
  const Folder folder;
  const fs::path pipe = folder.path / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  write_file_whole(pipe, "through");
  char text[16];
  CHECK(::read(reader, text, sizeof text) == 7);
  CHECK(fs::is_fifo(pipe));
  ::close(reader);
}

TEST_CASE("a file that cannot be written leaves nothing behind") {
  const Folder folder;
  const fs::path there = folder.path / "there", sub = folder.path / "sub";
  write_file_whole(there, "kept");
  fs::create_directory(sub);
  const auto says = [](const fs::path& path, std::string_view text) {
    try {
      write_file_whole(path, text);
    } catch (const std::system_error& error) {
      return std::string(error.what()).find(path.string()) != std::string::npos;
    }
    return false;
  };
  CHECK(says(folder.path / "missing" / "a", "x"));
  CHECK(says(there / "a", "x"));
  CHECK(says(sub, "x"));
  if (::geteuid() != 0) {  // root may write anywhere
    fs::permissions(sub, fs::perms::owner_read | fs::perms::owner_exec);
    CHECK(says(sub / "a", "x"));
    fs::permissions(sub, fs::perms::owner_all);
  }
  // A disk that fills half way: the kernel refuses to let any file grow beyond a megabyte.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit megabyte{1 << 20, before.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &megabyte) == 0);
  const std::string too_long(2 << 20, 'x');
  const bool refused = says(there, too_long), refused_new = says(folder.path / "new", too_long);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, old_handler);
  CHECK(refused);
  CHECK(refused_new);
  CHECK(content(there) == "kept");
  CHECK(folder.entries() == 2);
  CHECK(fs::is_empty(sub));
}
