// JSON from strangers: what the parser would let pass, or only notice late, is refused here (keys given twice, nesting
// bombs, anything after the end), and every complaint is an InputError.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace flashladder::ladder {

// `what` names the text in errors. An array or object inside max_depth others is refused.
nlohmann::json parse_json(std::string_view text, const std::string& what, int max_depth);

// Throws InputError if a string in it is not UTF-8. indent -1: one line.
std::string json_text(const nlohmann::ordered_json& json, const std::string& what, int indent = -1);

}  // namespace flashladder::ladder
