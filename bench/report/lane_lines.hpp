// CTAs or lanes of an executed plan as a measurement line (docs/case_format.md, family lanes): [num_ctas] predicted costs,
// and when each began and ended.
#pragma once

#include "bench/cta_profile.hpp"
#include "ladder/cases/input/json.hpp"

namespace flashladder::bench {

inline constexpr const char* lanes_family = "lanes";

ladder::Json to_json(const CtaProfile& profile);

// Throws InputError that names the key of what is missing, not finite, of another length, or ends before it begins.
CtaProfile profile_of(const ladder::Json& line);

}  // namespace flashladder::bench
