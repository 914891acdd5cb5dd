#include "ladder/arguments.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "ladder/cases/input/text.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::size_t columns = 80, help_column = 24;

// `text` in lines of at most `columns`, at `indent` blanks; its own line breaks are kept.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::string out, line;
  const auto end_line = [&] {
    out += std::string(line.empty() ? 0 : indent, ' ') + line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
    const std::string word(text.substr(0, end));
    if (!line.empty() && indent + line.size() + 1 + word.size() > columns) end_line();
    line += (line.empty() ? "" : " ") + word;
    if (end < text.size() && text[end] == '\n') end_line();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (!line.empty()) end_line();
  return out;
}

std::string help_line(const std::string& left, const std::string& help) {
  std::string text = wrapped(help, help_column);
  if (left.size() + 4 > help_column) return "  " + left + "\n" + text;
  return "  " + left + text.substr(std::min(left.size() + 2, text.size()));
}

std::string range_text(std::int64_t least, std::int64_t most) {
  return most == std::numeric_limits<std::int64_t>::max() ? std::to_string(least) + " or more"
                                                          : std::to_string(least) + " .. " + std::to_string(most);
}

template <class Integer>
Integer integer_from(const std::string& name, const std::string& text, const OptionForm& form) {
  const std::int64_t least = std::max<std::int64_t>(form.least, std::is_unsigned_v<Integer> ? 0 : form.least);
  const bool bounded = sizeof(Integer) < 8 || form.most != std::numeric_limits<std::int64_t>::max();
  const std::int64_t most =
      sizeof(Integer) < 8 ? std::min<std::int64_t>(form.most, std::numeric_limits<std::int32_t>::max()) : form.most;
  const auto n = number_from<Integer>(text);
  if (n && std::cmp_greater_equal(*n, least) && (!bounded || std::cmp_less_equal(*n, most))) return *n;
  const bool is_seed = std::is_unsigned_v<Integer> && !bounded;
  const bool zeros = text.size() > 1 && text[0] == '0' && text.find_first_not_of("0123456789") == text.npos;
  const std::string form_rule = std::string("must be a whole number") + (zeros ? " without leading zeros, " : ", ");
  throw InputError(name, shown(text), form_rule + (is_seed ? "0 .. 2^64 - 1" : range_text(least, most)));
}

float float_from(const std::string& name, const std::string& text) {
  const auto x = number_from<float>(text);
  if (!x) throw InputError(name, shown(text), "must be a number that a 32-bit float holds: 0, or 1.2e-38 .. 3.4e38 in size");
  return *x;
}

// a,b as two values; an empty one is kept.
void split_into(std::vector<std::string>& values, const std::string& text) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

constexpr const char* empty = "must not be empty";  // an unset variable of a shell script, most often

void store(const Target& target, const std::string& name, const std::vector<std::string>& texts, const OptionForm& form) {
  if (const auto* list = std::get_if<std::vector<std::string>*>(&target)) {
    (*list)->clear();
    for (const std::string& text : texts) split_into(**list, text);
    if (std::find((*list)->begin(), (*list)->end(), "") != (*list)->end()) throw InputError(name, "\"\"", empty);
    return;
  }
  if (texts.size() != 1) throw InputError(name, shown(texts.back()), "is given more than once, and takes one value");
  const std::string& text = texts[0];
  if (text.empty()) throw InputError(name, "\"\"", empty);
  if (auto* to = std::get_if<std::string*>(&target)) **to = text;
  if (auto* to = std::get_if<std::int32_t*>(&target)) **to = integer_from<std::int32_t>(name, text, form);
  if (auto* to = std::get_if<std::int64_t*>(&target)) **to = integer_from<std::int64_t>(name, text, form);
  if (auto* to = std::get_if<std::uint64_t*>(&target)) **to = integer_from<std::uint64_t>(name, text, form);
  if (auto* to = std::get_if<std::optional<std::int32_t>*>(&target)) **to = integer_from<std::int32_t>(name, text, form);
  if (auto* to = std::get_if<float*>(&target)) **to = float_from(name, text);
}

std::string default_text(const Target& target) {
  if (const auto* to = std::get_if<std::string*>(&target)) return **to;
  if (const auto* to = std::get_if<std::int32_t*>(&target)) return std::to_string(**to);
  if (const auto* to = std::get_if<std::int64_t*>(&target)) return std::to_string(**to);
  if (const auto* to = std::get_if<std::uint64_t*>(&target)) return std::to_string(**to);
  if (const auto* to = std::get_if<float*>(&target)) return shortest(**to);
  std::string text;
  if (const auto* to = std::get_if<std::vector<std::string>*>(&target)) {
    for (const std::string& value : **to) text += (text.empty() ? "" : ",") + value;
  }
  return text;
}

std::string value_name(const Target& target, const OptionForm& form) {
  if (!form.value.empty()) return form.value;
  if (std::holds_alternative<std::vector<std::string>*>(target)) return "NAME";
  if (std::holds_alternative<float*>(target)) return "X";
  return std::holds_alternative<std::string*>(target) ? "TEXT" : "N";
}

// "--rungs,--rung" are one option; messages and given() call it by the first name.
std::string first_name(const std::string& names) { return names.substr(0, names.find(',')); }

}  // namespace

void Command::add(const std::string& names, Target target, const std::string& help, const OptionForm& form) {
  const std::string name = first_name(names);
  const bool positional = !name.starts_with('-');
  if (auto* flag = std::get_if<bool*>(&target)) {
    CLI::Option* option = parser_->add_flag_callback(names, [to = *flag] { *to = true; });
    entries_.push_back({option, name, names, help, form.group, false, false});
    return;
  }
  const bool many = std::holds_alternative<std::vector<std::string>*>(target);
  CLI::Option* option = parser_->add_option(names, [=](const std::vector<std::string>& texts) {
    store(target, name, texts, form);
    return true;
  });
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(positional && many);
  if (many) option->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args(positional);
  if (!form.bare.empty()) option->expected(0, 1)->default_str(form.bare);
  std::string left = positional ? "" : names + " ";
  const std::string value = form.bare.empty() ? value_name(target, form) : "[" + value_name(target, form) + "]";
  const std::string otherwise = form.shows_default ? default_text(target) : "";
  left += (positional && form.value.empty() ? name : value) + (otherwise.empty() ? "" : "=" + otherwise);
  entries_.push_back({option, name, left, help, form.group, positional, form.required});
}

void Command::footer(const std::string& text) { footer_ = text; }

void Command::runs(std::function<int()> action) { action_ = std::move(action); }

bool Command::given(std::string_view name) const {
  const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.name == name; });
  return entry != entries_.end() && entry->option->count() > 0;
}

std::vector<std::string> Command::given_of(std::string_view group) const {
  std::vector<std::string> names;
  for (const Entry& e : entries_) {
    if (e.group == group && e.option->count() > 0) names.push_back(e.name);
  }
  return names;
}

std::string Command::help() const {
  std::string usage = "Usage: " + path_ + " [OPTIONS]", text;
  for (const Entry& e : entries_) {
    if (e.positional) usage += e.required ? " " + e.name : " [" + e.name + "]";
  }
  text = wrapped(what_, 0) + wrapped(usage + (commands_.empty() ? "" : " COMMAND"), 0);
  std::vector<std::string> groups;
  for (const Entry& e : entries_) {
    const std::string& group = e.positional ? "Positionals" : e.group;
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  for (const std::string& group : groups) {
    text += "\n" + group + ":\n";
    for (const Entry& e : entries_) {
      if ((e.positional ? "Positionals" : e.group) == group) text += help_line(e.left, e.help);
    }
  }
  if (!commands_.empty()) text += "\nSubcommands:\n";
  for (const Command* c : commands_) text += help_line(c->path_.substr(path_.size() + 1), c->what_);
  return text + (footer_.empty() ? "" : "\n" + footer_ + "\n");
}

Program::Program(const std::string& name, const std::string& what, const std::string& version)
    : version_(version), parser_(std::make_unique<CLI::App>(what, name)) {
  all_.push_back(std::make_unique<Command>(*parser_, name, what));
  parser_->set_help_flag();
  add_help_and_version(root());
}

Program::~Program() = default;

void Program::add_help_and_version(Command& command) {
  command.add("--help,-h", &helped_, "Print this and do nothing else");
  command.add("--version", &versioned_, "Print the version and do nothing else");
}

Command& Program::command(Command& above, const std::string& name, const std::string& what) {
  CLI::App* parser = above.parser_->add_subcommand(name, what);
  parser->set_help_flag();
  above.parser_->require_subcommand(0, 1);  // so that "bench plan" is bench with an argument, and not two commands
  all_.push_back(std::make_unique<Command>(*parser, above.path_ + " " + name, what));
  above.commands_.push_back(all_.back().get());
  add_help_and_version(*all_.back());
  return *all_.back();
}

// The command that the first words name. Where one must be named, another word is refused: the parser would say less.
Command& Program::named(int argc, char** argv) {
  Command* command = &root();
  for (int i = 1; !command->commands_.empty(); ++i) {
    const std::string word = i < argc ? argv[i] : "";
    const std::string lists = "; " + command->path_ + " --help lists them";
    if (word == "--help" || word == "-h" || word == "--version") break;
    if (i == argc) throw InputError("command", "", "is missing" + lists);
    const auto named = std::find_if(command->commands_.begin(), command->commands_.end(),
                                    [&](const Command* c) { return c->path_ == command->path_ + " " + word; });
    if (named == command->commands_.end()) {
      throw InputError(word.starts_with('-') ? "option" : "command", shown(word), "is unknown" + lists);
    }
    command = *named;
  }
  return *command;
}

void Program::parse(int argc, char** argv, const Command& command) {
  try {
    parser_->parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extras = parser_->remaining(true);
    throw InputError(!extras.empty() && extras[0].starts_with('-') ? "option" : "argument",
                     extras.empty() ? "" : shown(extras[0]), "is unknown; " + command.path_ + " --help lists what there is");
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    throw InputError(text.substr(0, text.find(':')), "", "wants a value; " + command.path_ + " --help says which");
  } catch (const CLI::ParseError& error) {
    throw InputError("command line", "", error.what());
  }
}

int Program::run(int argc, char** argv) {
  const Command& command = named(argc, argv);
  parse(argc, argv, command);
  if (helped_ || versioned_) {
    std::fputs((helped_ ? command.help() : version_ + "\n").c_str(), stdout);
    helped_ = true;
    return 0;
  }
  for (const Command::Entry& e : command.entries_) {
    if (e.required && e.option->count() == 0) throw InputError(e.name, "", "is missing: " + e.help);
  }
  return command.action_ ? command.action_() : 0;
}

}  // namespace flashladder::ladder
