// From functions to rungs: what every rung of a kind has in common.
#pragma once

#include <string>

#include "ladder/rung.hpp"
#include "core/mla_problem.hpp"
#include "reference/plan_executor.hpp"

namespace flashladder::ladder {

// longest_chain: how many keys it adds in float one after the other (Rounding::chain).
// A CPU rung without workspace or plan: attend(problem, output).
Rung direct(std::string name, std::string idea, std::string chapter, std::string must_equal, reference::Attend& attend,
            std::int32_t longest_chain = whole_row);

// A CPU rung that executes a Plan: calls the planner and has the plan executed with the rung's function for an item. As many
// threads as the settings say; where they say none, as many as the plan is worth.
Rung planned(std::string name, std::string idea, std::string chapter, std::string must_equal, reference::AttendItem& attend,
             std::int32_t longest_chain = whole_row);

// The same for rungs of op mla.
using AttendMla = void(const MlaProblem& problem, const AttentionOutput& output);
Rung direct_mla(std::string name, std::string idea, std::string chapter, std::string must_equal, AttendMla& attend,
                std::int32_t longest_chain = whole_row);
Rung planned_mla(std::string name, std::string idea, std::string chapter, std::string must_equal, std::int32_t longest_chain);

}  // namespace flashladder::ladder
