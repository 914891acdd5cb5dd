// Text from elsewhere (files, command lines) on its way to a person: UTF-8 is checked, and nothing reaches a terminal that
// could move its cursor, change its colours or pretend to be another line.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace flashladder {

// Bytes of the UTF-8 character with which text (not empty) begins; 0 if it begins with none: a stray or cut byte, an
// overlong form, a surrogate.
std::size_t utf8_length(std::string_view text);

// The text in one line, fit for any terminal: line breaks, other control characters, marks that turn the direction of
// writing and bytes that are not UTF-8 become \n, \t, \u202e, \x1b. Everything else stays as it is.
std::string printable(std::string_view text);

// How many columns printable text takes: its characters. (East Asian wide characters count as one.)
std::size_t columns_of(std::string_view text);

}  // namespace flashladder
