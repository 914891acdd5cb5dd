// The life of a SoftmaxState: what the running maximum m, the sum d and the rescale weight do, step by step.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "draw/figure.hpp"

namespace flashladder::draw {

struct SoftmaxStep {
  std::string label;               // "tile 0": what was seen in this step
  std::vector<double> logits = {};  // log2 units, as m; may be empty: then only m is drawn
  double m = 0, d = 0;             // after the step
  double rescale = 0;              // 2^(m before - m after): what the old d and o were multiplied by (0: nothing was there)
};

// Three rows over one axis of steps: the logits with m climbing over them, d, and the weight. Nothing seen (m = -inf)
// leaves a gap.
Svg softmax_timeline(std::span<const SoftmaxStep> steps, const Caption& caption = {});

}  // namespace flashladder::draw
