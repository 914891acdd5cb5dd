#include "ladder/cases/input/json.hpp"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::ladder {
namespace {

using nlohmann::ordered_json;

// The parser's own sentence, without its exception number and without a screen of quoted input.
std::string sentence(std::string text) {
  if (const auto bracket = text.find("] "); bracket != std::string::npos) text.erase(0, bracket + 2);
  constexpr std::size_t most = 160;
  return printable(text.substr(0, most)) + (text.size() > most ? "..." : "");
}

// Builds a Json from the parser's events and refuses what it should not hold.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(const std::string& what, int max_depth) : what_(what), max_depth_(static_cast<std::size_t>(max_depth)) {}

  Json root;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string& text) override {
    const auto exact = number_from<double>(text);
    if (!exact) throw InputError(what_, shown(text), "is a number too large or too small for 64-bit floating point");
    return add(value);
  }
  bool string(std::string& text) override { return add(std::move(text)); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_array(std::size_t) override { return open(Json::List{}); }
  bool start_object(std::size_t) override { return open(Json::Object{}); }
  bool end_array() override { return close(); }
  bool end_object() override { return close(); }
  bool key(std::string& key) override {
    if (!open_.back().keys.insert(key).second) throw InputError(what_ + ": " + shown(key), "", "is given twice");
    key_ = std::move(key);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    throw InputError(what_, "", "is not valid JSON: " + sentence(e.what()));
  }

 private:
  struct Open {  // a list or object whose end is still to come
    Json value;
    std::set<std::string> keys;
    std::string key;  // under which it goes into the one around it
  };

  bool add(Json value) {
    if (open_.empty()) {
      root = std::move(value);
    } else if (open_.back().value.list() != nullptr) {
      open_.back().value.push_back(std::move(value));
    } else {
      open_.back().value.append(std::move(key_), std::move(value));
    }
    return true;
  }

  bool open(Json value) {
    if (open_.size() >= max_depth_) {
      throw InputError(what_, "", "is nested deeper than " + std::to_string(max_depth_) + " levels");
    }
    open_.push_back({std::move(value), {}, std::move(key_)});
    return true;
  }

  bool close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    key_ = std::move(done.key);
    return add(std::move(done.value));
  }

  std::string what_, key_;
  std::size_t max_depth_;
  std::vector<Open> open_;
};

ordered_json library_value(const Json& json) {
  if (const auto* boolean = json.boolean()) return *boolean;
  if (const auto* text = json.text()) return *text;
  if (const auto n = json.integer<std::int64_t>()) return *n;
  if (const auto n = json.integer<std::uint64_t>()) return *n;
  if (const auto x = json.number()) return *x;
  if (const auto* list = json.list()) {
    ordered_json values = ordered_json::array();
    for (const Json& value : *list) values.push_back(library_value(value));
    return values;
  }
  if (const auto* object = json.object()) {
    ordered_json values = ordered_json::object();
    auto& members = values.get_ref<ordered_json::object_t&>();  // appended: emplace() would look for the key each time
    for (const auto& [key, value] : *object) members.emplace_back(key, library_value(value));
    return values;
  }
  return nullptr;
}

}  // namespace

std::optional<double> Json::number() const {
  if (const auto* n = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*n);
  if (const auto* n = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*n);
  if (const auto* x = std::get_if<double>(&value_)) return *x;
  return std::nullopt;
}

const Json* Json::find(std::string_view key) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  const auto found = std::find_if(members->begin(), members->end(), [&](const auto& member) { return member.first == key; });
  return found == members->end() ? nullptr : &found->second;
}

Json& Json::operator[](std::string_view key) {
  if (const Json* found = find(key)) return const_cast<Json&>(*found);
  append(std::string(key), nullptr);
  return std::get<Object>(value_).back().second;
}

void Json::append(std::string key, Json value) {
  if (is_null()) value_ = Object{};
  std::get<Object>(value_).emplace_back(std::move(key), std::move(value));
}

void Json::push_back(Json value) {
  if (is_null()) value_ = List{};
  std::get<List>(value_).push_back(std::move(value));
}

std::string Json::shown() const {
  return text() ? "string" : list() ? "array" : object() ? "object" : library_value(*this).dump();
}

Json parse_json(std::string_view text, const std::string& what, int max_depth) {
  // The parser takes a NUL for the end of its input; no JSON text has one.
  if (const std::size_t at = text.find('\0'); at != text.npos) {
    throw InputError(what, "", "is not valid JSON: byte " + std::to_string(at) + " is NUL");
  }
  Builder builder(what, max_depth);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.root);
}

std::string json_text(const Json& json, const std::string& what) {
  try {
    return library_value(json).dump();
  } catch (const nlohmann::json::exception& e) {
    throw InputError(what, "", "can't be written as JSON: " + sentence(e.what()));
  }
}

std::string report_json(const Json& json) {
  return library_value(json).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace flashladder::ladder
