// flashladder verify: do the rungs equal what they must equal, the rung below and the double oracle?
#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "api/placement.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/expected.hpp"
#include "cli/options.hpp"
#include "cli/verify_plugin.hpp"
#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/case_json.hpp"
#include "ladder/plugin/load.hpp"

namespace flashladder::cli {
namespace {

using ladder::Case;
using ladder::Comparison;
using ladder::Json;
using ladder::Rung;
using ladder::RunResult;

struct VerifyOptions {
  CaseOptions shape;
  ThreadOption threads;
  std::vector<std::string> rungs;
  std::string table, file;
  std::optional<std::int32_t> random;  // cases
  bool json = false;
  PluginOptions plugins;
};

struct Failure {
  std::string of, seed, message;
};

// What a rung did on all cases.
struct Tally {
  const Rung* rung = nullptr;
  std::int64_t cases = 0;
  std::optional<Comparison> worst = {};
  std::string worst_case = {}, refused = {};  // the case, the first reason not to support one
  std::vector<Failure> failures = {};
};

void count(Tally& tally, const Case& c, const Comparison& comparison) {
  if (!tally.worst || is_worse(comparison, *tally.worst)) {
    tally.worst = comparison;
    tally.worst_case = c.spec.name;
  }
  if (!comparison.ok()) tally.failures.push_back({c.spec.name, std::to_string(c.spec.seed), comparison.message()});
}

void verify_case(const Case& c, const ladder::Settings& settings, std::vector<Tally>& tallies) {
  ladder::Oracles oracles(c);
  std::map<std::string, RunResult> results;
  const auto result_of = [&](const Rung& rung) -> const RunResult& {
    const auto found = results.find(rung.name);
    return found != results.end() ? found->second : results[rung.name] = run_rung(rung, c, settings);
  };
  for (Tally& tally : tallies) {
    const Rung& rung = *tally.rung;
    if (const ladder::Support support = rung.supports(c.spec); !support) {
      if (tally.refused.empty()) tally.refused = c.spec.name + ": " + support.reason;
      continue;
    }
    const Rung* stands_on = rung_below(rung, c.spec);
    const RunResult* below = stands_on == nullptr ? nullptr : &result_of(*stands_on);
    const RunResult& result = result_of(rung);
    count(tally, c, agree(c, result, below, oracles.of(rung)));
    if (has_expected(c)) count(tally, c, compare_with_expected(c, result, oracles.of(rung).tolerance));
    ++tally.cases;
  }
}

std::vector<ladder::CaseSpec> specs_of(const VerifyOptions& o, const ladder::Command& command) {
  std::vector<ladder::CaseSpec> specs;
  if (command.given("--cases")) specs = ladder::read_case_table(o.table);
  if (o.shape.given()) specs.push_back(o.shape.spec());
  for (std::int32_t i = 0; i < o.random.value_or(0); ++i) {
    specs.push_back(ladder::random_spec(o.shape.seed + static_cast<std::uint64_t>(i)));
  }
  const bool chosen = command.given("--cases") || o.shape.given() || o.random.has_value() || command.given("--in");
  if (chosen) return specs;
  specs = ladder::all_cases();
  if (command.given("--plugin")) std::erase_if(specs, [](const ladder::CaseSpec& s) { return !ladder::takes_plugin(s); });
  return specs;
}

void print_tallies(const std::vector<Tally>& tallies) {
  std::vector<Row> rows;
  std::map<std::string, std::string> not_run;  // a reason -> the rungs that gave it
  for (const Tally& t : tallies) {
    const bool ran = t.worst.has_value();
    const ladder::Worst worst = ran ? t.worst->worst() : ladder::Worst{};
    rows.push_back({t.rung->name, t.rung->must_equal.empty() ? "the formula" : t.rung->must_equal,
                    std::to_string(t.cases), ran ? short_number(worst.error) : "-",
                    ran ? short_number(worst.tolerance) : "-", t.worst_case,
                    ran ? verdict(t.worst->verdict()) : "not run"});
    if (!ran) {
      std::string& names = not_run[t.refused];
      names += (names.empty() ? "" : ", ") + t.rung->name;
    }
  }
  print(text_table({"rung", "must equal", "cases", "worst error", "tolerance", "where", ""}, rows));
  for (const auto& [reason, names] : not_run) print(paragraph("Not run: " + names + ": " + reason, 2));
  for (const Tally& t : tallies) {
    for (const Failure& f : t.failures) {
      print(paragraph(t.rung->name + " on " + ladder::shown(f.of) + " (seed " + f.seed + "): " + f.message, 2));
    }
  }
}

Json to_json(const std::vector<Tally>& tallies, bool ok) {
  Json::List rungs;
  for (const Tally& t : tallies) {
    Json::List failures;
    for (const Failure& f : t.failures) {
      failures.push_back(Json::Object{{"case", f.of}, {"seed", f.seed}, {"message", f.message}});
    }
    const ladder::Worst worst = t.worst ? t.worst->worst() : ladder::Worst{};
    rungs.push_back(Json::Object{{"rung", t.rung->name}, {"device", name_of(t.rung->device)},
                                 {"must_equal", t.rung->must_equal}, {"cases", t.cases},
                                 {"worst_error", worst.error}, {"tolerance", worst.tolerance},
                                 {"worst_case", t.worst_case},
                                 {"verdict", t.worst ? Json(name_of(t.worst->verdict())) : Json()},
                                 {"not_supported", t.refused}, {"failures", failures}});
  }
  return Json::Object{{"ok", ok}, {"rungs", rungs}};
}

int verify_with_plugins(const VerifyOptions& o, const ladder::Command& command) {
  for (const char* option : {"--rung", "--threads"}) refuse_idle(command, option, true, "beside --plugin");
  PluginOptions plugins = o.plugins;
  plugins.json = o.json;
  plugins.in = o.file;
  const std::vector<ladder::CaseSpec> specs = specs_of(o, command);
  return verify_plugins(plugins, specs, command.given("--in") ? std::optional(ladder::read_case(o.file)) : std::nullopt);
}

int verify(const VerifyOptions& o, const ladder::Command& command) {
  if (command.given("--random")) o.shape.refuse_idle({"--seed"});
  else o.shape.refuse_idle();
  if (command.given("--plugin")) return verify_with_plugins(o, command);
  for (const char* option : {"--time-limit", "--failures"}) refuse_idle(command, option, true, "without --plugin");
  const ladder::Settings settings = o.threads.settings();
  std::vector<Tally> tallies;
  const std::vector<ladder::CaseSpec> specs = specs_of(o, command);
  const std::optional<Case> in = command.given("--in") ? std::optional(ladder::read_case(o.file)) : std::nullopt;
  const auto is_mla = [](const ladder::CaseSpec& spec) { return spec.op == ladder::Op::mla; };
  const bool mla = std::ranges::any_of(specs, is_mla) || (in && is_mla(in->spec));
  for (const Rung* rung : chosen_rungs(o.rungs, mla)) tallies.push_back({.rung = rung});
  {
    Progress progress;
    if (in) verify_case(*in, settings, tallies);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      progress.say(std::to_string(i + 1) + "/" + std::to_string(specs.size()) + " " + specs[i].name);
      verify_case(draw_case(specs[i]), settings, tallies);
    }
  }
  std::int64_t ran = 0;
  bool ok = true;
  for (const Tally& t : tallies) {
    ran += t.cases;
    ok = ok && t.failures.empty();
  }
  if (o.json) print_json(to_json(tallies, ok && ran > 0));
  else print_tallies(tallies);
  if (!o.json && o.rungs.empty() && !api::why_no_gpu().empty()) {
    print(paragraph("No GPU rung ran: " + api::why_no_gpu() + "."));
  }
  return ran == 0 ? nothing_ran : ok ? good : mismatch;
}

}  // namespace

void add_verify(ladder::Program& program) {
  ladder::Command& command = program.command("verify", "Prove rungs equal to the rung below and to the double oracle");
  const auto o = std::make_shared<VerifyOptions>();
  command.add("--rung,--rungs", &o->rungs, "Rungs: C1,C2 or the option again for more; all if none is named");
  command.add("--cases", &o->table, "A JSON table of cases, instead of the built-in one", {.value = "FILE"});
  command.add("--in", &o->file, "A case file; what it expects is compared too", {.value = "FILE"});
  command.add("--random", &o->random, "So many random cases, from --seed on", {.least = 1, .most = 1'000'000});
  command.add("--json", &o->json, "The outcome as JSON");
  command.add("--plugin", &o->plugins.paths, "A kernel of your own, in the place of rungs (docs/bring-your-own-kernel.md)",
              {.value = "FILE"});
  command.add("--time-limit", &o->plugins.seconds, "Seconds that a plug-in has for one case", {.least = 0});
  command.add("--failures", &o->plugins.folder, "Folder for the cases that a plug-in fails, and pictures", {.value = "DIR"});
  o->threads.add_to(command);
  o->shape.add_to(command);
  command.footer("Cases come from --cases, --in, --kv and --random, together; from the built-in\n"
                 "table if none is given.\n"
                  "Example:\n"
                  "  flashladder verify --rung C2 --rung C4 --random 20 --seed 7\n"
                  "  flashladder verify --in data/smollm2_decode.safetensors");
  command.runs([o, &command] { return verify(*o, command); });
}

}  // namespace flashladder::cli
