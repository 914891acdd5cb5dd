// The README's ladder table is the registry's: if they differ, the failure prints what belongs between the two markers.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "ladder/rung.hpp"

using namespace flashladder::ladder;

namespace {

std::string ladder_table() {
  std::string table = "| rung | idea | must equal | chapter |\n|---|---|---|---|\n";
  for (const Rung& rung : rungs()) {
    table += "| " + rung.name + " | " + rung.idea + " | " + (rung.must_equal.empty() ? "-" : rung.must_equal) + " | " +
             rung.teaches + " |\n";
  }
  return table;
}

}  // namespace

TEST_CASE("the README's ladder table is generated from the registry") {
  std::ifstream file(FLASHLADDER_SOURCE_ROOT "/README.md");
  REQUIRE(file);
  std::stringstream text;
  text << file.rdbuf();
  const std::string readme = text.str(), expected = ladder_table();
  CHECK_MESSAGE(readme.find("-->\n" + expected + "<!-- end of ladder -->") != std::string::npos,
                "between the ladder markers of README.md should stand:\n", expected);
}

TEST_CASE("every rung has an idea and a chapter and stands on a rung below it") {
  std::string names;
  for (const Rung& rung : rungs()) {
    CHECK(!rung.idea.empty());
    CHECK(!rung.teaches.empty());
    CHECK(rung.must_equal.empty() == names.empty());
    if (!rung.must_equal.empty()) CHECK(names.find(rung.must_equal + ";") != std::string::npos);
    names += rung.name + ";";
  }
}
