// A user's kernel: the template passes, plug-ins that misbehave are reported by what they did, and wrong kernels are
// rejected and named.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/input/read_file.hpp"
#include "ladder/plugin/examine.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

std::string plugin(const char* name) { return FLASHLADDER_TEST_PLUGINS "/plugin_" + std::string(name) + ".so"; }

Examination examined(const char* library, const char* which, const std::vector<CaseSpec>& specs,
                     const ExamineOptions& options = {}) {
  setenv("FLASHLADDER_TEST_PLUGIN", which, 1);  // the children inherit it
  return examine(plugin(library), specs, std::nullopt, options);
}

std::string names(const std::vector<Fault>& class_of) {
  std::string text;
  for (const Fault fault : class_of) text += (text.empty() ? "" : ", ") + std::string(info(fault).name);
  return text.empty() ? "not recognised" : text;
}

CaseSpec one_key() {
  CaseSpec s{.name = "one key", .qo_lens = {1}, .kv_lens = {1}};
  s.params = {.num_qo_heads = 2, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = default_sm_scale(8)};
  return s;
}

std::vector<CaseSpec> tables() {
  std::vector<CaseSpec> specs = case_table();
  for (std::uint64_t seed = 1; seed <= 20; ++seed) specs.push_back(random_spec(seed));
  return specs;
}

}  // namespace

TEST_CASE("the CPU template passes every case that it takes") {
  const Examination found = examined("template", "", tables());
  for (const CaseFailure& f : found.failures) FAIL_CHECK(f.spec.name << ": " << f.message);
  CHECK(found.ok());
  CHECK(found.cases > 50);
  CHECK(found.refused > 0);
}

TEST_CASE("what a plug-in does wrong is reported by name, and the run goes on") {
  struct Expected {
    const char *which, *kind, *says;
  };
  const Expected all[] = {
      {"crashes", "crashed", "Segmentation fault in run()"},
      {"crashes in release", "crashed", "Aborted in release()"},
      {"hangs", "hung", "took longer than 0.3 s in run()"},
      {"exits", "ended the process", "ended the process with exit code 0 in run()"},
      {"throws", "returned an error", "run() threw: out of luck"},
      {"says no", "returned an error", "run() said: the card is busy"},
      {"refuses in prepare", "returned an error", "prepare() said: no room for my tables"},
      {"writes behind o", "wrote out of bounds", "wrote outside of o"},
      {"writes before lse", "wrote out of bounds", "wrote outside of lse_log2"},
      {"writes behind its workspace", "wrote out of bounds", "wrote outside of its workspace"},
      {"writes behind q", "wrote out of bounds", "wrote outside of the input q"},
      {"changes q", "modified an input", "changed q"},
      {"changes the page table", "modified an input", "changed paged_kv_indices"},
      {"leaves NaN", "left NaN", "left 1 of 16 elements of o unwritten"},
      {"counts its runs", "gave other bits in a second run", ""},
  };
  for (const Expected& e : all) {
    CAPTURE(std::string(e.which));
    // Only what hangs meets its limit: a busy machine may be slow at ending the others.
    const double seconds = std::string(e.kind) == "hung" ? 0.3 : 30;
    const ExamineOptions options{.child = {.seconds = seconds}, .shrink = {.runs = 2}, .most_hangs = 3};
    const Examination found = examined("ill_behaved", e.which, {one_key(), one_key()}, options);
    CHECK(found.cases == 2);  // the second case ran too
    REQUIRE(found.failures.size() == 2);
    CHECK(found.failures[1].kind == e.kind);
    CHECK_MESSAGE(found.failures[1].message.find(e.says) != std::string::npos, found.failures[1].message);
    CHECK_MESSAGE(found.smallest.size() == 1, found.failures[0].message);
  }
  CHECK(examined("ill_behaved", "nothing", {one_key()}).ok());  // the same library, when it behaves
}

// Sanitizers replace malloc, and theirs counts nothing.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("memory that stays allocated is a leak, with the amount of each run") {
  struct Expected {
    const char* which;
    std::int64_t least, most;  // bytes a run: a chunk has 8 bytes more, and is a multiple of 16, or a mapping of whole pages
  };
  const Expected all[] = {{"leaks a word", 32, 32}, {"leaks in run", 64, 64}, {"leaks what was free", 64, 64},
                          {"leaks a table", 1 << 20, (1 << 20) + 8192}};
  // A small leak shows after tens of thousands of runs, for which a busy machine wants time.
  const ExamineOptions patient{.child = {.seconds = 240}, .leak_seconds = 180};
  for (const Expected& e : all) {
    CAPTURE(std::string(e.which));
    const Examination found = examined("ill_behaved", e.which, {one_key(), one_key()}, patient);
    CHECK(found.cases == 2);
    REQUIRE_FALSE(found.failures.empty());  // on the first case there is time enough for a small leak
    CHECK(found.failures[0].kind == "leaked memory");
    const std::string& message = found.failures[0].message;
    const std::string before = "in repeated runs: ";
    REQUIRE_MESSAGE(message.starts_with(before), message);
    std::size_t digits = 0;
    const std::int64_t bytes = std::stoll(message.substr(before.size()), &digits);
    CHECK(bytes >= e.least);
    CHECK(bytes <= e.most);
    CHECK(message.substr(before.size() + digits).starts_with(" bytes of host memory a run stay allocated after release()"));
    REQUIRE(found.smallest.size() == 1);
    CHECK(found.smallest[0].judgement.message() == message);
    CHECK_FALSE(found.smallest[0].compared);
    const Case written = parse_case(case_bytes(found.smallest[0].c, "case"), "case");
    const Examination again = examine(plugin("ill_behaved"), {}, written, patient);
    CHECK(again.failures.size() == 1);  // the file that is written shows it too
  }
}
#endif

TEST_CASE("memory that is kept, and does not grow without end, is no leak") {
  for (const char* which : {"fills a cache", "makes a large table late", "keeps one table", "nothing"}) {
    const Examination found = examined("ill_behaved", which, {one_key()});
    CHECK_MESSAGE(found.ok(), std::string(which) << ": " << (found.failures.empty() ? "" : found.failures[0].message));
  }
}

TEST_CASE("what goes wrong only when a case is repeated is reported by name") {
  const Examination found = examined("ill_behaved", "fails when it is repeated", {one_key()});
  REQUIRE(found.failures.size() == 1);
  CHECK(found.failures[0].kind == "returned an error");
  CHECK(found.failures[0].message == "in repeated runs: prepare() said: no sixth table");
  REQUIRE(found.smallest.size() == 1);
  CHECK(found.smallest[0].judgement.message() == found.failures[0].message);
}

TEST_CASE("after some hangs the remaining cases are left out, and that is not ok") {
  const ExamineOptions options{.child = {.seconds = 0.2}, .shrink = {.runs = 0}, .most_hangs = 1};
  const Examination found = examined("ill_behaved", "hangs", {one_key(), one_key(), one_key()}, options);
  CHECK(found.left_out == 2);
  CHECK_FALSE(found.ok());
}

TEST_CASE("a file that is no plug-in of this version is refused with the reason") {
  const auto refused = [](const std::string& path, const char* which) -> std::string {
    setenv("FLASHLADDER_TEST_PLUGIN", which, 1);
    try {
      examine(path, {one_key()}, std::nullopt);
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  CHECK(refused("/nowhere.so", "").find("can't be loaded") != std::string::npos);
  CHECK(refused(plugin("ill_behaved"), "is of another version").find("version 2 of the interface") != std::string::npos);
  CHECK(refused(plugin("ill_behaved"), "lacks run").find("lacks one of supports, prepare and run") != std::string::npos);
  CHECK(examined("ill_behaved", "crashes at once", {one_key()}).introduction.ending == Ending::crashed);
}

TEST_CASE("every known mistake as a plug-in is rejected and named") {
  const auto bytes = read_file(FLASHLADDER_SOURCE_ROOT "/docs/bring-your-own-kernel.md", most_text_bytes);
  const std::string_view page = as_text(bytes);
  for (const FaultInfo& f : plugin_faults()) {
    CAPTURE(std::string(f.name));
    const Examination found = examined("mutant", f.name, case_table(), {.leak_seconds = 0});
    REQUIRE_FALSE(found.smallest.empty());
    const std::vector<Fault>& looks_like = found.smallest.front().looks_like;
    MESSAGE(std::string(f.name) << ": " << names(looks_like) << " by " << case_string(found.smallest.front().c.spec));
    CHECK(names(looks_like) == f.name);
    const std::string row = "| `" + std::string(f.name) + "` | " + f.what + " | ";
    CHECK_MESSAGE(page.find(row) != page.npos, "the page's table lacks " << row);
  }
  CHECK(examined("mutant", "none", case_table()).ok());
}

TEST_CASE("wrong kernels that share no code with the known mistakes: at most one name in twenty is wrong") {
  struct Expected {
    const char* which;
    std::vector<Fault> right;  // empty: it has no name
  };
  const Expected all[] = {
      {"causal from zero", {Fault::top_left_causal}}, {"interleaved groups", {Fault::strided_heads}},
      {"exclusive end", {Fault::last_key_lost}}, {"whole pages", {Fault::full_last_page}},
      {"contiguous pages", {Fault::identity_pages}}, {"short window", {Fault::window_off_by_one}},
      {"no scale", {Fault::scale_lost}}, {"o keeps its scale", {Fault::no_rescale}},
      {"d keeps its scale", {Fault::d_not_rescaled}}, {"equal shares", {Fault::merge_plain_mean}},
      {"sinks forgotten", {Fault::sink_lost}}, {"skips empty rows", {Fault::empty_row_not_written}},
      {"lse in e", {Fault::natural_lse}}, {"maximum from zero", {Fault::max_from_1e_30}},
      {"whole tiles only", {}}, {"first kv head only", {}}, {"v of the next entry", {}}, {"first page again", {}},
      {"long window", {}}, {"mask by columns", {}}, {"one key ahead", {}}, {"scale of its own", {}}, {"cap by clamping", {}},
      {"weights from maxima only", {}}, {"sinks in base 2", {}}, {"not divided", {}}, {"lse without maximum", {}},
  };
  std::size_t wrong = 0, recognised = 0;
  for (const Expected& e : all) {
    CAPTURE(std::string(e.which));
    const Examination found = examined("wrong", e.which, case_table(), {.leak_seconds = 0});
    REQUIRE_FALSE(found.smallest.empty());
    const std::vector<Fault>& looks_like = found.smallest.front().looks_like;
    const auto is_right = [&](Fault f) { return std::find(e.right.begin(), e.right.end(), f) != e.right.end(); };
    const bool named = !looks_like.empty(), right = std::any_of(looks_like.begin(), looks_like.end(), is_right);
    recognised += named && right;
    wrong += named && !right;
    MESSAGE(std::string(e.which) << ": " << names(looks_like) << std::string(named && !right ? " (wrong)" : ""));
  }
  MESSAGE(recognised << " recognised, " << wrong << " wrong names of " << std::size(all));
  CHECK(wrong * 20 <= std::size(all));
  CHECK(recognised == 12);  // as docs/bring-your-own-kernel.md says
  CHECK(wrong == 0);
  CHECK(examined("wrong", "nothing", case_table()).ok());
}

TEST_CASE("shrinking ends at the smallest case, and the file that is written fails in the same way") {
  const Examination found = examined("wrong", "causal from zero", case_table());
  REQUIRE(found.smallest.size() == 1);
  const SmallestFailure& f = found.smallest.front();
  CHECK(f.c.spec.batch() == 1);
  CHECK(f.c.spec.params.num_qo_heads == 1);
  CHECK(f.c.spec.params.head_dim_vo == 1);
  CHECK(f.c.spec.page_size == 1);
  CHECK(f.c.spec.params.mask == MaskMode::causal);
  const Case again = parse_case(case_bytes(f.c, "case"), "case");
  const Examination repeated = examine(plugin("wrong"), {}, again);
  REQUIRE(repeated.failures.size() == 1);
  CHECK(repeated.failures[0].kind == f.kind);
  CHECK(repeated.failures[0].message == f.judgement.message());
}
