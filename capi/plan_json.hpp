// A plan as JSON: the numbers that describe it, and who computes what, under the names that `flashladder plan --json` uses.
#pragma once

#include <string>

#include "core/plan.hpp"

namespace flashladder::capi {

std::string plan_json(const Plan& plan, const std::string& explanation);

}  // namespace flashladder::capi
