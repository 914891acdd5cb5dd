// flashladder run: a case file in, a rung's answer out, compared with what the file expects.
#include <memory>

#include "bench/measurement.hpp"
#include "bench/sampled_check.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/expected.hpp"
#include "cli/options.hpp"
#include "core/text.hpp"
#include "ladder/cases/files/case_file.hpp"

namespace flashladder::cli {
namespace {

struct RunOptions {
  ThreadOption threads;
  std::string in, out, rung = "C4";
  bool json = false, native = false;
};

void write(const std::string& path, const ladder::Case& c, ladder::RunResult& result, const std::string& rung, int threads) {
  const AttentionParams& p = c.spec.params;
  const Tensor o = contiguous(result.o.data(), DType::f32, {c.q.shape[0], p.num_qo_heads, p.head_dim_vo});
  write_answer(path, o, result.lse_log2, rung, bench::this_machine().cpu + ", " + counted(threads, "thread"), c);
}

std::string compared_text(const char* name, bool given, const ladder::Worst& w, const ladder::Undecided& u) {
  if (!given) return "";
  std::string numbers = "worst error " + short_number(w.error) + ", tolerance " + short_number(w.tolerance);
  if (w.request < 0 && u.rows > 0) numbers = "no row can be decided";
  return std::string("  ") + name + ": " + numbers + "  " + verdict(verdict_of(w, u)) + "\n";
}

ladder::Json compared_json(bool given, const ladder::Worst& w, const ladder::Undecided& u) {
  if (!given) return nullptr;
  const ladder::Verdict verdict = verdict_of(w, u);
  return ladder::Json::Object{{"error", w.error}, {"tolerance", w.tolerance}, {"verdict", name_of(verdict)},
                              {"ok", verdict == ladder::Verdict::ok}, {"rows_undecided", u.rows}};
}

int run(const RunOptions& o, const ladder::Command& command) {
  ladder::rung(o.rung);
  const ladder::Settings settings = o.threads.settings();
  refuse_idle(command, "--native", !command.given("--out"), "without --out: it says how o is written");
  const ladder::Case c = ladder::read_case(o.in);
  const bool latent = c.spec.op == ladder::Op::mla && !command.given("--rung");
  const ladder::Rung& rung = ladder::rung(latent ? "L3" : o.rung);
  refuse_idle(command, "--threads", !rung.parallel, "on a rung that computes on one thread");
  check_output(command, {"--out", o.out}, {{"--in", o.in}});
  if (const ladder::Support support = rung.supports(c.spec); !support) {
    std::fprintf(stderr, "flashladder: %s can't run %s: %s\n", rung.name.c_str(), printable(o.in).c_str(),
                 printable(support.reason).c_str());
    return nothing_ran;
  }
  ladder::RunResult result = run_rung(rung, c, settings);
  const int threads = rung.parallel ? settings.thread_count() : 1;
  const bool expected = has_expected(c);
  ladder::Comparison comparison;
  if (expected) {
    comparison = compare_with_expected(c, result, bench::sampled_oracle(c, rung.rounding(c.spec)).oracle.tolerance);
  }
  if (!result.guards_intact) comparison.complaint = "wrote outside of its output or workspace";
  if (!o.out.empty()) write(o.out, c, result, rung.name, threads);

  if (o.json) {
    ladder::Json json = ladder::Json::Object{{"case", c.spec.name}, {"rung", rung.name}, {"ms", result.milliseconds},
                                             {"threads", threads}};
    json["expected_o"] = compared_json(c.expected_o.exists(), comparison.o, comparison.o_undecided);
    json["expected_lse_log2"] = compared_json(c.expected_lse_log2.exists(), comparison.lse_log2, comparison.lse_undecided);
    json["ok"] = comparison.ok();
    json["message"] = comparison.message();
    print_json(json);
  } else {
    print(paragraph(rung.name + " on " + c.spec.name + " (" + case_string(c.spec) + "): " +
                    milliseconds(result.milliseconds) + " on " + counted(threads, "thread")) +
          compared_text("expected_o", c.expected_o.exists(), comparison.o, comparison.o_undecided) +
          compared_text("expected_lse_log2", c.expected_lse_log2.exists(), comparison.lse_log2, comparison.lse_undecided) +
          (expected ? "" : "  the file expects nothing, so there was nothing to compare with\n") +
          (comparison.ok() ? "" : paragraph(comparison.message())) +
          (o.out.empty() ? "" : "answer in " + printable(o.out) + "\n"));
  }
  return comparison.ok() ? good : mismatch;
}

}  // namespace

void add_run(ladder::Program& program) {
  ladder::Command& command = program.command("run", "Run a rung on a case file; compare with what the file expects");
  const auto o = std::make_shared<RunOptions>();
  command.add("--in", &o->in, "The case", {.value = "FILE", .required = true});
  command.add("--rung", &o->rung, "Who computes it; of latent attention L3 if none is named", {.value = "NAME"});
  command.add("--out", &o->out, "Where the answer goes: o and lse_log2", {.value = "FILE"});
  command.add("--native", &o->native, "o in the rung's own output dtype; that of every rung there is today is F32");
  command.add("--json", &o->json, "The outcome as JSON");
  o->threads.add_to(command);
  command.footer("The answer is written even if it is not the expected one. The form of both\n"
                 "files: docs/case_format.md.\n"
                  "Example:\n  flashladder run --in data/smollm2_decode.safetensors --out answer.safetensors");
  command.runs([o, &command] { return run(*o, command); });
}

}  // namespace flashladder::cli
