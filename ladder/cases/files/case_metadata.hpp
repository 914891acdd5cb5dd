// The metadata of a case file: the params as strings, under the keys of docs/case_format.md.
#pragma once

#include <map>
#include <string>

#include "core/attention_params.hpp"
#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

using Metadata = std::map<std::string, std::string>;

// Fills c.spec's params (heads and head dims must be there already: sm_scale's default needs them), its kv_layout, its
// name (the note x-name) and c.notes. Throws InputError for a value out of its form and for a key that is neither known
// nor begins with x-.
void read_metadata(const Metadata& metadata, Case& c);

// What read_metadata() reads back, every key written out, and the notes.
Metadata metadata_of(const Case& c);

}  // namespace flashladder::ladder
