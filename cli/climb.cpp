// flashladder climb: every rung on a real model's tensors, proved, timed and drawn.
#include <filesystem>
#include <map>
#include <memory>
#include <span>

#include "bench/timing.hpp"
#include "cli/climb_page.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/expected.hpp"
#include "cli/options.hpp"
#include "cli/plugin_timing.hpp"
#include "cli/report.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/cases/specs/short_form.hpp"

namespace flashladder::cli {
namespace {

namespace fs = std::filesystem;

struct ClimbOptions {
  ThreadOption threads;
  TimedPlugins plugins;
  std::string data_dir = default_data_dir(), in, html = "out/climb.html";
  bool json = false, bench = false;
};

constexpr int report_rounds = 2;  // the fewest that have a spread

// Of the report behind --bench, without endings: beside the page.
std::string report_files(const ClimbOptions& o) { return (fs::path(o.html).parent_path() / "report").string(); }

// printf's %-*s, by hand: the rows appear one by one, while the ladder is climbed.
std::string padded(const std::string& text, std::size_t width) {
  return text + std::string(text.size() < width ? width - text.size() : 1, ' ');
}

// name_width: of the first column, two more than its longest name; the ideas below stand at 6.
std::string line_of(const Row& cells, std::size_t name_width) {
  const std::size_t widths[] = {name_width, 13, 13, 11, 11, 11};
  std::string line;
  for (std::size_t c = 0; c < cells.size(); ++c) line += c < std::size(widths) ? padded(cells[c], widths[c]) : cells[c];
  return line + "\n";
}

std::size_t name_width_of(std::span<const bench::Plugin> plugins) {
  std::size_t width = 6;
  for (const bench::Plugin& p : plugins) width = std::max(width, p.rung.name.size() + 2);
  return width;
}

std::string lines_of(const Step& s, double c0_milliseconds, std::size_t name_width) {
  const ladder::Worst& worst = s.worst();
  return line_of({s.rung->name, s.rung->must_equal.empty() ? "the formula" : s.rung->must_equal, short_number(worst.error),
                  short_number(worst.tolerance), milliseconds(s.milliseconds),
                  short_number(c0_milliseconds / s.milliseconds) + "x", verdict(s.verdict())}, name_width) +
         (s.rung->idea.empty() ? "" : "      " + paragraph(s.rung->idea, 6));
}

void print_step(const Climb& climb, const Step& step, std::size_t name_width) {
  print(lines_of(step, climb.steps[0].milliseconds, name_width));
  if (!step.ok()) print("      " + paragraph(step.agreement.message() + " " + step.expected.message(), 6));
}

void not_run(Climb& climb, const std::string& reason, const std::string& name) {
  std::string& names = climb.not_run[reason];
  names += (names.empty() ? "" : ", ") + name;
}

// The user's kernels, before the rungs: a process that is forked from one that uses the GPU can't use it.
std::vector<Step> plugin_steps(Climb& climb, const bench::Introduced& introduced, const ladder::ChildOptions& options) {
  const ladder::Case& c = *climb.of;
  Progress progress;
  ladder::Oracles oracles(c);
  std::vector<Step> steps;
  climb.failed = introduced.failures;
  for (const bench::Plugin& plugin : introduced.plugins) {
    progress.say(plugin.rung.name + ": " + plugin.rung.idea);
    const bench::PluginTiming one = bench::time_plugin(c, plugin, climb_rounds, options);
    if (!one.refused.empty()) not_run(climb, one.refused, plugin.rung.name);
    if (!one.failure.empty()) climb.failed.push_back(plugin.rung.name + ", not timed: " + one.failure);
    if (!one.timing) continue;
    Step step{.rung = &plugin.rung, .plugin = true, .milliseconds = one.timing->line.us * 1e-3,
              .agreement = one.timing->agreement, .expected = {}, .has_expected = has_expected(c)};
    if (step.has_expected) step.expected = compare_with_expected(c, one.result, oracles.of(plugin.rung).tolerance);
    steps.push_back(step);
  }
  return steps;
}

void climb_rungs(Climb& climb, bool quiet, std::size_t name_width) {
  const ladder::Case& c = *climb.of;
  Progress progress;
  progress.say("the formula in double, for the tolerance");
  ladder::Oracles oracles(c);
  std::map<std::string, ladder::RunResult> results;
  for (const ladder::Rung* each : chosen_rungs({}, c.spec.op == ladder::Op::mla)) {
    const ladder::Rung& rung = *each;
    if (const ladder::Support support = rung.supports(c.spec); !support) {
      not_run(climb, support.reason, rung.name);
      continue;
    }
    progress.say(rung.name + ": " + rung.idea);
    const ladder::RunResult& result = results[rung.name] = run_rung(
        rung, c, climb.settings, [](const std::function<void()>& run) { return bench::median_ms(climb_rounds, run); });
    const ladder::Rung* stands_on = rung_below(rung, c.spec);
    const auto below = stands_on == nullptr ? results.end() : results.find(stands_on->name);
    Step step{.rung = &rung, .plugin = false, .milliseconds = result.milliseconds,
              .agreement = agree(c, result, below == results.end() ? nullptr : &below->second, oracles.of(rung)),
              .expected = {}, .has_expected = has_expected(c)};
    if (step.has_expected) step.expected = compare_with_expected(c, result, oracles.of(rung).tolerance);
    climb.steps.push_back(step);
    progress.clear();
    if (!quiet) print_step(climb, step, name_width);
  }
}

// The two heads of the real model that show most (data/README.md), if the default case is climbed; else the first head.
std::vector<HeadPicture> heads_of(const Climb& climb, bool default_case, const ladder::Case& layer_2) {
  constexpr std::int64_t most_cells = 4 << 20;
  const ladder::Case& c = *climb.of;
  if (default_case) {
    return {{&layer_2, 1, {24, 49}, "Layer 2, head 1: the token before",
             "A bright line just below the diagonal: a token looks at the one before it."},
            {&c, 6, {}, "Layer 18, head 6: the sink",
             "A bright column on the left: a head that has nothing to add looks at the first token, which says nothing "
             "about the text. The dots are words that it did find."}};
  }
  if (c.spec.batch() == 0) return {};
  const std::int64_t cells = std::int64_t{c.spec.qo_lens[0]} * c.spec.kv_lens[0];
  if (cells == 0 || cells > most_cells) return {};
  return {{&c, 0, {}, "Request 0, head 0", "The weights of the first head of the first request."}};
}

ladder::Json to_json(const Climb& climb, bool ok, const std::string& html, const std::string& report) {
  using ladder::Json;
  Json::List steps;
  for (const Step& s : climb.steps) {
    const Json of_file = s.has_expected ? Json(s.expected.ratio()) : Json();
    steps.push_back(Json::Object{{"rung", s.rung->name}, {"idea", s.rung->idea}, {"must_equal", s.rung->must_equal},
                                 {"worst_error", s.worst().error}, {"tolerance", s.worst().tolerance},
                                 {"ms", s.milliseconds}, {"ok", s.ok()}, {"verdict", name_of(s.verdict())},
                                 {"share_of_tolerance_against_file", of_file}});
  }
  Json json = Json::Object{{"case", climb.of->spec.name}, {"file", climb.file}, {"ok", ok}, {"rungs", steps},
                           {"failures", ladder::Json::List(climb.failed.begin(), climb.failed.end())}, {"html", html}};
  if (!report.empty()) json["report"] = report;
  return json;
}

// The page's folder, made if it is not there, and the page's place in it looked at.
void prepare_page(const std::string& html, const std::vector<FileOption>& inputs) {
  const fs::path folder = fs::path(html).parent_path();
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  if (error) throw InputError("--html", ladder::shown(html), "its folder can't be made: " + error.message());
  check_output({"--html", html}, inputs);
}

int climb_command(const ClimbOptions& o, const ladder::Command& command) {
  o.plugins.refuse_idle();
  const bench::Introduced plugins = o.plugins.introduced();
  refuse_idle(command, "--data", command.given("--in"), "with --in, which names the case itself");
  const bool default_case = !command.given("--in");
  const std::string file = default_case ? o.data_dir + "/smollm2_layer18.safetensors" : o.in;
  const ladder::Case c = ladder::read_case(file);
  ladder::Case layer_2;
  const std::string second = o.data_dir + "/smollm2_layer02.safetensors";
  if (default_case) layer_2 = ladder::read_case(second);
  prepare_page(o.html, {{default_case ? "--data" : "--in", file}, {"--data", default_case ? second : ""}});
  if (o.bench) check_report_files(report_files(o));
  Climb climb{&c, fs::path(file).filename().string(), o.threads.settings(), {}, {}, {}, {}, {}};
  const std::size_t name_width = name_width_of(plugins.plugins);
  if (!o.json) {
    const auto model = c.notes.find("x-model");
    print(paragraph("Climbing on " + c.spec.name + " (" + case_string(c.spec) + ")" +
                    (model == c.notes.end() ? "" : ", tensors of " + model->second)) + "\n" +
          line_of({"rung", "must equal", "worst error", "tolerance", "time", "speed-up"}, name_width));
  }
  const std::vector<Step> last = plugin_steps(climb, plugins, o.plugins.child());
  climb_rungs(climb, o.json, name_width);
  for (const Step& step : last) {
    climb.steps.push_back(step);
    if (!o.json) print_step(climb, step, name_width);
  }
  bool ok = climb.failed.empty();
  double share = 0;
  for (const Step& s : climb.steps) {
    ok = ok && s.ok();
    share = std::max(share, s.expected.ratio());
  }
  climb.heads = heads_of(climb, default_case, layer_2);
  const ladder::LengthSources sources{.data_dir = o.data_dir, .trace = "", .seed = 1};
  if (default_case) climb.served = ladder::parse_lengths("--data", "azure-conv:16", sources);
  write_file_whole(o.html, climb_page(climb));
  const auto full = [](const std::string& path) { return fs::absolute(path).lexically_normal().string(); };
  const std::string html = full(o.html), report = o.bench ? full(report_files(o)) : "";
  if (!o.json) {
    if (has_expected(c)) {
      print("\nAgainst the answer in the file: at worst " + short_number(100 * share) + " % of the tolerance.\n");
    }
    for (const std::string& failed : climb.failed) print("\n" + paragraph("FAIL " + failed, 2));
    for (const auto& [reason, names] : climb.not_run) print(paragraph("Not run: " + names + ": " + reason, 2));
    print("\n" + printable(html) + "\n");
  }
  int code = climb.steps.empty() ? nothing_ran : ok ? good : mismatch;
  if (o.bench) {
    if (!o.json) print("\n");
    const int measured = report_now(report, report_rounds, o.threads, o.plugins, o.json);
    if (measured != good) code = measured;
  }
  if (o.json) print_json(to_json(climb, code == good, html, report.empty() ? "" : report + ".html"));
  return code;
}

}  // namespace

void add_climb(ladder::Program& program) {
  ladder::Command& command = program.command("climb", "Prove, time and draw every rung on a real model's tensors");
  const auto o = std::make_shared<ClimbOptions>();
  command.add("--html", &o->html, "The page with the pictures", {.value = "FILE"});
  command.add("--in", &o->in, "Another case to climb on", {.value = "FILE"});
  command.add("--data", &o->data_dir, "Directory with the real cases; also $FLASHLADDER_DATA",
              {.value = "DIR", .shows_default = false});
  command.add("--bench", &o->bench, "Then measure, twice, and write the report beside the page: report.html");
  command.add("--json", &o->json, "The table as JSON");
  o->plugins.add_to(command);
  o->threads.add_to(command);
  command.footer("Example:\n  flashladder climb --html climb.html");
  command.runs([o, &command] { return climb_command(*o, command); });
}

}  // namespace flashladder::cli
