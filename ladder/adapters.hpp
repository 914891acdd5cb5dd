// From functions to rungs: what every rung of a kind has in common.
#pragma once

#include <string>

#include "ladder/rung.hpp"

namespace flashladder::ladder {

// A CPU rung without workspace or plan: attend(problem, output).
Rung direct(std::string name, std::string idea, std::string chapter, std::string must_equal,
            void (*attend)(const AttentionProblem&, const AttentionOutput&));

// The CPU rung that executes a Plan: calls the planner, hands over a const Plan&.
Rung planned(std::string name, std::string idea, std::string chapter, std::string must_equal);

}  // namespace flashladder::ladder
