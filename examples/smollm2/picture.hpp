// Where the time goes, as one SVG: prefill and decode in shares, and every decode step.
#pragma once

#include <string>
#include <vector>

#include "serving.hpp"

// title: which model, where it ran. The picture has no other numbers than those of the steps.
std::string picture(const std::vector<StepRecord>& steps, const std::string& title);
