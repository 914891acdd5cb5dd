// Command lines of our programs: what options a command has, where their values go, what the help says. Values are read by
// the strict readers of ladder/cases/input/text.hpp and refused with the option's own name; help fits 80 columns.
// arguments.cpp alone includes the option parser (CLI11), which takes seconds to compile.
//
//   ladder::Program program("walk", "What it is.", "walk 1.0");
//   program.root().add("--tile", tile, "keys per tile", {.least = 1, .most = 10});
//   ladder::Command& plan = program.command("plan", "Split a batch into work items");
//   plan.add("--sms", sms, "SMs of the grid");
//   plan.runs([&] { return plan_with(sms); });
//   return program.run(argc, argv);
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace CLI {
class App;
class Option;
}

namespace flashladder::ladder {

// Where a value goes; the type says how the text is read. bool: a flag. A vector takes values separated by commas, and the
// option may be given again.
using Target = std::variant<bool*, std::string*, std::int32_t*, std::int64_t*, std::uint64_t*, float*,
                            std::optional<std::int32_t>*, std::vector<std::string>*>;

struct OptionForm {
  std::string value = {};                // what the help calls the value; else by the target: TEXT, N, X, NAME
  std::string group = "Options";         // heading in the help
  std::int64_t least = std::numeric_limits<std::int32_t>::min(), most = std::numeric_limits<std::int64_t>::max();
  bool required = false;
  bool shows_default = true;             // in the help
  std::string bare = {};                 // the value of an option that is given without one; empty: it wants one
};

class Command {
 public:
  Command(CLI::App& parser, std::string path, std::string what)
      : parser_(&parser), path_(std::move(path)), what_(std::move(what)) {}

  // names: "--rung", "--rung,--rungs" or, of a positional argument, "FAMILY". The target keeps its value if the option is
  // not given; it must live as long as the program.
  void add(const std::string& names, Target target, const std::string& help, const OptionForm& form = {});
  void footer(const std::string& text);
  void runs(std::function<int()> action);  // called when the command line has named this command; returns the exit code

  bool given(std::string_view name) const;                      // on the command line
  std::vector<std::string> given_of(std::string_view group) const;  // their names, in the order of the help

 private:
  friend class Program;
  struct Entry {
    CLI::Option* option;
    std::string name, left, help, group;  // left: as it stands in the help's left column
    bool positional, required;
  };
  std::string help() const;

  CLI::App* parser_;
  std::string path_, what_;  // "flashladder case make"
  std::string footer_;
  std::vector<Entry> entries_;
  std::vector<Command*> commands_;
  std::function<int()> action_;
};

class Program {
 public:
  Program(const std::string& name, const std::string& what, const std::string& version);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  Command& root() { return *all_.front(); }
  Command& command(const std::string& name, const std::string& what) { return command(root(), name, what); }
  Command& command(Command& above, const std::string& name, const std::string& what);  // one of them must then be named

  // Reads the command line and calls the action of the command that it names, if any. --help and --version print and do
  // nothing else. Returns the exit code. Throws InputError for a command line that it can't read.
  int run(int argc, char** argv);

  bool asked_for_help() const { return helped_; }  // or for the version: run() has printed it

 private:
  void add_help_and_version(Command& command);
  Command& named(int argc, char** argv);
  void parse(int argc, char** argv, const Command& command);

  std::string version_;
  bool helped_ = false, versioned_ = false;
  std::unique_ptr<CLI::App> parser_;
  std::vector<std::unique_ptr<Command>> all_;
};

}  // namespace flashladder::ladder
