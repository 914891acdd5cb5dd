// A user's kernel on the clock: only what is right is timed, and whatever it does the others' lines are not lost. The host,
// through which plug-ins are timed on a GPU, is held here with plug-ins of the CPU.
#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/plugin_host.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

using namespace flashladder;
using namespace flashladder::bench;
using ladder::CaseSpec;
using ladder::ChildRun;
using ladder::Ending;

namespace {

std::string library(const char* name) { return FLASHLADDER_TEST_PLUGINS "/plugin_" + std::string(name) + ".so"; }

const ladder::ChildOptions limit{.seconds = 2};

// The environment says which of the library's plug-ins it is: its processes inherit it.
std::vector<Plugin> plugins_of(const std::vector<std::string>& paths, const char* which) {
  setenv("FLASHLADDER_TEST_PLUGIN", which, 1);
  return introduced(paths, limit).plugins;
}

CaseSpec spec_of(std::int32_t kv_len, DType dtype = DType::f32) {
  CaseSpec s{.name = {}, .qo_lens = {1}, .kv_lens = {kv_len}};
  s.params = {.num_qo_heads = 2, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = default_sm_scale(8)};
  s.dtype = dtype;
  s.name = case_string(s);
  return s;
}

PluginTiming timed(const char* name, const char* which, const CaseSpec& spec) {
  return time_plugin(draw_case(spec), plugins_of({library(name)}, which).at(0), 3, limit);
}

}  // namespace

TEST_CASE("a plug-in that is right has a line of the same case as the rungs'") {
  const PluginTiming mine = timed("template", "", spec_of(100));
  CHECK(mine.failure == "");
  REQUIRE(mine.timing);
  const ladder::Case c = draw_case(spec_of(100));
  const ladder::Rung* const c4 = &ladder::rung("C4");
  const RungTiming ours = time_rungs(c, std::span(&c4, 1), {}, 3, [](const std::string&) {}).at(0);
  CHECK(mine.timing->line.family == ours.line.family);
  CHECK(mine.timing->line.work == ours.line.work);
  CHECK(mine.timing->line.backend == "plug-in mine, NHD p16");
  CHECK(mine.timing->line.us > 0);
  CHECK(mine.timing->line.tera_flops.value() * mine.timing->line.us ==
        doctest::Approx(ours.line.tera_flops.value() * ours.line.us));
  CHECK(mine.timing->agreement.ok());
  const auto [error, tolerance] = mine.timing->line.nearest.value();  // the report's Errors
  CHECK(error == mine.timing->agreement.worst().error);
  CHECK(tolerance == mine.timing->agreement.worst().tolerance);
  CHECK(error < tolerance);
  CHECK(mine.result.o.size() == 16);
}

TEST_CASE("a plug-in that is wrong is not timed, and the sentence says why") {
  struct Expected {
    const char *name, *which, *says;
  };
  const Expected all[] = {
      {"mutant", "natural_lse", "wrong result: lse_log2: request 0"},
      {"ill_behaved", "crashes", "crashed: Segmentation fault in run()"},
      {"ill_behaved", "hangs", "hung: took longer than 2 s in run()"},
      {"ill_behaved", "changes q", "modified an input: changed q"},
      {"ill_behaved", "leaves NaN", "wrong result: o: request 0"},
      {"ill_behaved", "counts its runs", "gave other bits in a second run"},
      {"ill_behaved", "crashes in the third run", "while it was timed: crashed: Segmentation fault in run()"},
      {"ill_behaved", "is wrong from the third run on", "while it was timed: wrong result: o: request 0"},
  };
  for (const Expected& e : all) {
    CAPTURE(std::string(e.which));
    const PluginTiming one = timed(e.name, e.which, spec_of(1));
    CHECK_FALSE(one.timing);
    CHECK(one.refused == "");
    CHECK_MESSAGE(one.failure.starts_with(e.says), one.failure);
  }
  CHECK(timed("ill_behaved", "nothing", spec_of(1)).timing);  // the same library, when it behaves
  CHECK(timed("template", "", spec_of(1, DType::bf16)).refused == "only f32 and f16");
}

TEST_CASE("plug-ins of one name are told apart, from rungs too, and one that dies at once costs nobody else a line") {
  const std::vector<Plugin> both = plugins_of({library("template"), library("template")}, "");
  REQUIRE(both.size() == 2);
  CHECK(both[0].backend() == "plug-in mine");
  CHECK(both[1].backend() == "plug-in mine-2");
  CHECK(plugins_of({library("ill_behaved")}, "is called C4").at(0).rung.name == "C4-2");
  setenv("FLASHLADDER_TEST_PLUGIN", "crashes at once", 1);
  const std::vector<std::string> paths{library("ill_behaved"), library("template")};
  const Introduced all = introduced(paths, limit);
  REQUIRE(all.failures.size() == 1);
  CHECK_MESSAGE(all.failures[0].ends_with("not timed: crashed: Aborted in fl_plugin_entry()"), all.failures[0]);
  REQUIRE(all.plugins.size() == 1);
  CHECK(all.plugins[0].rung.name == "mine");
  CHECK_THROWS_AS(introduced(std::vector<std::string>{"/nowhere.so"}, limit), InputError);
  CHECK_THROWS_WITH_AS(introduced(std::vector<std::string>{"/nowhere.so", "mine.py"}, limit),
                       doctest::Contains("verified and not timed"), InputError);  // before another is opened
}

TEST_CASE("the host gives what a child of this process gives, and outlives those that crash and hang") {
  const std::vector<CaseSpec> specs{spec_of(1), spec_of(50)};
  std::vector<Plugin> plugins = plugins_of({library("template"), library("ill_behaved")}, "hangs");
  PluginHost host(plugins, specs, host_clock(3), {.seconds = 2});
  CHECK(host.check(1, 0).ending == Ending::hung);
  CHECK(host.time(1, 0).message == "took longer than 2 s in run()");
  CHECK(host.check(1, 1).ending == Ending::refused);
  for (const std::size_t s : {std::size_t{0}, std::size_t{1}, std::size_t{0}}) {
    const ChildRun here = run_in_child(plugins[0].path, draw_case(specs[s])), there = host.check(0, s);
    CHECK(there.ending == Ending::finished);
    CHECK(there.result.o == here.result.o);
    CHECK(there.result.lse_log2 == here.result.lse_log2);
    const ChildRun timed = host.time(0, s);
    CHECK(timed.result.o == here.result.o);
    CHECK(timed.result.milliseconds > 0);
  }
}

TEST_CASE("works of plug-ins: checked when they are prepared, and again whenever they are timed") {
  std::vector<std::string> notes;
  const auto works = [&](const char* which) {
    const std::vector<Plugin> plugins = plugins_of({library("ill_behaved")}, which);
    const auto host = std::make_shared<PluginHost>(plugins, std::vector{spec_of(1), spec_of(2), spec_of(3)}, host_clock(3),
                                                   limit);
    notes.clear();
    return plugin_works(Family::decode, host, {0, 1, 2}, notes, [](const std::string&) {});
  };
  const std::vector<TimedWork> right = works("nothing");
  REQUIRE(right.size() == 1);
  CHECK(right[0].failure == "");
  CHECK(right[0].line.work == spec_of(1).name);
  CHECK(right[0].line.backend == "plug-in ill");
  CHECK(right[0].bytes == 2 * 16 * 4);
  CHECK(right[0].floor == Floor::read);
  CHECK(right[0].time_us() > 0);
  CHECK(right[0].recheck() == "");
  CHECK(notes == std::vector<std::string>{"ill does not take 2 cases, the first: " + spec_of(2).name +
                                          ": only one query and one key"});
  CHECK(works("changes q").at(0).failure == "modified an input: changed q, which is only to be read");
  const TimedWork later = works("is wrong from the third run on").at(0);
  CHECK(later.failure == "");
  later.time_us();
  CHECK_MESSAGE(later.recheck().starts_with("wrong result: o: request 0"), later.recheck());
}

TEST_CASE("plug-ins are timed by the families of attention, on pages") {
  CHECK(plugin_cases(Family::decode, {}).size() == decode_cases().size());
  CHECK(plugin_cases(Family::decode, {spec_of(3)}).size() == 1);
  CHECK(plugin_cases(Family::prefill_ladder, {}).size() == 2);
  for (const CaseSpec& spec : plugin_cases(Family::prefill, {})) CHECK(spec.page_size > 0);
  for (const Family family : {Family::graph, Family::norm, Family::plan}) {
    CHECK_THROWS_AS(plugin_cases(family, {}), InputError);
  }
}
