// Split and merge, drawn: boxes are partial results with their lse_log2, arrows lead to the merge that joins them and carry
// the weight by which it scales the partial's normalised o.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "draw/figure.hpp"

namespace flashladder::draw {

struct MergeNode {
  std::string label;               // "keys [0, 4)"
  double lse_log2 = 0;             // -inf: this part saw no key
  double weight = 1;               // 0 .. 1: its share in the node it is merged into; of the last node, unused
  std::vector<int> children = {};  // indices of earlier nodes; empty for a partial
};

// Children stand before their parent, every node but the last has exactly one parent (checked: InputError). Any tree: two by
// two, all at once, one after the other.
Svg merge_tree(std::span<const MergeNode> nodes, const Caption& caption = {});

}  // namespace flashladder::draw
