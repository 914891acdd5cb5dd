#include "ladder/cases/strict_json.hpp"

#include <set>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "ladder/cases/text.hpp"

namespace flashladder::ladder {
namespace {

// The parser's own sentence, without its exception number and without a screen of quoted input.
std::string sentence(const nlohmann::json::exception& e) {
  std::string text = e.what();
  if (const auto bracket = text.find("] "); bracket != std::string::npos) text.erase(0, bracket + 2);
  if (text.size() > 160) text = text.substr(0, 160) + "...";
  for (char& c : text) c = static_cast<unsigned char>(c) < 32 ? '?' : c;
  return text;
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& what, int max_depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects around the parser's place
  const auto watch = [&](int depth, Event event, nlohmann::json& parsed) {
    if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth) {
      throw InputError(what, "", "is nested deeper than " + std::to_string(max_depth) + " levels");
    }
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) throw InputError(what + ": " + shown(key), "", "is given twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::exception& e) {
    throw InputError(what, "", "is not valid JSON: " + sentence(e));
  }
}

std::string json_text(const nlohmann::ordered_json& json, const std::string& what, int indent) {
  try {
    return json.dump(indent);
  } catch (const nlohmann::json::exception& e) {
    throw InputError(what, "", "can't be written as JSON: " + sentence(e));
  }
}

}  // namespace flashladder::ladder
