// What examine() found, as people and programs read it. A failure leaves two files: the smallest case, and a page with
// pictures of what was expected, what came, and the difference.
#include "cli/verify_plugin.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>

#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/plugin_page.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/input/text.hpp"
#include "ladder/plugin/examine.hpp"

namespace flashladder::cli {
namespace {

using ladder::Examination;
using ladder::Json;
using ladder::SmallestFailure;

// "mine", "mine-2" ...: no file of another failure of this run, and no more than letters in a name.
std::string file_stem(const std::string& name, std::size_t index) {
  std::string stem;
  for (const char c : name) stem += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ? c : '_';
  return index == 0 ? stem : stem + "-" + std::to_string(index + 1);
}

std::string shell_word(const std::string& text) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || std::string_view("_-./").find(c) < 4; };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? "'\\''" : std::string(1, c);
  return word + "'";
}

struct Written {
  std::string case_file, page, command;
  bool here_only;  // the command names a file from this folder on
};

Written write(const SmallestFailure& f, const Examination& found, const std::string& path, std::size_t index,
              const PluginOptions& o) {
  std::filesystem::create_directories(o.folder);
  const std::string stem = o.folder + "/" + file_stem(found.rung.name, index);
  const bool from_file = f.c.spec.values == ladder::Values::given;
  Written written{.case_file = from_file ? o.in : stem + ".safetensors", .page = {}, .command = {}, .here_only = false};
  written.here_only = std::filesystem::path(path).is_relative() || std::filesystem::path(written.case_file).is_relative();
  if (!from_file) write_case(written.case_file, f.c);
  if (f.judgement.run.has_result) {
    written.page = stem + ".html";
    write_plugin_page(written.page, found.rung.name, f);
  }
  written.command = "flashladder verify --plugin " + shell_word(path) + " --in " + shell_word(written.case_file);
  return written;
}

void print_failure(const SmallestFailure& f, const Written& written, const Examination& found) {
  std::size_t cases = 0;
  for (const ladder::CaseFailure& other : found.failures) cases += other.kind == f.kind;
  print("\n" + paragraph(found.rung.name + ": " + f.kind + " in " + std::to_string(cases) + " of " +
                         counted(found.cases, "case") + ", such as " + ladder::shown(f.from.name) + " (seed " +
                         std::to_string(f.from.seed) + ")"));
  const std::string smallest = f.runs == 0 ? "The case" : "The smallest case that fails so (" + counted(f.runs, "run") + ")";
  print("  " + paragraph(smallest + ": " + case_text(f.c.spec), 4));
  print("  " + paragraph(f.judgement.message(), 4));
  if (const std::string text = likeness(f); !text.empty()) print("  " + paragraph(text, 4));
  print("  case     " + printable(written.case_file) + "\n");
  if (!written.page.empty()) print("  picture  " + printable(written.page) + "\n");
  print("  repeat   " + printable(written.command) + (written.here_only ? "  # in this folder" : "") + "\n");
}

Row table_row(const Examination& found) {
  const ladder::Worst worst = found.worst ? found.worst->worst() : ladder::Worst{};
  const std::string verdict_text = found.cases == 0 && found.failures.empty() ? "not run" : verdict(found.ok());
  return {found.rung.name.empty() ? "?" : found.rung.name, found.rung.must_equal, std::to_string(found.cases),
          std::to_string(found.refused), found.worst ? short_number(worst.error) : "-",
          found.worst ? short_number(worst.tolerance) : "-", found.worst_case, verdict_text};
}

void print_remarks(const Examination& found, const std::string& path) {
  if (found.introduction.ending != ladder::Ending::finished) {
    print(paragraph(path + ": " + name_of(found.introduction.ending) + ": " + found.introduction.message, 2));
  }
  if (found.refused > 0) {
    print(paragraph(counted(found.refused, "case") + " not supported, the first: " + found.first_refusal, 2));
  }
  if (found.left_out > 0) {
    print(paragraph(counted(found.left_out, "case") + " left out, because the ones before hung: --time-limit is the time "
                    "that a case has", 2));
  }
  for (const ladder::CaseFailure& f : found.failures) {
    if (f.kind == "undecided") print(paragraph("undecided on " + ladder::shown(f.spec.name) + ": " + f.message, 2));
  }
}

Json to_json(const Examination& found, const std::string& path, const std::vector<Written>& written) {
  Json::List failures, smallest;
  for (const ladder::CaseFailure& f : found.failures) {
    failures.push_back(Json::Object{{"case", f.spec.name}, {"seed", std::to_string(f.spec.seed)}, {"kind", f.kind},
                                    {"message", f.message}});
  }
  for (std::size_t i = 0; i < found.smallest.size(); ++i) {
    const SmallestFailure& f = found.smallest[i];
    Json::List names;
    for (const ladder::Fault fault : f.looks_like) names.push_back(ladder::info(fault).name);
    smallest.push_back(Json::Object{{"kind", f.kind}, {"case", case_text(f.c.spec)}, {"shrunk_from", f.from.name},
                                    {"runs", f.runs}, {"message", f.judgement.message()}, {"compared", f.compared},
                                    {"looks_like", names}, {"file", written[i].case_file}, {"picture", written[i].page},
                                    {"repeat", written[i].command}});
  }
  return Json::Object{{"plugin", path}, {"name", found.rung.name}, {"device", name_of(found.rung.device)},
                      {"loaded", name_of(found.introduction.ending)}, {"ok", found.ok()}, {"cases", found.cases},
                      {"not_supported", found.refused}, {"left_out", found.left_out}, {"failures", failures},
                      {"smallest", smallest}};
}

}  // namespace

int verify_plugins(const PluginOptions& o, const std::vector<ladder::CaseSpec>& specs,
                   const std::optional<ladder::Case>& file) {
  require(o.seconds > 0, "--time-limit", std::to_string(o.seconds), "must be more than 0 seconds");
  const bool folder_fits = !std::filesystem::exists(o.folder) || std::filesystem::is_directory(o.folder);
  require(folder_fits && !o.folder.empty(), "--failures", ladder::shown(o.folder), "is no folder");
  std::vector<Examination> all;
  {
    Progress progress;
    for (const std::string& path : o.paths) {
      all.push_back(examine(path, specs, file, {.child = {.seconds = o.seconds}},
                            [&](const std::string& what) { progress.say(what); }));
    }
  }
  std::vector<Row> rows;
  for (const Examination& found : all) rows.push_back(table_row(found));
  if (!o.json) {
    print(text_table({"plug-in", "must equal", "cases", "refused", "worst error", "tolerance", "where", ""}, rows));
  }
  bool ok = true, ran = false, died = false;
  Json::List list;
  for (std::size_t p = 0; p < all.size(); ++p) {
    const Examination& found = all[p];
    std::vector<Written> written;
    for (std::size_t i = 0; i < found.smallest.size(); ++i) {
      std::size_t index = i;  // two plug-ins may have one name
      for (std::size_t q = 0; q < p; ++q) index += all[q].rung.name == found.rung.name ? all[q].smallest.size() : 0;
      written.push_back(write(found.smallest[i], found, o.paths[p], index, o));
    }
    if (o.json) {
      list.push_back(to_json(found, o.paths[p], written));
    } else {
      print_remarks(found, o.paths[p]);
      for (std::size_t i = 0; i < written.size(); ++i) print_failure(found.smallest[i], written[i], found);
    }
    ok = ok && found.failures.empty() && found.left_out == 0;
    ran = ran || found.cases > 0;
    died = died || found.introduction.ending != ladder::Ending::finished;
  }
  if (o.json) print_json(Json::Object{{"ok", ok && ran && !died}, {"plugins", list}});
  return !ok || died ? mismatch : ran ? good : nothing_ran;
}

}  // namespace flashladder::cli
