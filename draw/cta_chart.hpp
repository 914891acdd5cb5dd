// CTAs of one kernel, predicted and measured: a bar from the start to the end of each, and a mark where the planner's cost
// model has it end. Level bars are a balanced grid; marks away from the bars' ends are what the model doesn't know.
#pragma once

#include <span>
#include <string>

#include "draw/figure.hpp"

namespace flashladder::draw {

struct CtaTime {
  double begin = 0, end = 0;  // us, from the start of the first CTA
  double predicted = 0;       // us after its begin
};

// One column a CTA, in order. What is not finite is not drawn. name: what they are called; on a CPU they are "lane"s.
Svg cta_chart(std::span<const CtaTime> ctas, const Caption& caption, const std::string& name = "CTA");

}  // namespace flashladder::draw
