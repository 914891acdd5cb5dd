// The main of every suite: doctest's, but a run in which no case was executed has failed (a mistyped filter is no success).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

#include "tests/listener.hpp"
#include "tests/options.hpp"

namespace {
flashladder::test::Options chosen;

int executed_cases = 0;

struct Counter : flashladder::test::Listener {
  using Listener::Listener;
  void test_run_end(const doctest::TestRunStats& stats) override {
    executed_cases = static_cast<int>(stats.numTestCasesPassingFilters);
  }
};
}  // namespace

REGISTER_LISTENER("counter", 1, Counter);

const flashladder::test::Options& flashladder::test::options() { return chosen; }

int main(int argc, char** argv) {
  chosen.seed = std::random_device{}();
  for (int i = 1; i + 1 < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--seed") chosen.seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (option == "--cases") chosen.cases = std::atoi(argv[i + 1]);
  }
  doctest::Context context(argc, argv);
  const int failed = context.run();
  if (context.shouldExit()) return failed;
  if (executed_cases == 0) {
    std::fprintf(stderr, "no test case matched the filter: nothing was tested\n");
    return 1;
  }
  return failed;
}
