// A JSON value, and JSON from strangers. What a parser would let pass, or only notice late, is refused here: keys given
// twice, nesting bombs, bytes behind the end, numbers too small for a double. json.cpp alone includes the JSON library,
// which takes seconds to compile.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace flashladder::ladder {

class Json {
 public:
  using List = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in the order in which they were added; no key twice

  Json(std::nullptr_t = nullptr) {}
  Json(std::same_as<bool> auto value) : value_(value) {}
  Json(std::integral auto value) requires(!std::same_as<decltype(value), bool>) {
    if (std::in_range<std::int64_t>(value)) value_ = static_cast<std::int64_t>(value);
    else value_ = static_cast<std::uint64_t>(value);
  }
  Json(double value) : value_(value) {}
  Json(const char* text) : value_(std::string(text)) {}
  Json(std::string text) : value_(std::move(text)) {}
  Json(List list) : value_(std::move(list)) {}
  Json(Object object) : value_(std::move(object)) {}
  Json(const std::map<std::string, std::string>& texts) : value_(Object(texts.begin(), texts.end())) {}
  template <class T>
  Json(const std::vector<T>& values) : value_(List(values.begin(), values.end())) {}
  template <class T, std::size_t n>
  Json(const std::array<T, n>& values) : value_(List(values.begin(), values.end())) {}

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool is_number() const { return value_.index() >= 2 && value_.index() <= 4; }
  const bool* boolean() const { return std::get_if<bool>(&value_); }  // null: it is none; so for the next three
  const std::string* text() const { return std::get_if<std::string>(&value_); }
  const List* list() const { return std::get_if<List>(&value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  std::optional<double> number() const;  // any number

  // The whole number, if it is one (16.0 is none) and fits.
  template <std::integral Integer>
  std::optional<Integer> integer() const {
    const auto *n = std::get_if<std::int64_t>(&value_);
    const auto *large = std::get_if<std::uint64_t>(&value_);
    if (n != nullptr && std::in_range<Integer>(*n)) return static_cast<Integer>(*n);
    if (large != nullptr && std::in_range<Integer>(*large)) return static_cast<Integer>(*large);
    return std::nullopt;
  }

  const Json* find(std::string_view key) const;  // null: this is no object, or has no such key
  Json& operator[](std::string_view key);        // of an object, or of null, which becomes one; added if it is not there
  void append(std::string key, Json value);      // to an object, or to null; there is no such key yet
  void push_back(Json value);                    // to a list, or to null, which becomes one

  // A number, true or null as it is written; of the others the kind alone ("string"): for messages.
  std::string shown() const;

  friend bool operator==(const Json&, const Json&) = default;

 private:
  std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string, List, Object> value_ = nullptr;
};

// `what` names the text in errors. An array or object inside max_depth others is refused.
Json parse_json(std::string_view text, const std::string& what, int max_depth);

// In one line. Throws InputError if a string in it is not UTF-8.
std::string json_text(const Json& json, const std::string& what);

// The same for a report, which is never refused: a byte that is not UTF-8 becomes U+FFFD.
std::string report_json(const Json& json);

}  // namespace flashladder::ladder
