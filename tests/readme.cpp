// The README's ladder table is the registry's: if they differ, the failure prints what belongs between the two markers.
#include <doctest/doctest.h>

#include <fstream>
#include <span>
#include <sstream>
#include <string>

#include "ladder/rung.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

std::string ladder_table(std::span<const Rung> ladder, Device device) {
  std::string table = "| rung | idea | must equal | chapter |\n|---|---|---|---|\n";
  for (const Rung& rung : ladder) {
    if (rung.device != device) continue;
    table += "| " + rung.name + " | " + rung.idea + " | " + (rung.must_equal.empty() ? "-" : rung.must_equal) + " | " +
             rung.teaches + " |\n";
  }
  return table;
}

void check_table(std::span<const Rung> ladder, Device device, const std::string& marker) {
  std::ifstream file(FLASHLADDER_SOURCE_ROOT "/README.md");
  REQUIRE(file);
  std::stringstream text;
  text << file.rdbuf();
  const std::string readme = text.str(), expected = ladder_table(ladder, device);
  CHECK_MESSAGE(readme.find("-->\n" + expected + "<!-- end of " + marker + " -->") != std::string::npos,
                "between the markers of the ", marker, " in README.md should stand:\n", expected);
}

}  // namespace

TEST_CASE("the README's ladder table is generated from the registry") {
  check_table(rungs(), Device::cpu, "ladder");
  check_table(mla_rungs(), Device::cpu, "MLA ladder");
}

#ifdef FLASHLADDER_CUDA
TEST_CASE("and so are the tables of the GPU rungs") {
  check_table(rungs(), Device::gpu, "GPU ladder");
  check_table(mla_rungs(), Device::gpu, "GPU MLA ladder");
}
#endif

TEST_CASE("every rung has an idea and a chapter and stands on a rung below it") {
  std::string names;
  for (const auto& ladder : {rungs(), mla_rungs()}) {
    for (const Rung& rung : ladder) {
      CHECK(!rung.idea.empty());
      CHECK(!rung.teaches.empty());
      CHECK(rung.must_equal.empty() == names.empty());
      if (!rung.must_equal.empty()) CHECK(names.find(rung.must_equal + ";") != std::string::npos);
      names += rung.name + ";";
    }
  }
}
