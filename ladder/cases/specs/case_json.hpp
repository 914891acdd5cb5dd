// Case tables: a JSON list of objects, one case each, as `verify --cases` and `bench --cases` read them. Keys, defaults and
// rules: docs/case_format.md.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ladder/cases/case_spec.hpp"

namespace flashladder::ladder {

// Every spec returned has passed validate(). Throws InputError that says which case (its place from 1, and its name) and
// which key: unknown, given twice, missing, of the wrong type, out of range, contradictory; `what` names the text.
std::vector<CaseSpec> parse_case_table(std::string_view json, const std::string& what);
std::vector<CaseSpec> read_case_table(const std::string& path);  // at most 64 MiB

// The table that parse_case_table() reads back as the same specs. Throws InputError for a spec that came from a case file
// with a mask of its own (it can't be drawn), or whose name is not UTF-8.
std::string case_table_json(std::span<const CaseSpec> specs);

}  // namespace flashladder::ladder
