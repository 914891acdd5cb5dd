// flashladder report: measured lines as a page, CSV and JSON; of this machine, now, or from files; and against an older one.
#include <cstdio>
#include <memory>

#include "bench/gpu_bench.hpp"
#include "bench/report/against.hpp"
#include "bench/report/page.hpp"
#include "bench/report/report_json.hpp"
#include "bench/report/targets.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/report_run.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::cli {
namespace {

struct ReportOptions {
  std::vector<std::string> lines = {};
  std::string out = "report", against = {};
  std::optional<std::int32_t> rounds = {};
  ThreadOption threads = {};
  TimedPlugins plugins = {};
  bool strict = false, quiet = false;  // quiet: prints nothing
};

constexpr int default_report_rounds = 3;  // two have a spread, three a middle

bench::LineText text_file(const std::string& path) {
  return {path, std::string(ladder::as_text(ladder::read_file(path, ladder::most_text_bytes)))};
}

void check_files(const ReportOptions& o) {
  std::vector<FileOption> inputs{{"--against", o.against}};
  for (const std::string& path : o.lines) inputs.push_back({"--lines", path});
  for (const char* ending : {".html", ".csv", ".json", ".jsonl"}) {
    if (std::string(ending) != ".jsonl" || o.lines.empty()) check_output({"--out", o.out + ending}, inputs);
  }
}

// As lines have them: 4.236 misses 4.237, and a third digit less would not show it.
std::string four_digits(double tera_bytes_per_s) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", tera_bytes_per_s);
  return text;
}

std::string targets_text(const bench::Lines& lines) {
  std::vector<Row> rows;
  for (const bench::Target& t : bench::targets_of(lines)) {
    const auto verdict_on = [](bool pass, int n, int cases) {
      return std::string(pass ? "pass" : "fail") + ", " + std::to_string(n) + " of " + std::to_string(cases);
    };
    const std::string here = t.here ? "> " + four_digits(*t.here) : "-";
    if (t.best == nullptr) {
      rows.push_back({t.name, "-", "> " + four_digits(t.there), "not measured", here, "not measured"});
    } else {
      rows.push_back({t.name, four_digits(*t.best->tera_bytes_per_s), "> " + four_digits(t.there),
                      verdict_on(t.meets_there(), t.meet_there, t.cases), here,
                      t.here ? verdict_on(t.meets_here(), t.meet_here, t.cases) : "peak not known"});
    }
  }
  return text_table({"", "best TB/s", "A100", "cases that pass", "scaled", "cases that pass"}, rows);
}

std::string against_text(const bench::Against& a) {
  std::string text = "\n" + paragraph("Against " + printable(a.source) + ": " + std::to_string(a.judged()) + " judged, " +
                                      std::to_string(a.count(bench::Change::slower)) + " slower beyond the noise, " +
                                      std::to_string(a.count(bench::Change::faster)) + " faster, " +
                                      std::to_string(a.count(bench::Change::one_run)) + " with one run on a side, " +
                                      std::to_string(a.count(bench::Change::added)) + " new, " +
                                      std::to_string(a.count(bench::Change::gone)) + " gone.");
  std::vector<Row> rows;
  for (const bench::Compared& c : a.works) {
    if (c.change != bench::Change::slower) continue;
    rows.push_back({c.new_one.work, c.new_one.backend, three_digits(c.old_one.us), three_digits(c.new_one.us),
                    three_digits(c.noise_us)});
  }
  return rows.empty() ? text : text + text_table({"slower", "backend", "us before", "us now", "noise us"}, rows);
}

// What was wrong decides first; of the comparison, --strict takes neither a slower work nor one that says nothing.
int exit_code(const ReportOptions& o, const std::vector<std::string>& failures,
              const std::optional<bench::Against>& against) {
  if (!failures.empty()) return mismatch;
  if (!o.strict || !against) return good;
  return against->count(bench::Change::slower) > 0 ? mismatch : against->judged() == 0 ? nothing_ran : good;
}

MeasuredLines measured(const ReportOptions& o) {
  const int rounds = o.rounds.value_or(default_report_rounds);
  if (bench::why_no_gpu().empty()) return measure_gpu_families(rounds);
  return measure_cpu_rungs(o.threads.settings(), rounds, o.plugins.introduced(), o.plugins.child());
}

// Of a report that measures a GPU, within minutes that its own works fill.
std::string how_a_plugin_comes_in(const std::string& out) {
  return "where there is a GPU the report is about it, and a plug-in for the GPU is timed by itself and its lines are "
         "joined: flashladder bench decode --plugin FILE --jsonl mine.jsonl (or prefill, prefill-ladder), then flashladder report "
         "--lines " + printable(out) + ".jsonl,mine.jsonl --out both";
}

static_assert(gpu_time_limit == std::chrono::minutes(3), "--help says so");

std::string left_out_text(int works) {
  return "At least " + counted(works, "work") + " left out: measuring takes at most " +
         std::to_string(gpu_time_limit.count() / 60) + " minutes on a GPU.";
}

void print_report(const ReportOptions& o, const bench::Lines& lines, const std::optional<bench::Against>& against) {
  print(paragraph(lines.machine() + ": " + counted(lines.measurements, "line") + " of " +
                  counted(std::ssize(lines.works), "work") +
                  (lines.left_out > 0 ? "; " + counted(lines.left_out, "line") + " without a time left out" : "") + "."));
  if (lines.on_gpu()) print("\n" + targets_text(lines));
  if (against) print(against_text(*against));
  print("\n" + paragraph("The report: " + printable(o.out) + ".html, .csv and .json" +
                         (o.lines.empty() ? ", its lines .jsonl" : "") + "."));
}

int make_report(const ReportOptions& o) {
  std::optional<bench::LineText> old_report;
  if (!o.against.empty()) old_report = text_file(o.against);
  if (old_report) bench::lines_of_report(*old_report);  // refused before minutes of measuring

  MeasuredLines now;
  std::vector<bench::LineText> files;
  for (const std::string& path : o.lines) files.push_back(text_file(path));
  if (files.empty()) {
    if (!o.quiet && bench::why_no_gpu().empty()) {
      print("Measuring, for at most " + std::to_string(gpu_time_limit.count() / 60) + " minutes.\n\n");
    }
    now = measured(o);
    write_file_whole(o.out + ".jsonl", now.json_lines);  // kept whatever is refused below
    for (const std::string& failure : now.failures) {
      if (!o.quiet) print(paragraph("FAIL " + failure, 2));
    }
    for (const std::string& note : now.notes) {
      if (!o.quiet) print(paragraph(note + ".", 2));
    }
    if (now.left_out > 0 && !o.quiet) print(paragraph(left_out_text(now.left_out)));
    files.push_back({"this run", now.json_lines});
  }
  const bench::Lines lines = bench::read_lines(files);
  std::optional<bench::Against> against;
  if (old_report) against = bench::compare_with(lines, *old_report);
  const bench::Against* compared = against ? &*against : nullptr;

  write_file_whole(o.out + ".csv", bench::report_csv(lines));
  write_file_whole(o.out + ".json", bench::report_json(lines, compared));
  write_file_whole(o.out + ".html", bench::report_page(lines, compared));

  if (!o.quiet) print_report(o, lines, against);
  if (!o.quiet && o.plugins.given() && bench::why_no_gpu().empty()) {
    print("\n" + paragraph("The plug-in is not in this report: " + how_a_plugin_comes_in(o.out) + "."));
  }
  return exit_code(o, now.failures, against);
}

int report_command(const ReportOptions& o, const ladder::Command& command) {
  for (const char* option : {"--rounds", "--threads", "--plugin"}) {
    refuse_idle(command, option, !o.lines.empty(), "with --lines, which were measured before");
  }
  o.plugins.refuse_idle();
  if (o.plugins.given() && bench::why_no_gpu().empty()) {
    throw InputError("--plugin", ladder::shown(o.plugins.paths.front()), how_a_plugin_comes_in(o.out));
  }
  refuse_idle(command, "--threads", bench::why_no_gpu().empty(), "where there is a GPU: it is measured, not the CPU");
  refuse_idle(command, "--strict", o.against.empty(), "without --against, the report to compare with");
  require(!o.out.empty(), "--out", "\"\"", "must name the files, without their endings");
  check_files(o);
  return make_report(o);
}

}  // namespace

void check_report_files(const std::string& out) { check_files({.out = out}); }

int report_now(const std::string& out, int rounds, const ThreadOption& threads, const TimedPlugins& plugins, bool quiet) {
  return make_report({.out = out, .rounds = rounds, .threads = threads, .plugins = plugins, .quiet = quiet});
}

void add_report(ladder::Program& program) {
  ladder::Command& command = program.command("report", "Measured lines as one page: roofline, ladder, targets, changes");
  const auto o = std::make_shared<ReportOptions>();
  command.add("--lines", &o->lines, "Files of measurement lines, instead of measuring now; again for more",
              {.value = "FILE"});
  command.add("--out", &o->out, "Names the files: OUT.html, OUT.csv, OUT.json", {.value = "OUT"});
  command.add("--against", &o->against, "An older report's JSON: what got slower since?", {.value = "FILE"});
  command.add("--strict", &o->strict, "Exit code 1 if a work got slower beyond the noise, 77 if none was judged");
  command.add("--rounds", &o->rounds, "Measuring now: lines of each work (3)", {.least = 1, .most = 1000});
  o->plugins.add_to(command);
  o->threads.add_to(command);
  command.footer("Without --lines it measures: on a GPU, for at most 3 minutes, both ladders, decode, prefill,\n"
                 "append, norm and rope, without one the CPU's rungs; OUT.jsonl then has the lines.\n"
                 "Example:\n"
                 "  flashladder bench --kv 64x2 --rounds 1 --no-plan --jsonl lines.jsonl\n"
                 "  flashladder report --lines lines.jsonl --out now");
  command.runs([o, &command] { return report_command(*o, command); });
}

}  // namespace flashladder::cli
